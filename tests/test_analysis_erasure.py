"""Erasure: orders, masks and the metrics that remove tokens, against cases worked out by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled

from attnlab.analysis import faithfulness
from attnlab.analysis.attribution import Attribution, greedy_leave_one_out, leave_one_out, random_attribution
from attnlab.analysis.checks import check_attributions
from attnlab.analysis.faithfulness import curves as curves_library
from attnlab.analysis.faithfulness import erasure as erasure_library
from attnlab.analysis.faithfulness import removal as removal_library
from attnlab.analysis.faithfulness import soft as soft_library

pytestmark = pytest.mark.usefixtures("strict")
curves, erasure, removal, soft = map(Compiled, (curves_library, erasure_library, removal_library, soft_library))
WORTH = np.array([0.1, 0.4, 0.2, 0.05], np.float32)
"""What each token adds to the prediction of the additive model; 0.2 remain without any token."""


def additive(removed):
    return 0.2 + jnp.sum(jnp.where(removed, 0.0, WORTH[None]), axis=1)


def padded(removed):
    """The additive model on its first three tokens; it fails the test if padding is removed."""
    return jnp.where(jnp.any(removed[:, 3]), jnp.nan, additive(removed))


def close(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-6)


class TestOrder:
    def test_ties_are_broken_by_position_and_padding_comes_last(self):
        attributions = np.array([0.0, 5.0, 1.0, 5.0, -0.0, 9.0])
        where = np.array([True, True, True, True, True, False])
        assert removal.token_order(attributions, where).tolist() == [1, 3, 2, 0, 4, 5]
        assert removal.token_ranks(attributions, where).tolist() == [3, 0, 2, 1, 4, 5]

    def test_nan_comes_after_numbers_and_before_padding(self):
        attributions = np.array([jnp.nan, -jnp.inf, 1.0, jnp.nan])
        assert removal.token_order(attributions, np.array([True, True, True, False])).tolist() == [2, 1, 0, 3]
        assert removal.token_order(attributions, np.array([False, True, True, True])).tolist() == [2, 1, 3, 0]

    def test_all_equal_keeps_the_order_of_the_text(self):
        assert removal.token_order(np.zeros(3)).tolist() == [0, 1, 2]

    def test_no_token(self):
        assert removal.token_order(np.zeros(0)).tolist() == []
        assert removal.top_tokens(np.zeros(0), np.array([1])).shape == (1, 0)


class TestCount:
    @pytest.mark.parametrize(
        ("ratio", "tokens", "count"),
        [
            (0.01, 1, 1), (0.01, 100, 1), (0.01, 101, 2), (0.1, 30, 3), (0.1, 31, 4), (0.05, 60, 3), (0.07, 100, 7),
            (0.5, 3, 2), (1.0, 7, 7), (0.0, 7, 0), (0.5, 0, 0), (np.float32(0.1), 30, 3), (np.float32(0.1), 100_000,
            10_000), (np.arange(0.1, 0.6, 0.1)[2], 10, 3), (np.linspace(0, 1, 11)[3], 1000, 300), (0.1 + 0.2, 10, 3),
            (np.float32(0.7), 1000, 700), (1.0 + 1e-7, 5, 5), (1 / 3, 3000, 1000), (0.1001, 1000, 101),
        ],
    )  # fmt: skip
    def test_is_rounded_up_without_rounding_errors(self, ratio, tokens, count):
        # math.ceil(0.07 * 100) is 8, because the product is 7.000000000000001.
        assert removal_library.token_count(ratio, tokens) == count

    def test_refuses_percentages(self):
        with pytest.raises(ValueError, match=r"between 0 and 1, not 10.*0\.1"):
            removal_library.token_count(10.0, 20)

    def test_computed_ratios_give_the_counts_of_written_ones(self):
        written = removal.token_counts(np.zeros(40), ratios=(0.1, 0.2, 0.3, 0.4, 0.5))
        assert written.tolist() == [4, 8, 12, 16, 20]
        for ratios in (np.arange(0.1, 0.6, 0.1), np.arange(0.1, 0.6, 0.1, np.float32), np.linspace(0.1, 0.5, 5)):
            assert removal_library.token_counts(jnp.zeros(40), ratios=ratios[:5]).tolist()
            assert removal.token_counts(np.zeros(40), ratios=tuple(ratios[:5])).tolist() == written.tolist()

    def test_no_ratio_is_refused(self):
        with pytest.raises(ValueError, match="ratios must not be empty; write None for every number"):
            erasure.aopc_compr(additive, WORTH, ratios=())

    def test_counts_depend_on_the_length_not_on_the_padding(self):
        where = np.arange(40) < 19
        # ⌈0.19⌉, ⌈0.95⌉, ⌈1.9⌉, ⌈3.8⌉, ⌈9.5⌉
        assert removal.token_counts(np.zeros(40), where).tolist() == [1, 1, 2, 4, 10]
        assert removal.token_counts(np.zeros(4), np.array([True, True, False, False]), None).tolist() == [1, 2, 2, 2]
        assert removal.token_counts(np.zeros(0)).tolist() == [0] * 5


class TestMasks:
    def test_removed_and_kept_are_complements_among_the_tokens(self):
        attributions = np.array([0.1, 0.7, 0.2, 0.9])
        where = np.array([True, True, True, False])
        removed = removal.rationale_removed(attributions, where)
        kept = removal.rationale_kept(attributions, where)
        # Three tokens: 1, 1, 1, 1 and 2 of them at 1, 5, 10, 20 and 50%.
        assert removed.tolist() == [[False, True, False, False]] * 4 + [[False, True, True, False]]
        assert kept.tolist() == [[True, False, True, False]] * 4 + [[True, False, False, False]]

    def test_batched_equals_loop(self):
        attributions = np.random.default_rng(0).normal(size=(5, 7)).astype(np.float32)
        where = np.arange(7)[None, :] < np.array([0, 1, 3, 6, 7])[:, None]
        batched = jax.jit(jax.vmap(removal.rationale_removed))(attributions, where)
        for row in range(5):
            np.testing.assert_array_equal(batched[row], removal.rationale_removed(attributions[row], where[row]))
        assert not np.any(batched & ~where[:, None, :])


class TestErasure:
    def test_comprehensiveness_by_hand(self):
        # Order 1, 2, 0, 3 with worth 0.4, 0.2, 0.1, 0.05; of four tokens 1, 1, 1, 1 and 2 are removed.
        close(erasure.comprehensiveness(additive, WORTH), [0.4, 0.4, 0.4, 0.4, 0.6])
        close(erasure.aopc_compr(additive, WORTH), 0.44)

    def test_sufficiency_by_hand(self):
        # All tokens but one of worth 0.4 are gone: 0.35; all but two: 0.15.
        close(erasure.sufficiency(additive, WORTH), [0.35, 0.35, 0.35, 0.35, 0.15])
        close(erasure.aopc_suff(additive, WORTH), 0.31)

    def test_every_number_of_tokens_as_ferret(self):
        # Falls by 0.4, 0.6, 0.7, 0.75: mean 0.6125. Kept alone: 0.35, 0.15, 0.05, 0: mean 0.1375.
        close(erasure.aopc_compr(additive, WORTH, ratios=None), 0.6125)
        close(erasure.aopc_suff(additive, WORTH, ratios=None), 0.1375)

    def test_padding_is_never_removed_and_does_not_count(self):
        where = np.array([True, True, True, False])
        attributions = np.array([0.1, 0.4, 0.2, 9.0])
        close(erasure.comprehensiveness(padded, attributions, where), [0.4, 0.4, 0.4, 0.4, 0.6])
        close(erasure.sufficiency(padded, attributions, where), [0.3, 0.3, 0.3, 0.3, 0.1])
        close(erasure.aopc_compr(padded, attributions, where, ratios=None), (0.4 + 0.6 + 0.7) / 3)

    def test_no_and_one_token(self):
        none, one = np.zeros(4, bool), np.array([False, True, False, False])
        close(erasure.comprehensiveness(additive, WORTH, none), np.zeros(5))
        close(erasure.sufficiency(additive, WORTH, none), np.zeros(5))
        for ratios in (None, removal_library.RATIOS):
            assert math.isnan(erasure.aopc_compr(additive, WORTH, none, ratios=ratios))
            assert math.isnan(erasure.aopc_suff(additive, WORTH, none, ratios=ratios))
        close(erasure.comprehensiveness(additive, WORTH, one), np.full(5, 0.4))
        close(erasure.sufficiency(additive, WORTH, one), np.zeros(5))

    def test_normalized_by_hand(self):
        # Everything together is worth 0.75: 0.4/0.75 and 0.6/0.75; kept 1 − 0.35/0.75 and 1 − 0.15/0.75.
        close(erasure.normalized_comprehensiveness(additive, WORTH, ratios=(0.1, 0.5)), [0.533333, 0.8])
        close(erasure.normalized_sufficiency(additive, WORTH, ratios=(0.1, 0.5)), [0.533333, 0.8])

    def test_normalized_is_clipped(self):
        # Removing the first token raises the prediction; removing the second lowers it below that without any token.
        table = jnp.array([[0.5, 0.1], [0.9, 0.4]])  # [first removed, second removed]

        def predict(removed):
            return table[removed[:, 0].astype(int), removed[:, 1].astype(int)]

        first, second = np.array([1.0, 0.0]), np.array([0.0, 1.0])
        close(erasure.normalized_comprehensiveness(predict, first, ratios=(0.5,)), [0.0])
        close(erasure.normalized_comprehensiveness(predict, second, ratios=(0.5,)), [1.0])  # 0.4 / 0.1
        close(erasure.normalized_sufficiency(predict, first, ratios=(0.5,)), [0.0])  # 1 − 0.4 / 0.1
        close(erasure.normalized_sufficiency(predict, second, ratios=(0.5,)), [1.0])

    def test_normalized_is_nan_if_nothing_falls(self):
        def constant(removed):
            return jnp.full(len(removed), 0.5)

        assert np.isnan(erasure.normalized_comprehensiveness(constant, WORTH)).all()
        assert np.isnan(erasure.normalized_sufficiency(constant, WORTH)).all()

    def test_log_odds_by_hand(self):
        # 0.95 falls to 0.55 and to 0.35.
        close(erasure.log_odds(additive, WORTH, ratios=(0.1, 0.5)), [math.log(0.55 / 0.95), math.log(0.35 / 0.95)])

    def test_a_wrong_shape_is_named(self):
        with pytest.raises(ValueError, match=r"comprehensiveness: .* \(6,\) for masks of shape \(6, 4\), not \(6, 1\)"):
            erasure.comprehensiveness(lambda removed: additive(removed)[:, None], WORTH)

    def test_batched_under_jit(self):
        attributions = np.random.default_rng(1).normal(size=(6, 4)).astype(np.float32)
        where = np.arange(4)[None, :] < np.array([0, 1, 2, 3, 4, 4])[:, None]
        for metric in (erasure.aopc_compr, erasure.aopc_suff, erasure.normalized_sufficiency, erasure.log_odds):
            batched = jax.jit(jax.vmap(lambda a, w, metric=metric: metric(additive, a, w)))(attributions, where)
            close(batched, [metric(additive, a, w) for a, w in zip(attributions, where, strict=True)])

    def test_float64(self, x64):
        worth = np.array([0.1, 0.4, 0.2])

        def predict(removed):
            return jnp.sum(jnp.where(removed, 0.0, worth[None]), axis=1)

        value = erasure.aopc_compr(predict, worth)
        assert value.dtype == jnp.float64
        np.testing.assert_allclose(value, (4 * 0.4 + 0.6) / 5, rtol=1e-14)

    def test_the_model_may_run_in_parts(self):
        def in_parts(removed):
            return jax.lax.map(lambda mask: additive(mask[None])[0], removed, batch_size=2)

        close(erasure.aopc_compr(in_parts, WORTH), 0.44)


class TestDecisionFlip:
    @staticmethod
    def classify(removed):
        return jnp.stack([additive(removed), jnp.full(len(removed), 0.5)], axis=1)

    def test_by_hand(self):
        # 0.95 > 0.5; without 0.4: 0.55 > 0.5; without 0.2 too: 0.35 < 0.5, so 2 of 4 tokens.
        assert float(erasure.decision_flip_fraction(self.classify, WORTH)) == 0.5
        # In the worst order, 0.9, 0.8, 0.6 and 0.2: all 4.
        assert float(erasure.decision_flip_fraction(self.classify, -WORTH)) == 1.0
        # Three tokens of 0.4, 0.2 and 0.1 and one that may not be removed: 2 of 3.
        where = np.array([True, True, True, False])
        close(erasure.decision_flip_fraction(self.classify, WORTH, where), 2 / 3)

    def test_is_nan_if_the_decision_stays(self):
        where = np.array([True, False, True, True])
        assert math.isnan(erasure.decision_flip_fraction(self.classify, WORTH, where))
        assert math.isnan(erasure.decision_flip_fraction(self.classify, WORTH, np.zeros(4, bool)))


class TestCurves:
    def test_by_hand(self):
        close(curves.deletion_curve(additive, WORTH), [0.95, 0.55, 0.35, 0.25, 0.2])
        close(curves.insertion_curve(additive, WORTH), [0.2, 0.6, 0.8, 0.9, 0.95])
        # (0.95/2 + 0.55 + 0.35 + 0.25 + 0.2/2) / 4 and (0.2/2 + 0.6 + 0.8 + 0.9 + 0.95/2) / 4
        close(curves.deletion_auc(additive, WORTH), 0.43125)
        close(curves.insertion_auc(additive, WORTH), 0.71875)

    def test_padding(self):
        where = np.array([True, True, True, False])
        close(curves.deletion_curve(padded, WORTH, where), [0.95, 0.55, 0.35, 0.25, 0.25])
        close(curves.deletion_auc(padded, WORTH, where), (0.475 + 0.55 + 0.35 + 0.125) / 3)
        close(curves.insertion_curve(padded, WORTH, where), [0.25, 0.65, 0.85, 0.95, 0.95])

    def test_no_and_one_token(self):
        close(curves.deletion_auc(additive, WORTH, np.zeros(4, bool)), 0.95)
        close(curves.deletion_auc(additive, WORTH, np.array([False, True, False, False])), 0.75)
        close(curves.auc(np.array([0.5]), jnp.int32(0)), 0.5)


METRICS = (
    erasure.comprehensiveness, erasure.sufficiency, erasure.aopc_compr, erasure.aopc_suff,
    erasure.normalized_comprehensiveness, erasure.normalized_sufficiency, erasure.log_odds, curves.deletion_curve,
    curves.insertion_curve, curves.deletion_auc, curves.insertion_auc,
)  # fmt: skip
by_name = pytest.mark.parametrize("metric", METRICS, ids=lambda metric: metric.__name__)


class TestEveryMetric:
    @by_name
    def test_nan_gives_nan(self, metric):
        for broken in ((0,), (3,), range(4)):
            attributions = np.where(np.isin(np.arange(4), broken), np.float32(np.nan), WORTH)
            assert np.isnan(metric(additive, attributions)).all()
            assert np.isnan(jax.jit(metric, static_argnums=0)(additive, attributions)).all()
        assert np.isnan(metric(lambda removed: additive(removed) + jnp.nan, WORTH)).all()
        if metric in METRICS[2:4]:
            assert math.isnan(metric(additive, attributions, ratios=None))

    @by_name
    def test_nan_at_tokens_that_do_not_count(self, metric):
        removable = np.array([True, True, True, False])
        close(
            metric(padded, np.where(removable, WORTH, np.float32(np.nan)), removable), metric(padded, WORTH, removable)
        )

    @by_name
    def test_a_record_of_one_number_a_token(self, metric):
        close(metric(additive, Attribution("saliency", jnp.asarray(WORTH))), metric(additive, WORTH))
        message = r"attributions must be one number a token, \[n\], not \[4, 2\]; .* aggregate_features"
        with pytest.raises(ValueError, match=message):
            metric(additive, Attribution("input_x_gradient", jnp.ones((4, 2))))

    @by_name
    def test_a_wrong_prediction_or_mask_is_named(self, metric):
        with pytest.raises(ValueError, match=r"predict must return an array of shape .* for masks of shape .* not "):
            metric(lambda removed: additive(removed)[:, None], WORTH)
        with pytest.raises(ValueError, match="predict must return floating-point numbers, not int32"):
            metric(lambda removed: jnp.ones(len(removed), jnp.int32), WORTH)

    def test_a_wrong_mask_is_named(self):
        with pytest.raises(ValueError, match=r"aopc_compr: removable must be booleans \[4\].* not bool\[3\]"):
            check_attributions("aopc_compr", jnp.asarray(WORTH), jnp.ones(3, bool), "removable")
        with pytest.raises(ValueError, match=r"attributions must be floating-point, not int32"):
            check_attributions("aopc_compr", jnp.asarray(WORTH.astype(np.int32)))

    @by_name
    def test_with_64_bit_types(self, metric, x64):
        worth = WORTH

        def predict(removed):
            return jnp.float32(0.2) + jnp.sum(jnp.where(removed, jnp.float32(0.0), worth[None]), axis=1)

        for dtype in ("float32", "float64"):
            close(metric(predict, worth.astype(dtype)), metric(predict, worth))

    @by_name
    def test_low_precision(self, metric):
        result = metric(lambda removed: additive(removed).astype(jnp.bfloat16), WORTH.astype(jnp.bfloat16))
        assert result.dtype == "float32"

    def test_nan_in_decisions_and_soft_erasure(self):
        classify = lambda removed: jnp.stack([additive(removed), jnp.full(len(removed), 0.5)], axis=1)  # noqa: E731
        broken = np.where(np.arange(4) == 2, np.float32(np.nan), WORTH)
        assert math.isnan(erasure.decision_flip_fraction(classify, broken))
        assert math.isnan(erasure.decision_flip_fraction(lambda removed: classify(removed) * jnp.nan, WORTH))
        with pytest.raises(ValueError, match=r"classify must return scores \[5 classes\], not \[5\]"):
            erasure_library.decision_flip_fraction.__wrapped__(additive, jnp.asarray(WORTH))
        embedded, predict = np.ones((4, 2), np.float32), lambda embedded: jnp.sum(embedded, axis=(1, 2))
        for metric in (soft.soft_comprehensiveness, soft.soft_sufficiency):
            assert math.isnan(metric(jax.random.key(0), predict, embedded, broken))
            with pytest.raises(ValueError, match=r"predict must return an array of shape \(12,\)"):
                metric(jax.random.key(0), lambda embedded: embedded[:, 0, :1], embedded, WORTH)
            with pytest.raises(ValueError, match="3 attributions for 4 embedded tokens"):
                metric.__wrapped__.__wrapped__(jax.random.key(0), predict, jnp.ones((4, 2)), jnp.ones(3))
        assert np.isnan(soft.min_max(broken)).all()
        assert soft.min_max(broken, np.array([True, True, False, False])).tolist() == [0, 1, 0, 0]

    def test_log_odds_of_probabilities_of_zero(self):
        falls = lambda removed: jnp.where(removed[:, 1], 0.0, 0.5)  # noqa: E731
        assert float(erasure.log_odds(falls, WORTH, ratios=(0.1,))[0]) == -math.inf
        assert math.isnan(erasure.log_odds(lambda removed: jnp.zeros(len(removed)), WORTH, ratios=(0.1,))[0])

    def test_public_names(self):
        for name in faithfulness.__all__:
            assert getattr(faithfulness, name) is not None
        assert not {"length", "auc", "min_max"} & set(faithfulness.__all__)


class TestOrders:
    def test_floor_and_ceiling(self):
        # A multiplicative model, in which order matters: the ceiling is at least as good as leave-one-out and random.
        factors = np.linspace(0.3, 0.95, 8, dtype=np.float32)

        def predict(removed):
            return jnp.prod(jnp.where(removed, factors[None], 1.0), axis=1)

        @jax.jit
        def scores(rngs):
            ceiling = erasure.aopc_compr(predict, greedy_leave_one_out(predict, 8))
            single = erasure.aopc_compr(predict, leave_one_out(predict, 8))
            return ceiling, single, jax.vmap(lambda rng: erasure.aopc_compr(predict, random_attribution(rng, 8)))(rngs)

        ceiling, single, floor = scores(jax.random.split(jax.random.key(0), 20))
        assert float(ceiling) >= float(single) - 1e-6
        assert float(ceiling) > np.mean(floor) + 0.1


class TestSoft:
    EMBEDDED = np.ones((3, 200), np.float32)

    @staticmethod
    def predict(embedded):
        return jnp.sum(embedded * np.array([0.5, 0.25, 0.25], np.float32)[None, :, None], axis=(1, 2)) / 200.0

    def test_attributions_of_zero_and_one_are_hard_erasure(self):
        attributions = np.array([1.0, 0.0, 0.0])
        rng = jax.random.key(0)
        # Removing token 0 costs 0.5 of 1, keeping it alone costs 0.5 of 1.
        close(soft.soft_comprehensiveness(rng, self.predict, self.EMBEDDED, attributions), 0.5)
        close(soft.soft_sufficiency(rng, self.predict, self.EMBEDDED, attributions), 0.5)

    def test_expectation(self):
        # Features are masked one by one: 0.5·0.8 + 0.25·0.4 + 0 = 0.5 of the prediction is lost, in the mean.
        attributions = np.array([0.8, 0.4, 0.0])
        rng = jax.random.key(1)
        lost = soft.soft_comprehensiveness(rng, self.predict, self.EMBEDDED, attributions, n_samples=200)
        np.testing.assert_allclose(lost, 0.5, atol=0.01)
        kept = soft.soft_sufficiency(rng, self.predict, self.EMBEDDED, attributions, n_samples=200)
        np.testing.assert_allclose(kept, 0.5, atol=0.01)

    def test_padding_is_not_masked(self):
        where = np.array([True, True, False])
        predict = lambda embedded: jnp.where(jnp.all(embedded[:, 2] == 1.0, axis=1), self.predict(embedded), jnp.nan)  # noqa: E731
        value = soft.soft_comprehensiveness(jax.random.key(2), predict, self.EMBEDDED, np.ones(3, np.float32), where)
        close(value, 1.0)  # 0.75 of 0.75

    def test_nan_if_nothing_falls(self):
        constant = lambda embedded: jnp.full(len(embedded), 0.5)  # noqa: E731
        assert math.isnan(
            soft.soft_comprehensiveness(jax.random.key(0), constant, self.EMBEDDED, np.ones(3, np.float32))
        )
        with pytest.raises(ValueError, match="n_samples must be at least 1"):
            soft.soft_sufficiency(jax.random.key(0), constant, self.EMBEDDED, np.ones(3, np.float32), n_samples=0)

    def test_min_max(self):
        assert soft.min_max(np.array([2.0, 2.0])).tolist() == [0.0, 0.0]
        assert soft.min_max(np.array([5.0, 1.0]), np.array([False, True])).tolist() == [0.0, 0.0]
        assert soft.min_max(np.zeros(0)).tolist() == []

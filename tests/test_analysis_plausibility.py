"""Plausibility: attributions against gold tokens and spans, by hand and against scikit-learn, ERASER and Quantus."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled

from attnlab.analysis import plausibility as library
from attnlab.analysis.rationale_spans import iou_f1, spans
from attnlab.analysis.record import Attribution
from attnlab.tasks.captioning.pointing import pointing
from attnlab.tasks.classification.metrics import rationale_scores

pytestmark = pytest.mark.usefixtures("strict")
plausibility = Compiled(library)
ATTRIBUTIONS = np.array([0.5, 0.1, 0.4, 0.0, 0.9], np.float32)
GOLD = np.array([True, True, False, False, False])
"""In the order of the attributions (4, 0, 2, 1, 3) the gold tokens are second and fourth."""
SOFT = (
    plausibility.auprc_plau, plausibility.average_precision, plausibility.pointing_game, plausibility.attention_mass,
    plausibility.relevance_mass_accuracy, plausibility.relevance_rank_accuracy,
)  # fmt: skip


def f1_of_two(attributions, gold, valid=None):
    return plausibility.token_f1_plau(attributions, gold, 2, valid)


def iou_of_two(attributions, gold, valid=None):
    return plausibility.token_iou_plau(attributions, gold, 2, valid)


HARD = (f1_of_two, iou_of_two)
EVERY = (*SOFT, *HARD)


def array(*values):
    return np.array(values, np.float32)


def close(actual, expected, **tolerance):
    np.testing.assert_allclose(actual, expected, **({"rtol": 1e-5, "atol": 1e-6} | tolerance))


class TestByHand:
    def test_auprc_and_average_precision(self):
        # (recall, precision) after each token: (0, 1), (0, 0), (1/2, 1/2), (1/2, 1/3), (1, 1/2), (1, 2/5).
        close(plausibility.auprc_plau(ATTRIBUTIONS, GOLD), 0.5 * 0.25 + 0.5 * (1 / 3 + 1 / 2) / 2)
        close(plausibility.average_precision(ATTRIBUTIONS, GOLD), 0.5 * 0.5 + 0.5 * 0.5)

    def test_ties_enter_together(self):
        # All equal: one point, recall 1 and precision 2/5.
        close(plausibility.auprc_plau(np.ones(5), GOLD), (1 + 0.4) / 2)
        close(plausibility.average_precision(np.ones(5), GOLD), 0.4)
        # Tokens 0 and 2 first, together: (1/2, 1/2), then token 1: (1, 2/3).
        tied = array(2, 1, 2, 0, 0)
        close(plausibility.auprc_plau(tied, GOLD), 0.5 * 0.75 + 0.5 * (1 / 2 + 2 / 3) / 2)

    def test_bfloat16_counts_in_float32(self):
        # 600 of 1000 equal attributions: precision 0.6, which bfloat16 would round to 0.6016
        gold = np.arange(1000) < 600
        close(plausibility.average_precision(np.ones(1000, jnp.bfloat16), gold), 0.6)
        close(plausibility.relevance_mass_accuracy(np.ones(1000, jnp.bfloat16), gold), 0.6)

    def test_hard_rationales(self):
        # The top three are 4, 0 and 2; one of them is gold.
        close(plausibility.token_f1_plau(ATTRIBUTIONS, GOLD, 3), 2 / 5)
        close(plausibility.token_iou_plau(ATTRIBUTIONS, GOLD, 3), 1 / 4)
        close(plausibility.token_f1_plau(ATTRIBUTIONS, GOLD, 1), 0.0)
        close(plausibility.token_f1_plau(ATTRIBUTIONS, GOLD, 99), 4 / 7)
        close(plausibility.token_iou_plau(ATTRIBUTIONS, GOLD, 99), 2 / 5)
        close(plausibility.token_f1(np.zeros(5, bool), GOLD), 0.0)
        close(plausibility.token_iou(GOLD, GOLD), 1.0)

    def test_pointing_game(self):
        assert float(plausibility.pointing_game(ATTRIBUTIONS, GOLD)) == 0.0
        assert float(plausibility.pointing_game(-ATTRIBUTIONS, ~GOLD)) == 1.0
        assert float(plausibility.pointing_game(np.ones(5), GOLD)) == 1.0  # the first of equal ones
        assert float(plausibility.pointing_game(np.zeros(5), GOLD)) == 0.0

    def test_masses(self):
        signed = array(0.5, -1.0, 0.25, 0.0, 0.25)
        close(plausibility.relevance_mass_accuracy(signed, GOLD), 0.5)
        close(plausibility.attention_mass(signed, GOLD), 1.5 / 2.0)
        close(plausibility.attention_mass(np.ones(5), GOLD), 0.4)
        close(plausibility.relevance_mass_accuracy(-np.ones(5), GOLD), 0.0)
        close(plausibility.attention_mass(np.zeros(5), GOLD), 0.0)

    def test_rank_accuracy(self):
        close(plausibility.relevance_rank_accuracy(ATTRIBUTIONS, GOLD), 0.5)
        close(plausibility.relevance_rank_accuracy(ATTRIBUTIONS, np.ones(5, bool)), 1.0)


class TestEdges:
    @pytest.mark.parametrize("metric", SOFT, ids=lambda metric: metric.__name__)
    def test_nan_without_gold(self, metric):
        assert math.isnan(metric(ATTRIBUTIONS, np.zeros(5, bool)))
        assert math.isnan(metric(np.zeros(0), np.zeros(0, bool)))
        assert math.isnan(metric(ATTRIBUTIONS, GOLD, np.array([False, False, True, True, True])))

    @pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
    @pytest.mark.parametrize("broken", [(0,), (4,), range(5)])
    def test_nan_gives_nan(self, metric, broken):
        values = np.where(np.isin(np.arange(5), broken), np.nan, ATTRIBUTIONS)
        assert math.isnan(metric(values, GOLD))
        assert math.isnan(metric(values, GOLD, np.arange(5) != 2))
        assert math.isnan(jax.jit(metric)(values.astype(np.float32), GOLD))

    @pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
    def test_nan_at_padding_does_not_count(self, metric):
        close(metric(array(*ATTRIBUTIONS[:4], np.nan), GOLD, np.arange(5) < 4), metric(ATTRIBUTIONS[:4], GOLD[:4]))

    @pytest.mark.parametrize("metric", EVERY, ids=lambda metric: metric.__name__)
    def test_a_record_of_one_number_a_token(self, metric):
        close(metric(Attribution("saliency", jnp.asarray(ATTRIBUTIONS)), GOLD), metric(ATTRIBUTIONS, GOLD))
        features = Attribution("input_x_gradient", jnp.ones((5, 3)))
        with pytest.raises(ValueError, match=r"one number a token, \[n\], not \[5, 3\]; .* aggregate_features"):
            metric(features, GOLD)

    @pytest.mark.parametrize("metric", SOFT, ids=lambda metric: metric.__name__)
    def test_one_token(self, metric):
        assert float(metric(array(0.5), np.array([True]))) == 1.0

    @pytest.mark.parametrize("metric", SOFT, ids=lambda metric: metric.__name__)
    def test_padding_in_a_batch(self, metric):
        rng = np.random.default_rng(0)
        attributions, gold = rng.normal(size=(6, 8)).round(1).astype(np.float32), rng.random((6, 8)) < 0.5
        lengths = [0, 1, 2, 5, 7, 8]
        where = np.arange(8)[None, :] < np.array(lengths)[:, None]
        filled = np.where(where, attributions, np.nan)
        batched = jax.jit(jax.vmap(metric))(filled, gold, where)
        for row, length in enumerate(lengths):
            close(batched[row], metric(attributions[row, :length], gold[row, :length]))

    def test_counts_may_be_traced(self):
        counted = jax.jit(plausibility.token_f1_plau)(ATTRIBUTIONS, GOLD, jnp.int32(3))
        close(counted, plausibility.token_f1_plau(ATTRIBUTIONS, GOLD, 3))

    def test_counts_that_are_no_whole_numbers_are_refused(self):
        for metric in (plausibility.token_f1_plau, plausibility.token_iou_plau):
            close(metric(ATTRIBUTIONS, GOLD, np.int64(3)), metric(ATTRIBUTIONS, GOLD, 3))
            for count in (2.75, np.float32(2.75), jnp.float32(2.75)):
                with pytest.raises(ValueError, match=r"whole number of tokens, not 2\.75.*count=3"):
                    metric.__wrapped__.__wrapped__(*map(jnp.asarray, (ATTRIBUTIONS, GOLD)), count)

    def test_a_wrong_mask_is_refused(self):
        for wrong in ({"gold": GOLD[:4]}, {"gold": GOLD, "valid": GOLD[:4]}):
            with pytest.raises(ValueError, match=rf"{list(wrong)[-1]} must be booleans \[5\]"):
                plausibility.auprc_plau.__wrapped__.__wrapped__(jnp.asarray(ATTRIBUTIONS), **wrong)

    def test_float64(self, x64, strict):
        gold = jnp.asarray(np.asarray(GOLD))
        for metric in EVERY:
            for dtype in ("float32", "float64"):
                assert metric(jnp.asarray(np.asarray(ATTRIBUTIONS), dtype), gold).dtype == dtype or metric in HARD


class TestSpans:
    def test_spans(self):
        assert spans([]) == spans([False]) == []
        assert spans(np.array([True, True, False, True])) == spans(np.array([1, 1, 0, 1]) > 0) == [(0, 2), (3, 4)]

    def test_by_hand(self):
        # IoU 2/4 counts, 1/3 does not. Text 0: 1 of 2 predicted, 1 of 1 gold; text 1: 0 of 1 and 0 of 2.
        predicted = [[(0, 4), (6, 9)], [(0, 1)]]
        gold = [[(2, 4)], [(0, 3), (5, 6)]]
        # micro: precision 1/3, recall 1/3; macro: precision (1/2 + 0)/2, recall (1 + 0)/2.
        close(iou_f1(predicted, gold), (1 / 3, 2 * 0.25 * 0.5 / 0.75))
        close(iou_f1(predicted, gold, 0.51), (0.0, 0.0))

    def test_nothing_predicted(self):
        assert iou_f1([[]], [[(0, 1)]]) == (0.0, 0.0)
        assert iou_f1([], []) == (0.0, 0.0)

    def test_different_numbers_of_texts_are_refused(self):
        with pytest.raises(ValueError, match="2 texts with predicted spans for 1 with gold spans"):
            iou_f1([[], []], [[]])


class TestAgreesWithTheTasks:
    def test_rationale_metrics(self):
        draws = np.random.default_rng(0)
        weights = draws.normal(size=(20, 1, 6)).astype(np.float32)
        gold = draws.random((20, 6)) < 0.4
        gold[:, 0] |= ~gold.any(axis=1)
        expected = rationale_scores(list(weights), list(gold))
        mass = jax.jit(jax.vmap(plausibility.attention_mass))(weights[:, 0], gold)
        hits = jax.jit(jax.vmap(plausibility.pointing_game))(np.abs(weights[:, 0]), gold)
        close(100 * np.mean(mass), expected["rationale_mass"])
        close(100 * np.mean(hits), expected["rationale_hit"])

    def test_pointing_of_captioning(self):
        weights = np.array([[0.125, 0.5, 0.25, 0.125], [0.7, 0.1, 0.1, 0.1], [0.0, 0.0, 0.0, 0.0]], np.float32)
        hits, masses = pointing(weights, [(32, 0, 64, 32)] * 3, (2, 2), (64, 64))
        gold = np.array([False, True, False, False])
        close([plausibility.pointing_game(jnp.asarray(row), gold) for row in weights], hits)
        close([plausibility.attention_mass(jnp.asarray(row), gold) for row in weights], masses)


@pytest.mark.reference
class TestReference:
    @staticmethod
    def drawn(levels):
        draws = np.random.default_rng(levels or 0)
        for length in (1, 2, 10, 60):
            for _ in range(5):
                gold = draws.random(length) < 0.3
                gold[draws.integers(length)] = True
                values = draws.normal(size=length) if levels is None else draws.integers(0, levels, length) / 1.0
                yield values.astype(np.float32), gold

    @pytest.mark.parametrize("levels", [None, 6, 2])
    def test_areas_are_those_of_scikit_learn(self, levels):
        metrics = pytest.importorskip("sklearn.metrics")
        for values, gold in self.drawn(levels):
            precision, recall, _ = metrics.precision_recall_curve(gold, values)
            arrays = jnp.asarray(values), jnp.asarray(gold)
            close(plausibility.auprc_plau(*arrays), metrics.auc(recall, precision))
            close(plausibility.average_precision(*arrays), metrics.average_precision_score(gold, values))

    def test_f1_and_iou_are_those_of_scikit_learn(self):
        metrics = pytest.importorskip("sklearn.metrics")
        for values, gold in self.drawn(None):
            top = np.argsort(-values)[:4]
            predicted = np.isin(np.arange(len(values)), top)
            arrays = jnp.asarray(values), jnp.asarray(gold)
            close(plausibility.token_f1_plau(*arrays, 4), metrics.f1_score(gold, predicted))
            close(plausibility.token_iou_plau(*arrays, 4), metrics.jaccard_score(gold, predicted))

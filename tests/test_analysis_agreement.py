"""Rank correlations and the agreement with leave-one-out, by hand and against SciPy."""

import functools
import math
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import Compiled, compiled
from jax.tree_util import Partial
from test_models import MODELS
from weights import drawn

from attnlab.analysis.faithfulness import agreement, correlation
from attnlab.analysis.interventions import given
from attnlab.layers.capture import apply_with_attention

agreement, correlation = Compiled(agreement), Compiled(correlation)
gradient_magnitudes, significant_share = agreement.gradient_magnitudes, agreement.significant_share
taucorr_gradient, taucorr_loo, taucorr_loo_tvd = (
    agreement.taucorr_gradient, agreement.taucorr_loo, agreement.taucorr_loo_tvd,
)  # fmt: skip
kendall_tau, spearman_rho = correlation.kendall_tau, correlation.spearman_rho


def array(*values):
    return np.array(values, np.float32)


@pytest.mark.usefixtures("strict")
class TestKendall:
    def test_by_hand(self):
        # Of 6 pairs, (2, 3) and (3, 2) is discordant: (5 − 1) / 6. Of the 24 permutations of 4, those with at most one
        # inversion are 1 + 3, so p = 2 · 4 / 24.
        tau = kendall_tau(array(1, 2, 3, 4), array(1, 3, 2, 4))
        np.testing.assert_allclose(tau, (2 / 3, 1 / 3), rtol=1e-6)

    def test_ties_by_hand(self):
        # Pairs: (0,1) tied in the first; (0,2), (1,2) concordant. τ-b = 2 / √((3 − 1)(3 − 0)).
        tau = kendall_tau(array(1, 1, 2), array(1, 2, 3))
        np.testing.assert_allclose(tau.statistic, 2 / math.sqrt(6), rtol=1e-6)

    def test_exact_pvalues_are_those_of_all_permutations(self):
        reference = np.arange(5.0)
        inversions = [
            sum(a > b for n, a in enumerate(order) for b in order[n + 1 :]) for order in permutations(range(5))
        ]
        for discordant in range(11):
            order = next(o for o, k in zip(permutations(range(5)), inversions, strict=True) if k == discordant)
            extreme = min(discordant, 10 - discordant)
            expected = min(1.0, 2 * sum(k <= extreme for k in inversions) / 120)
            tau = kendall_tau(array(*reference), array(*order))
            np.testing.assert_allclose(tau, (1 - discordant / 5, expected), rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("first", [array(), array(1), array(2, 2, 2), array(1, jnp.nan, 3)], ids=repr)
    def test_undefined(self, first):
        tau = kendall_tau(first, np.arange(first.size, dtype=np.float32))
        assert np.isnan(tau.statistic)
        assert np.isnan(tau.pvalue)

    def test_two_tokens(self):
        assert tuple(map(float, kendall_tau(array(1, 2), array(5, 3)))) == (-1.0, 1.0)

    def test_padding_may_hold_anything(self):
        first, second = array(1, jnp.nan, 2, 3, 4, 4), array(1, 7, 3, 2, 4, jnp.inf)
        where = np.array([True, False, True, True, True, False])
        np.testing.assert_allclose(kendall_tau(first, second, where), (2 / 3, 1 / 3), rtol=1e-6)
        assert np.isnan(kendall_tau(first, second, np.zeros(6, bool)).statistic)

    def test_batched_under_jit(self):
        first, second = np.random.default_rng(0).integers(0, 5, (2, 6, 9)).astype(np.float32)
        where = np.arange(9)[None, :] < np.array([0, 1, 2, 5, 8, 9])[:, None]
        batched = jax.jit(jax.vmap(kendall_tau))(first, second, where)
        for row in range(6):
            length = int(where[row].sum())
            np.testing.assert_allclose(
                (batched.statistic[row], batched.pvalue[row]),
                kendall_tau(first[row, :length], second[row, :length]),
                rtol=1e-5,
            )

    def test_long_texts_do_not_overflow(self):
        # All pairs of 3000 tokens are more than 2²² and the sums of ties more than 2³¹.
        half = np.repeat(array(0, 1), 1500)
        tau = kendall_tau(half, half)
        assert float(tau.statistic) == pytest.approx(1.0, rel=1e-5)
        assert float(tau.pvalue) < 1e-6

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_low_precision_counts_in_float32(self, dtype):
        # 300 tokens are 44850 pairs, more than float16 holds; values of few levels are exact in both dtypes.
        draws = np.random.default_rng(0)
        first, second = (draws.integers(0, 9, 300).astype(np.float32) for _ in range(2))
        rounded = first.astype(jnp.dtype(dtype)), second.astype(jnp.dtype(dtype))
        np.testing.assert_allclose(kendall_tau(*rounded), kendall_tau(first, second), rtol=1e-6)
        np.testing.assert_allclose(spearman_rho(*rounded), spearman_rho(first, second))

    def test_with_64_bit_types(self, x64, strict):
        tau = kendall_tau(jnp.array([1.0, 2.0, 4.0], "float32"), jnp.array([1.0, 3.0, 2.0], "float64"))
        np.testing.assert_allclose(tau.statistic, 1 / 3, rtol=1e-12)
        np.testing.assert_allclose(spearman_rho(*[jnp.array([1.0, 2.0, 4.0], "float32")] * 2), 1.0, rtol=1e-6)

    def test_attributions_of_other_tokens_are_refused(self):
        with pytest.raises(ValueError, match="of the same tokens, not 2 and 3"):
            kendall_tau.__wrapped__.__wrapped__(jnp.ones(2), jnp.ones(3))

    @pytest.mark.reference
    @pytest.mark.parametrize("levels", [None, 40, 8, 3, 2])
    @pytest.mark.parametrize("length", [2, 3, 7, 20, 33, 34, 150])
    def test_is_that_of_scipy(self, length, levels, x64):
        stats = pytest.importorskip("scipy.stats")
        draws = np.random.default_rng([length, levels or 0])
        compared = jax.jit(kendall_tau)
        for _ in range(10):
            pair = draws.random((2, length)) if levels is None else draws.integers(0, levels, (2, length)) / 1.0
            pair[1] += pair[0] * draws.integers(-2, 3)
            with np.errstate(all="ignore"):
                expected = stats.kendalltau(*pair)
            actual = compared(*map(jnp.asarray, pair))
            np.testing.assert_allclose(actual, (expected.statistic, expected.pvalue), rtol=1e-9, atol=1e-13)


@pytest.mark.usefixtures("strict")
class TestSpearman:
    def test_by_hand(self):
        # 1 − 6 Σ d² / (n (n² − 1)) with d = 0, 1, −1: 1 − 12 / 24.
        np.testing.assert_allclose(spearman_rho(array(1, 2, 3), array(1, 3, 2)), 0.5, rtol=1e-6)
        # Ranks 1.5, 1.5, 3 against 1, 2, 3: deviations (−½, −½, 1)·(−1, 0, 1) = 1.5 / √(1.5 · 2).
        np.testing.assert_allclose(spearman_rho(array(1, 1, 9), array(1, 2, 3)), 1.5 / math.sqrt(3), rtol=1e-6)

    def test_undefined_and_padding(self):
        for first in (array(), array(1), array(2, 2, 2), array(1, jnp.nan, 3)):
            assert np.isnan(spearman_rho(first, np.arange(first.size, dtype=np.float32)))
        where = np.array([True, True, True, False])
        np.testing.assert_allclose(spearman_rho(array(1, 2, 3, jnp.nan), array(1, 3, 2, 9), where), 0.5, rtol=1e-6)

    @pytest.mark.reference
    @pytest.mark.parametrize("levels", [None, 5, 2])
    def test_is_that_of_scipy(self, levels, x64):
        stats = pytest.importorskip("scipy.stats")
        draws = np.random.default_rng(levels or 0)
        for length in (2, 5, 40):
            pair = draws.random((2, length)) if levels is None else draws.integers(0, levels, (2, length)) / 1.0
            if len(np.unique(pair[0])) == 1 or len(np.unique(pair[1])) == 1:
                continue
            actual = spearman_rho(*map(jnp.asarray, pair))
            np.testing.assert_allclose(actual, stats.spearmanr(*pair).statistic, rtol=1e-10, atol=1e-13)


@pytest.mark.usefixtures("strict")
class TestLeaveOneOut:
    WORTH = array(0.1, 0.4, 0.2, 0.05)

    def predict(self, removed):
        return jnp.sum(jnp.where(removed, 0.0, self.WORTH[None]), axis=1)

    def test_sign_counts(self):
        everything = np.ones(4, bool)
        assert float(taucorr_loo(self.predict, self.WORTH, everything).statistic) == 1.0
        assert float(taucorr_loo(self.predict, -self.WORTH, everything).statistic) == -1.0

    def test_padding(self):
        where = np.array([True, True, True, False])
        tau = taucorr_loo(self.predict, array(0, 2, 1, 9), where)
        np.testing.assert_allclose(tau, (1.0, 1 / 3), rtol=1e-6)

    def test_constant_attributions_have_no_correlation(self):
        assert np.isnan(taucorr_loo(self.predict, np.ones(4, np.float32), np.ones(4, bool)).statistic)

    def test_by_the_distance_of_all_classes(self):
        # Three classes: token 0 moves 0.1 from class 0 to 1, token 1 moves 0.3 from 1 to 2, token 2 nothing of class 0.
        moves = np.array([[-0.1, 0.1, 0.0], [0.0, -0.3, 0.3], [0.0, 0.2, -0.2]], np.float32)

        def classify(removed):
            return np.array([[0.4, 0.4, 0.2]], np.float32) + removed.astype(jnp.float32) @ moves

        assert float(taucorr_loo_tvd(classify, array(1, 3, 2)).statistic) == 1.0  # distances 0.1, 0.3, 0.2
        assert float(taucorr_loo_tvd(classify, array(1, 3, 9), np.array([True, True, False])).statistic) == 1.0
        with pytest.raises(ValueError, match=r"probabilities \[4 classes\], not \[4\]; .* use taucorr_loo"):
            taucorr_loo_tvd.__wrapped__.__wrapped__(lambda removed: jnp.ones(len(removed)), jnp.ones(3))

    def test_a_wrong_shape_is_named(self):
        with pytest.raises(ValueError, match=r"leave_one_out: predict must return an array of shape \(5,\)"):
            taucorr_loo(lambda removed: jnp.ones((len(removed), 2)), self.WORTH)


class TestGradient:
    EMBEDDED = np.array([[1.0, 2.0], [3.0, -1.0], [5.0, 5.0]], np.float32)

    def attend(self, x, fixed):
        """One head with the query [1, 0], and the value [0.1, 0.2] · x."""
        weights = jax.nn.softmax(x[:, 0] / 4.0)
        weights = jax.lax.stop_gradient(weights) if fixed else weights
        return jnp.sum(weights * (x @ array(0.1, 0.2))), weights

    def test_by_hand(self):
        # With fixed weights α: g_i = |α_i (0.1 x_i0 + 0.2 x_i1)| = α_i · 0.5, 0.1, 1.5.
        weights = compiled(self.attend)(self.EMBEDDED, True)[1]
        magnitudes = gradient_magnitudes(lambda x: self.attend(x, True)[0], self.EMBEDDED)
        np.testing.assert_allclose(magnitudes, weights * array(0.5, 0.1, 1.5), rtol=1e-5)
        through = gradient_magnitudes(lambda x: self.attend(x, False)[0], self.EMBEDDED)
        assert not np.allclose(through, magnitudes, rtol=1e-2)
        # The weights rise with the token, the magnitudes fall once: one of three pairs is discordant.
        tau = taucorr_gradient(lambda x: self.attend(x, True)[0], self.EMBEDDED, weights)
        expected = kendall_tau(magnitudes, weights)
        np.testing.assert_allclose(tau, expected, rtol=1e-6)

    def test_padding(self):
        valid = np.array([True, True, False])
        magnitudes = gradient_magnitudes(lambda x: jnp.sum(x * x) / 2, self.EMBEDDED, valid)
        assert magnitudes.tolist() == [5.0, 10.0, 0.0]
        tau = taucorr_gradient(lambda x: jnp.sum(x * x), self.EMBEDDED, array(1, 2, -9), valid)
        assert float(tau.statistic) == 1.0

    def test_the_recipe_with_a_model_of_the_lab(self):
        """Weights held fixed by `interventions.given` have the gradient of a graph that is cut at the weights."""
        model, arguments, _ = MODELS["recurrent_classifier"]
        variables = drawn(functools.partial(model.init, train=False), *arguments)
        embedded = jax.jit(functools.partial(model.apply, method="embed"))(variables, *arguments)

        def run(x, intervene=None):
            options = {"train": False, "embedded": x, "intervene": intervene}
            logits, layers = apply_with_attention(model, variables, *arguments, **options)
            return jax.nn.log_softmax(jax.tree.leaves(logits)[0][0])[0], layers

        _, layers = jax.jit(run)(embedded)
        fixed = {layer.name: Partial(given, weights=layer.weights) for layer in layers}
        cut = {layer.name: Partial(lambda layer, queries: jax.lax.stop_gradient(layer.weights)) for layer in layers}
        magnitudes = [
            gradient_magnitudes(lambda x, how=how: run(embedded.at[0].set(x), how)[0], np.asarray(embedded)[0])
            for how in (fixed, cut, None)
        ]
        np.testing.assert_allclose(magnitudes[0], magnitudes[1], rtol=1e-4, atol=1e-7)
        assert not np.allclose(magnitudes[0], magnitudes[2], rtol=1e-3)


@pytest.mark.usefixtures("strict")
class TestSignificantShare:
    def test_by_hand(self):
        assert float(significant_share(array(0.01, 0.05, 0.051, 0.9, jnp.nan))) == 0.5
        assert float(significant_share(array(0.01, 0.05, 0.2), 0.01)) == pytest.approx(1 / 3)

    def test_is_nan_without_numbers(self):
        assert np.isnan(significant_share(array(jnp.nan)))

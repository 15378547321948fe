"""Rank correlations and the agreement with leave-one-out, by hand and against SciPy."""

import math
from itertools import permutations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.faithfulness.agreement import significant_share, taucorr_loo
from attnlab.analysis.faithfulness.correlation import kendall_tau, spearman_rho


def array(*values):
    return jnp.array(values, jnp.float32)


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
        tau = kendall_tau(first, jnp.arange(float(first.size)))
        assert np.isnan(tau.statistic)
        assert np.isnan(tau.pvalue)

    def test_two_tokens(self):
        assert tuple(map(float, kendall_tau(array(1, 2), array(5, 3)))) == (-1.0, 1.0)

    def test_padding_may_hold_anything(self):
        first, second = array(1, jnp.nan, 2, 3, 4, 4), array(1, 7, 3, 2, 4, jnp.inf)
        where = jnp.array([True, False, True, True, True, False])
        np.testing.assert_allclose(kendall_tau(first, second, where), (2 / 3, 1 / 3), rtol=1e-6)
        assert np.isnan(kendall_tau(first, second, jnp.zeros(6, bool)).statistic)

    def test_batched_under_jit(self):
        rngs = jax.random.split(jax.random.key(0))
        first, second = (jax.random.randint(rng, (6, 9), 0, 5).astype(jnp.float32) for rng in rngs)
        where = jnp.arange(9)[None, :] < jnp.array([0, 1, 2, 5, 8, 9])[:, None]
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
        half = jnp.repeat(jnp.arange(2.0), 1500)
        tau = kendall_tau(half, half)
        assert float(tau.statistic) == pytest.approx(1.0, rel=1e-5)
        assert float(tau.pvalue) < 1e-6

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


class TestSpearman:
    def test_by_hand(self):
        # 1 − 6 Σ d² / (n (n² − 1)) with d = 0, 1, −1: 1 − 12 / 24.
        np.testing.assert_allclose(spearman_rho(array(1, 2, 3), array(1, 3, 2)), 0.5, rtol=1e-6)
        # Ranks 1.5, 1.5, 3 against 1, 2, 3: deviations (−½, −½, 1)·(−1, 0, 1) = 1.5 / √(1.5 · 2).
        np.testing.assert_allclose(spearman_rho(array(1, 1, 9), array(1, 2, 3)), 1.5 / math.sqrt(3), rtol=1e-6)

    def test_undefined_and_padding(self):
        for first in (array(), array(1), array(2, 2, 2), array(1, jnp.nan, 3)):
            assert np.isnan(spearman_rho(first, jnp.arange(float(first.size))))
        where = jnp.array([True, True, True, False])
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


class TestLeaveOneOut:
    WORTH = array(0.1, 0.4, 0.2, 0.05)

    def predict(self, removed):
        return jnp.sum(jnp.where(removed, 0.0, self.WORTH), axis=1)

    def test_sign_counts(self):
        everything = jnp.ones(4, bool)
        assert float(taucorr_loo(self.predict, self.WORTH, everything).statistic) == 1.0
        assert float(taucorr_loo(self.predict, -self.WORTH, everything).statistic) == -1.0

    def test_padding(self):
        where = jnp.array([True, True, True, False])
        tau = taucorr_loo(self.predict, array(0, 2, 1, 9), where)
        np.testing.assert_allclose(tau, (1.0, 1 / 3), rtol=1e-6)

    def test_constant_attributions_have_no_correlation(self):
        assert np.isnan(taucorr_loo(self.predict, jnp.ones(4), jnp.ones(4, bool)).statistic)


class TestSignificantShare:
    def test_by_hand(self):
        assert float(significant_share(array(0.01, 0.05, 0.051, 0.9, jnp.nan))) == 0.5
        assert float(significant_share(array(0.01, 0.05, 0.2), 0.01)) == pytest.approx(1 / 3)

    def test_is_nan_without_numbers(self):
        assert np.isnan(significant_share(array(jnp.nan)))

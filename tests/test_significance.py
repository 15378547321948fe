"""Statistics of comparisons: hand-worked numbers, an independent oracle, and simulated experiments."""

from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from attnlab.analysis.significance import (
    Estimate,
    crossed_difference,
    crossed_mean,
    detectable_difference,
    hedges_g,
    holm,
    pseudo_values,
    seeds_difference,
    seeds_mean,
)
from attnlab.analysis.significance.simulation import SEEDS, SETTINGS, coverage, family_wise_error, tables
from attnlab.results.per_example import read_per_example
from attnlab.tasks.bootstrap import draws
from attnlab.tasks.translation.task import TranslationTask

RESULTS = Path(__file__).parents[1] / "docs/results"
MAIN = "seeds and items matter"


def anova(groups: list[list[list[float]]]) -> tuple[float, float, float]:
    """The difference of one or two groups by plain loops: value, standard error, degrees of freedom."""
    m = len(groups[0][0])
    terms, parts, means = [], [], []
    contrast = [0.0] * m
    for sign, scores in zip((1, -1), groups, strict=False):
        n = len(scores)
        runs = [sum(row) / m for row in scores]
        items = [sum(row[i] for row in scores) / n for i in range(m)]
        mean = sum(runs) / n
        spread = sum((value - mean) ** 2 for value in runs) / (n - 1)
        residual = sum((scores[r][i] - runs[r] - items[i] + mean) ** 2 for r in range(n) for i in range(m))
        residual /= (n - 1) * (m - 1)
        parts.append(max(spread / n - residual / (n * m), 0.0))
        terms.append(((spread / n) ** 2 / (n - 1), n))
        means.append(sign * mean)
        contrast = [total + sign * item for total, item in zip(contrast, items, strict=True)]
    center = sum(contrast) / m
    over_items = sum((value - center) ** 2 for value in contrast) / (m - 1) / m
    variance = over_items + sum(parts)
    df = variance**2 / (over_items**2 / (m - 1) + sum(term for term, _ in terms))
    return sum(means), variance**0.5, max(df, min(n for _, n in terms) - 1)


class TestCrossedEffects:
    def test_are_those_of_an_analysis_of_variance(self):
        rng = np.random.default_rng(0)
        first, second = rng.normal(size=(3, 7)), rng.normal(0.5, 2.0, size=(4, 7)) + rng.normal(size=7)
        for found, groups in ((crossed_mean(first), [first]), (crossed_difference(first, second), [first, second])):
            expected = anova([group.tolist() for group in groups])
            np.testing.assert_allclose([found.value, found.standard_error, found.df], expected, rtol=1e-12)
        stacked = crossed_difference(np.stack([first, 2 * first]), np.stack([second, 2 * second]))
        one = crossed_difference(first, second)
        np.testing.assert_allclose(stacked.standard_error, [one.standard_error, 2 * one.standard_error], rtol=1e-12)
        np.testing.assert_allclose(stacked.df, [one.df, one.df], rtol=1e-12)

    def test_are_welchs_test_if_items_do_not_matter(self):
        """Runs that differ, on items that are all alike: only seeds are left."""
        runs, others = np.array([90.0, 92.0, 94.0]), np.array([80.0, 88.0, 84.0, 81.0])
        spread = [np.repeat(values[:, None], 50, axis=1) for values in (runs, others)]
        found, expected = crossed_difference(*spread), stats.ttest_ind(runs, others, equal_var=False)
        low, high = found.interval()
        reference = expected.confidence_interval()
        assert (low, high) == (pytest.approx(reference.low), pytest.approx(reference.high))
        assert found.p_value() == pytest.approx(expected.pvalue)
        alone = seeds_difference(runs, others)
        assert alone.interval() == (pytest.approx(reference.low), pytest.approx(reference.high))
        one = stats.ttest_1samp(runs, 0).confidence_interval()
        assert seeds_mean(runs).interval() == (pytest.approx(one.low), pytest.approx(one.high))

    def test_pairing_by_item_removes_their_difficulty(self):
        rng = np.random.default_rng(1)
        items = rng.normal(0, 10, 200)
        first, second = (items + shift + rng.normal(0, 0.1, (3, 200)) for shift in (1.0, 0.0))
        assert crossed_difference(first, second).interval()[0] > 0.9
        assert crossed_difference(first, rng.permuted(second, axis=1)).interval()[0] < 0

    def test_degenerate_scores(self):
        same = np.ones((3, 5))
        found = crossed_difference(same, same)
        assert (found.value, found.standard_error, found.p_value()) == (0.0, 0.0, 1.0)
        assert crossed_difference(same, same - 1).p_value() == 0.0
        for scores in (np.ones((1, 5)), np.ones((3, 1))):
            with pytest.raises(ValueError, match="needs two runs and two items"):
                crossed_mean(scores)
        with pytest.raises((ValueError, TypeError), match=r"of the same items|Type-check"):
            crossed_difference(same, np.ones((3, 6)))

    def test_interval_and_p_value_agree(self):
        estimate = Estimate(2.0, 1.0, 5.0)
        p = estimate.p_value()
        low, high = estimate.interval(1 - p)
        assert (low, high) == (pytest.approx(0.0, abs=1e-9), pytest.approx(4.0))


class TestSimulatedExperiments:
    """2,000 experiments; the standard error of a share of 95% is 0.5."""

    @pytest.mark.parametrize("runs", SEEDS)
    @pytest.mark.parametrize("setting", SETTINGS)
    @pytest.mark.quick(*(f"{MAIN}-{runs}" for runs in SEEDS))
    def test_the_interval_contains_the_true_difference(self, setting: str, runs: int):
        found = coverage(SETTINGS[setting], runs)
        assert 93.0 <= found["crossed"] <= 98.5
        assert found["items"] < found["crossed"], "items alone are too narrow"
        if setting == "seeds dominate":
            assert found["bootstrap"] < 93.0, "with few seeds percentiles are too narrow"

    @pytest.mark.parametrize("runs", SEEDS)
    @pytest.mark.quick("3")
    def test_holm_keeps_the_family_wise_error(self, runs: int):
        found = family_wise_error(SETTINGS[MAIN], runs, groups=5)
        assert found["holm"] <= 6.0 < found["uncorrected"]

    def test_the_tables_of_the_docs_are_printed(self):
        lines = list(tables(experiments=20))
        assert len(lines) == 2 + len(SETTINGS) * len(SEEDS) + 1 + 2 + 2 * len(SEEDS)
        page = (RESULTS.parent / "compare.md").read_text()
        assert lines[0] in page
        for setting in SETTINGS:
            assert all(f"| {setting} | {runs} | " in page for runs in SEEDS)


class TestPseudoValues:
    def test_of_a_mean_are_the_scores(self):
        scores = np.random.default_rng(0).normal(size=40)
        np.testing.assert_allclose(pseudo_values(scores, np.mean), scores, atol=1e-12)
        blocks = pseudo_values(scores, np.mean, blocks=10)
        assert len(blocks) == 10
        assert blocks.mean() == pytest.approx(scores.mean())

    def test_of_a_ratio_have_the_variance_of_the_delta_method(self):
        rng = np.random.default_rng(1)
        rows = rng.integers(1, 20, size=(400, 2)).astype(float)
        ratio = lambda rows: rows[:, 0].sum() / rows[:, 1].sum()  # noqa: E731
        values = pseudo_values(rows, ratio)
        influence = (rows[:, 0] - ratio(rows) * rows[:, 1]) / rows[:, 1].mean()
        assert values.mean() == pytest.approx(ratio(rows))
        assert values.std(ddof=1) == pytest.approx(influence.std(ddof=1), rel=0.02)

    def test_of_bleu_agree_with_a_bootstrap(self):
        scores = read_per_example(RESULTS / "dates_none-s1", "test")
        assert scores is not None
        rows = scores.rows["bleu"]
        bleu = lambda rows: TranslationTask.aggregate("bleu", rows)  # noqa: E731
        values = pseudo_values(rows, bleu)
        resampled = [bleu(rows[indices]) for indices in draws(len(rows), 200)]
        assert values.std(ddof=1) / np.sqrt(len(values)) == pytest.approx(np.std(resampled, ddof=1), rel=0.2)


class TestHolm:
    def test_by_hand(self):
        np.testing.assert_allclose(holm([0.03, 0.005, 0.02, 0.6]), [0.06, 0.02, 0.06, 0.6])
        assert holm([0.7, 0.8]).tolist() == [1.0, 1.0]
        assert holm([0.2]).tolist() == [0.2]
        np.testing.assert_allclose(holm(np.array([[0.01, 0.5], [0.5, 0.01]])), [[0.02, 0.5], [0.5, 0.02]])

    def test_is_never_below_the_p_value_and_keeps_the_order(self):
        p = np.random.default_rng(0).random((100, 6))
        adjusted = holm(p)
        assert np.all(adjusted >= p)
        assert np.all(np.diff(np.take_along_axis(adjusted, p.argsort(axis=1), 1), axis=1) >= 0)


class TestEffect:
    def test_hedges_g_by_hand(self):
        first, second = np.array([3.0, 4.0, 5.0]), np.array([1.0, 2.0, 3.0])
        assert hedges_g(first, second) == pytest.approx((1 - 3 / 15) * 2.0)
        assert hedges_g(second, first) == pytest.approx(-1.6)
        assert hedges_g(first[:1], second) is None
        assert hedges_g(np.ones(3), np.zeros(3)) is None

    def test_the_detectable_difference_is_detected_in_four_of_five_experiments(self):
        rng = np.random.default_rng(0)
        n, k = 4, 3
        shift = detectable_difference(float(np.sqrt(2 / n)), 2.0 * n - 2, k)
        first, second = rng.normal(shift, 1, (4000, n)), rng.normal(0, 1, (4000, n))
        p = stats.ttest_ind(first, second, axis=1).pvalue
        assert np.mean(p < 0.05 / k) == pytest.approx(0.8, abs=0.02)

    @pytest.mark.parametrize("df", [1.0, 2.0, 3.7, 20.0, 1e3, 1e6])
    @pytest.mark.quick("1.0", "1000000.0")
    def test_the_detectable_difference_is_finite_and_grows_with_comparisons(self, df: float):
        found = [detectable_difference(1.0, df, k) for k in (1, 2, 10, 45)]
        assert np.all(np.diff(found) > 0)
        assert found[0] >= 2.8

"""Means over examples with bootstrap intervals, and paired differences to the random floor and to raw attention."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float

from attnlab.analysis.battery.metric_table import METRICS, PLAUSIBILITY, TESTS
from attnlab.analysis.battery.settings import ATTENTION, FLOOR, BatterySettings
from attnlab.tasks.bootstrap import MIN_EXAMPLES, RESAMPLES, draws

DIGITS = 6
CURVES = ("deletion_curve", "insertion_curve")


def summarize(records: Sequence[Mapping[str, Any]], settings: BatterySettings) -> dict[str, Any]:
    """Return the means of all metrics, the mean curves, and the results of the tests.

    A mean is over the examples for which the metric is defined (their number is `n`), its interval the 95% bootstrap
    percentile interval over examples; a difference is over the examples for which both are. None for fewer than 20.

    Args:
        records: of the examples, as `Battery.records` returns them.
        settings: of the battery.
    """
    failed = {record["example"]: record["failed"] for record in records if "failed" in record}
    records = [record for record in records if "failed" not in record]
    count = rationale_size(records)
    values = {method: _values(records, method, count) for method in settings.methods}
    correct = np.array([record.get("correct") is True for record in records], bool)
    methods = {}
    for method, by_metric in values.items():
        methods[method] = {}
        for name, array in by_metric.items():
            entry: dict[str, Any] = mean(array)
            for other, key in ((FLOOR, "minus_random"), (ATTENTION, "minus_raw_attention")):
                if other != method and name in values.get(other, {}):
                    entry[key] = mean(array - values[other][name])
            if name in PLAUSIBILITY.metrics and correct.any():
                entry["correct"] = mean(np.where(correct, array, np.nan))
            methods[method][name] = entry
    return {
        "examples": len(records),
        "correct": int(correct.sum()) if any(record.get("correct") is not None for record in records) else None,
        "failed": failed,
        "methods": methods,
        "curves": {"shares": list(settings.shares)} | {name: _curves(records, name, settings) for name in CURVES},
        "tests": _tests(records),
        "rationale_size": count,
    }


def mean(values: Float[np.ndarray, " n"]) -> dict[str, Any]:
    """Return mean, 95% bootstrap interval and number of the values that are numbers.

    >>> mean(np.array([1.0, np.nan, 3.0]))
    {'mean': 2.0, 'ci95': None, 'n': 2}
    """
    defined = values[~np.isnan(values)]
    interval = None
    if len(defined) >= MIN_EXAMPLES:
        means = _resampled(len(defined)) @ defined / len(defined)
        interval = [round(float(end), DIGITS) for end in np.percentile(means, [2.5, 97.5])]
    return {
        "mean": round(float(defined.mean()), DIGITS) if len(defined) else None,
        "ci95": interval,
        "n": len(defined),
    }


def rationale_size(records: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the mean number of marked tokens, rounded: the k of `token_f1_plau`; None if nothing is marked."""
    marked = [record["marked"] for record in records if record["marked"]]
    return max(round(float(np.mean(marked))), 1) if marked else None


def _values(records: Sequence[Mapping[str, Any]], method: str, count: int | None) -> dict[str, np.ndarray]:
    """Return the value of each metric for each example; metrics that no example has are left out."""
    found = [record["methods"][method] for record in records]
    columns = {name: np.array([_number(one.get(name)) for one in found]) for name in METRICS}
    if count is not None:
        overlaps = np.array([_overlap(record, record["methods"][method], count) for record in records])
        columns |= {"token_f1_plau": overlaps[:, 0], "token_iou_plau": overlaps[:, 1]}
    return {name: column for name, column in columns.items() if not np.isnan(column).all()}


def _overlap(record: Mapping[str, Any], found: Mapping[str, Any], count: int) -> tuple[float, float]:
    """Return F1 and intersection over union of the top k tokens and the marked ones, from the ranks of these."""
    ranks = found.get("gold_ranks")
    if not ranks or found.get("auprc_plau") is None:
        return np.nan, np.nan
    hits, predicted = sum(rank < count for rank in ranks), min(count, record["comparable"])
    return 2.0 * hits / (predicted + len(ranks)), hits / (predicted + len(ranks) - hits)


def _curves(records: Sequence[Mapping[str, Any]], name: str, settings: BatterySettings) -> dict[str, list[float]]:
    """Return the mean curve of each method: those of the examples, between the shares that were really removed."""
    means = {}
    for method in settings.methods:
        pairs = [(record["counts"], record["methods"][method].get(name)) for record in records]
        curves = [at_shares(counts, curve, settings.shares) for counts, curve in pairs if _is_whole(counts, curve)]
        if curves:
            means[method] = [round(float(value), DIGITS) for value in np.mean(curves, axis=0)]
    return means


def at_shares(counts: Sequence[int], curve: Sequence[float], shares: Sequence[float]) -> Float[np.ndarray, " s"]:
    """Interpolate a curve, known after whole numbers of tokens, at shares of the tokens.

    A share r of n tokens is rounded up to ⌈r n⌉: a tenth of a text of 5 tokens is one of them, a fifth.

    Args:
        counts: number of tokens at each point of the curve; the last is that of all tokens.
        curve: a value for each.
        shares: where the curve is wanted.

    >>> at_shares([0, 1, 2, 2], [1.0, 0.5, 0.0, 0.0], [0.0, 0.25, 0.5, 1.0]).tolist()
    [1.0, 0.75, 0.5, 0.0]
    """
    numbers, places = np.unique(counts, return_index=True)
    return np.interp(shares, numbers / numbers[-1], np.asarray(curve, float)[places])


def _is_whole(counts: Sequence[int], curve: Sequence[float | None] | None) -> bool:
    return curve is not None and None not in curve and counts[-1] > 0


def _tests(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    names = [name for name in TESTS.metrics if any(name in record["tests"] for record in records)]
    results = {name: mean(np.array([_number(record["tests"].get(name)) for record in records])) for name in names}
    if {"permutation_median_tvd", "permutation_max_weight"} <= results.keys():
        results["permutation_by_weight"] = _by_weight(records)
    return results


def _by_weight(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the median change under permutations of examples with a largest weight in each quarter of [0, 1]."""
    pairs = [(r["tests"]["permutation_max_weight"], r["tests"]["permutation_median_tvd"]) for r in records]
    known = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
    quarters = np.clip((known[:, 0] * 4).astype(int), 0, 3)
    return {f"{q / 4:g} to {(q + 1) / 4:g}": mean(known[quarters == q, 1]) for q in range(4)}


def _number(value: float | None) -> float:
    return np.nan if value is None else value


@lru_cache(maxsize=8)
def _resampled(number: int) -> Float[np.ndarray, "resamples n"]:
    """Return how often each example is in each resample."""
    return np.array([np.bincount(indices, minlength=number) for indices in draws(number, RESAMPLES)], float)

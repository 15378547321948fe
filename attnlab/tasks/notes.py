"""Notes on metrics: why a metric is undefined for a test set, and which metrics have no confidence interval."""

from collections.abc import Iterator, Mapping
from typing import Any

from attnlab.tasks.bootstrap import MIN_EXAMPLES

NO_INTERVAL = f"no interval: fewer than {MIN_EXAMPLES} examples"
"""The note on metrics that have a value but no interval."""


def replace_undefined(metrics: dict[str, Any], reasons: Mapping[str, str]) -> dict[str, Any]:
    """Replace undefined metrics and their intervals with None, add a note for each, and remove their `per_example`.

    Args:
        metrics: as `Task.test_metrics` returns them.
        reasons: {metric: why it is undefined}; each becomes a `<metric>_note`.

    >>> metrics = {"bleu": 0.0, "bleu_ci95": [0.0, 0.0], "chrf": 9.0, "per_example": {"bleu": [], "chrf": []}}
    >>> replace_undefined(metrics, {"bleu": "why"})
    {'bleu': None, 'bleu_ci95': None, 'chrf': 9.0, 'per_example': {'chrf': []}, 'bleu_note': 'why'}
    """
    per_example = {name: rows for name, rows in metrics["per_example"].items() if name not in reasons}
    undefined = {key: None for name in reasons for key in (name, f"{name}_ci95") if key in metrics}
    notes = {f"{name}_note": reason for name, reason in reasons.items()}
    return metrics | undefined | {"per_example": per_example} | notes


def lacks_interval(metrics: Mapping[str, Any], name: str) -> bool:
    """Return whether a metric has a value, but no interval because there are too few examples."""
    return metrics.get(name) is not None and metrics.get(f"{name}_ci95", ...) is None


def lines(metrics: Mapping[str, Any], headings: Mapping[str, str] = {}) -> Iterator[str]:
    """Yield notes on a table of metrics: which are undefined and why, and which have no interval.

    Args:
        metrics: as `Task.test_metrics` returns them.
        headings: metric -> its heading in the table; by default its name.

    >>> list(lines({"bleu": None, "bleu_note": "no reference has 4 tokens"}, {"bleu": "BLEU"}))
    ['BLEU: no score: no reference has 4 tokens']
    >>> list(lines({"accuracy": 50.0, "accuracy_ci95": None}))
    ['no interval: fewer than 20 examples: accuracy']
    """
    heading = lambda name: headings.get(name, name)  # noqa: E731
    for name in metrics:
        if reason := metrics.get(f"{name}_note"):
            yield f"{heading(name)}: no score: {reason}"
    if without_interval := [heading(name) for name in metrics if lacks_interval(metrics, name)]:
        yield f"{NO_INTERVAL}: {', '.join(without_interval)}"

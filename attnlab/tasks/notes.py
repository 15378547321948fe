"""Notes in the place of scores that are the same whatever a system answers, and of intervals of too few examples."""

from collections.abc import Iterator, Mapping
from typing import Any

from attnlab.tasks.bootstrap import FEWEST

FEW = f"no interval: fewer than {FEWEST} examples"
"""What is said where a score has a number but no interval."""


def without(scores: dict[str, Any], notes: Mapping[str, str]) -> dict[str, Any]:
    """Put notes in the place of scores that say nothing: the score and its interval are None, and not in `per_example`.

    Args:
        scores: as `Task.scores` returns them.
        notes: {score: why it says nothing}; of these, `<score>_note` is added.


    >>> scores = {"bleu": 0.0, "bleu_ci95": [0.0, 0.0], "chrf": 9.0, "per_example": {"bleu": [], "chrf": []}}
    >>> without(scores, {"bleu": "why"})
    {'bleu': None, 'bleu_ci95': None, 'chrf': 9.0, 'per_example': {'chrf': []}, 'bleu_note': 'why'}
    """
    per_example = {name: rows for name, rows in scores["per_example"].items() if name not in notes}
    gone = {name: None for noted in notes for name in (noted, f"{noted}_ci95") if name in scores}
    return scores | gone | {"per_example": per_example} | {f"{name}_note": why for name, why in notes.items()}


def few(scores: Mapping[str, Any], name: str) -> bool:
    """Return whether a score has a number, but no interval as its examples are too few."""
    return scores.get(name) is not None and scores.get(f"{name}_ci95", ...) is None


def lines(scores: Mapping[str, Any], headings: Mapping[str, str] = {}) -> Iterator[str]:
    """Write what a table of scores cannot show: which say nothing and why, and which have no interval.

    Args:
        scores: as `without` and a task return them.
        headings: score -> what the table calls it; another is called by its name.

    >>> list(lines({"bleu": None, "bleu_note": "no reference has 4 tokens"}, {"bleu": "BLEU"}))
    ['BLEU: no score: no reference has 4 tokens']
    >>> list(lines({"accuracy": 50.0, "accuracy_ci95": None}))
    ['no interval: fewer than 20 examples: accuracy']
    """
    call = lambda name: headings.get(name, name)  # noqa: E731
    for name in scores:
        if why := scores.get(f"{name}_note"):
            yield f"{call(name)}: no score: {why}"
    if without_interval := [call(name) for name in scores if few(scores, name)]:
        yield f"{FEW}: {', '.join(without_interval)}"

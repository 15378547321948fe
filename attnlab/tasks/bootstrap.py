"""How sure a score of a test set is, and a difference between two systems: the bootstrap over examples."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

RESAMPLES = 1000
"""Draws of the test set, with replacement, behind an interval."""
FEWEST = 20
"""Examples below which there is no interval: draws of so few repeat each other, and their percentiles are too narrow
(of one example they have no width at all)."""
SEED = 12345
"""Of the draws, so that a score is told alike every time."""
Total = Callable[[np.ndarray], Any]
"""A score (a number) of rows, one for each example."""


def draws(examples: int, resamples: int = RESAMPLES, seed: int = SEED) -> Iterator[Shaped[np.ndarray, " n"]]:
    """Draw as many examples as there are, with replacement, again and again."""
    rng = np.random.default_rng(seed)
    return (rng.integers(examples, size=examples) for _ in range(resamples))


def interval(
    rows: Shaped[np.ndarray, "n *k"], total: Total = np.mean, resamples: int = RESAMPLES, seed: int = SEED
) -> list[float] | None:
    """Return the 95% interval of a score: percentiles of its values on the draws. None below `FEWEST` examples.

    Args:
        rows: what the score is made of, a row for each example.
        total: makes the score of rows.
        resamples: draws of the examples.
        seed: of the draws.
    Reference: Efron & Tibshirani 1993, section 13.3.

    >>> interval(np.ones(20)), interval(np.ones(19))
    ([1.0, 1.0], None)
    """
    if len(rows) < FEWEST:
        return None
    found = [total(rows[chosen]) for chosen in draws(len(rows), resamples, seed)]
    return np.percentile(found, [2.5, 97.5]).tolist()


@dataclass(frozen=True)
class Difference:
    """The scores of two systems on one test set, and how sure it is that they differ.

    Attributes:
        first: score of the first system.
        second: of the second.
        low: where the 95% interval of `first - second` begins; None below `FEWEST` examples.
        high: where it ends; None where `low` is.
        p: twice the share of draws in which the difference had the other sign or was none, the scores themselves
            counted as one more draw; at least `smallest_p`, at most 1. None for a single example.
    """

    first: float
    second: float
    low: float | None
    high: float | None
    p: float | None

    @property
    def difference(self) -> float:
        """first − second."""
        return self.first - self.second


def paired_difference(
    first: Shaped[np.ndarray, "n *k"],
    second: Shaped[np.ndarray, "n *k"],
    total: Total = np.mean,
    resamples: int = RESAMPLES,
    seed: int = SEED,
    outputs: tuple[np.ndarray, np.ndarray] | None = None,
) -> Difference:
    """Compare two systems on the same examples by a paired bootstrap: both are scored on the same draws.

    It tells how much another test set of this kind would differ, not how much another seed of the training would.
    Of few examples the share of draws alone would claim too much, so p is at least `smallest_p`.

    Args:
        first: what the score of the first system is made of, a row for each example.
        second: the same of the second, example by example.
        total: makes the score of rows.
        resamples: draws of the examples.
        seed: of the draws.
        outputs: rows that decide on how many examples the systems differ; None: `first` and `second`. Give them where
            the systems are means over different numbers of runs.
    Reference: Koehn 2004; Efron & Tibshirani 1993; the draw more: Davison & Hinkley 1997, eq. 4.11.

    >>> paired_difference(np.array([100.0, 100, 0, 0]), np.array([0.0, 100, 0, 0]), resamples=100).difference
    25.0
    """
    if len(first) != len(second) or not len(first):
        raise ValueError(f"paired scores must be of the same examples, not {first.shape} and {second.shape}")
    whole = total(first), total(second)
    scores = float(whole[0]), float(whole[1])
    if len(first) == 1:
        return Difference(*scores, None, None, None)
    drawn = draws(len(first), resamples, seed)
    found = np.array([total(first[chosen]) - total(second[chosen]) for chosen in drawn])
    against = np.sum(found <= 0) if whole[0] > whole[1] else np.sum(found >= 0)
    share = 1.0 if whole[0] == whole[1] else 2 * (int(against) + 1) / (resamples + 1)
    low, high = np.percentile(found, [2.5, 97.5]).tolist() if len(first) >= FEWEST else (None, None)
    return Difference(*scores, low, high, min(max(share, smallest_p(*(outputs or (first, second)))), 1.0))


def smallest_p(first: Shaped[np.ndarray, "n *k"], second: Shaped[np.ndarray, "n *k"]) -> float:
    """Return the smallest two-sided p that so many paired examples can show: 2 / 2^m, at most 1.

    m counts the examples on which the two systems differ. If the systems were alike, each example's two outputs could
    as well be swapped. Where they are equal a swap changes nothing, so there are 2^m swaps, all equally likely, and two
    of them are always as extreme as what was seen: what was seen, and its mirror. For a difference of means this is
    the sign-flip test, but it holds of any score.

    Reference: Noreen 1989 (approximate randomization); Riezler & Maxwell 2005.

    >>> smallest_p(np.array([1.0, 1, 1, 0]), np.array([0.0, 0, 0, 0]))
    0.25
    """
    differing = (first != second).reshape(len(first), -1).any(axis=1)
    return min(2.0 / 2.0 ** int(differing.sum()), 1.0)

"""Choose a few shapes of batches with as little padding as possible."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

SOURCE_COST = 0.5
"""Cost of a padded source position, in padded target positions (a decoder works more than an encoder)."""
_CANDIDATES = 40
"""Number of lengths that are considered for source and for target."""


@dataclass(frozen=True)
class Shape:
    """The shape of the batches of a bucket: `rows` pairs with `source` and `target` positions."""

    rows: int
    source: int
    target: int


def choose(
    source: Sequence[int], target: Sequence[int], batch_tokens: int, buckets: int, row_multiple: int = 1
) -> list[Shape]:
    """Return at most `buckets` shapes, each at least as long as the one before in source and target.

    A pair belongs to the first shape that it fits in. Of all sequences of shapes with the candidate lengths, these have
    the fewest positions in an epoch, including the padding rows of the last batch of each bucket (dynamic programming).

    Args:
        source: length of the source of each pair, including the end token.
        target: length of the target of each pair, including the end token.
        batch_tokens: largest number of target positions in a batch, which has at least `row_multiple` rows.
        buckets: largest number of shapes.
        row_multiple: the number of rows of a batch is a multiple of this.
    """
    if not source:
        return []
    ends_s, ends_t = _candidates(source), _candidates(target)
    count = np.zeros((len(ends_s), len(ends_t)), int)
    np.add.at(count, (np.searchsorted(ends_s, source), np.searchsorted(ends_t, target)), 1)
    fitting = count.cumsum(0).cumsum(1).ravel()
    index_s, index_t = (index.ravel() for index in np.indices(count.shape))
    wide, tall = ends_s[index_s], ends_t[index_t]

    def positions(end: int, before: np.ndarray | int) -> np.ndarray:
        pairs = fitting[end] - before
        batches = -(-pairs // _rows(pairs, tall[end], batch_tokens, row_multiple))
        return batches * _rows(pairs, tall[end], batch_tokens, row_multiple) * (tall[end] + SOURCE_COST * wide[end])

    ends = range(len(fitting))
    within = [np.flatnonzero((index_s <= index_s[end]) & (index_t <= index_t[end])) for end in ends]
    added = [positions(end, fitting[within[end]]) for end in ends]
    least, previous = np.array([positions(end, 0) for end in ends]), []
    for _ in range(buckets - 1):
        totals = [least[within[end]] + added[end] for end in ends]
        best = [int(np.argmin(total)) for total in totals]
        previous.append([within[end][best[end]] for end in ends])
        least = np.array([totals[end][best[end]] for end in ends])
    chain = [len(fitting) - 1]
    for step in reversed(previous):
        chain.append(step[chain[-1]])
    return _shapes(fitting, wide, tall, chain[::-1], batch_tokens, row_multiple)


def assign(shapes: Sequence[Shape], source: Sequence[int], target: Sequence[int]) -> list[np.ndarray]:
    """Return the indices of the pairs of each shape."""
    first = np.full(len(source), len(shapes))
    for index in reversed(range(len(shapes))):
        first[(np.asarray(source) <= shapes[index].source) & (np.asarray(target) <= shapes[index].target)] = index
    return [np.flatnonzero(first == index) for index in range(len(shapes))]


def _candidates(lengths: Sequence[int]) -> np.ndarray:
    """Return lengths at which a bucket may end: all lengths, or quantiles and equally spaced lengths."""
    distinct = np.unique(lengths)
    if len(distinct) <= _CANDIDATES:
        return distinct
    quantiles = np.quantile(lengths, np.linspace(0, 1, _CANDIDATES // 2), method="higher")
    spread = np.linspace(distinct[0], distinct[-1], _CANDIDATES // 2).round().astype(int)
    return np.unique(np.concatenate([quantiles, spread]))


def _rows(pairs: np.ndarray, target: int, batch_tokens: int, multiple: int) -> np.ndarray:
    """Return the number of rows of a batch: as many as `batch_tokens` allows, but no more than the pairs need."""
    largest = max(batch_tokens // target // multiple, 1) * multiple
    return np.clip(-(-pairs // multiple) * multiple, multiple, largest)


def _shapes(
    fitting: np.ndarray, wide: np.ndarray, tall: np.ndarray, chain: list[int], batch_tokens: int, multiple: int
) -> list[Shape]:
    shapes, before = [], 0
    for end in chain:
        pairs = fitting[end] - before
        if pairs:
            shapes.append(Shape(int(_rows(pairs, tall[end], batch_tokens, multiple)), int(wide[end]), int(tall[end])))
        before = fitting[end]
    return shapes

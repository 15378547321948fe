"""Cutting queries and keys into blocks, and the lists of key blocks that each query block needs.

Where the mask is known while compiling, the blocks of keys need not lie on a grid of their own size: a run of keys
that a block of queries may see is covered from its start, at a finer grain.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.inputs import Inputs


class Cut(NamedTuple):
    """A sequence cut into `count` blocks of `size`, the last one padded."""

    length: int
    count: int
    size: int

    @property
    def padding(self) -> int:
        return self.count * self.size - self.length

    def blocks(self, rows: Array) -> Array:
        """[length, ...] -> [count, size, ...], the last row repeated."""
        if self.padding:
            rows = jnp.pad(rows, [(0, self.padding)] + [(0, 0)] * (rows.ndim - 1), mode="edge")
        return rows.reshape(self.count, self.size, *rows.shape[1:])

    def places(self, positions: Any) -> Any:
        """[length] -> [count, size], the last position repeated; NumPy stays NumPy."""
        xp = np if isinstance(positions, np.ndarray) else jnp
        return xp.pad(positions, (0, self.padding), mode="edge").reshape(self.count, self.size)

    def live(self) -> np.ndarray:
        """[count, size]: False for a row that pads the last block."""
        return (np.arange(self.count * self.size) < self.length).reshape(self.count, self.size)

    def joined(self, blocks: Array) -> Array:
        """[count, size, ...] -> [length, ...]."""
        return blocks.reshape(self.count * self.size, *blocks.shape[2:])[: self.length]


def cut(length: int, block: int) -> Cut:
    """Cut into as few blocks of at most `block` as can be, and these as even as can be.

    >>> cut(300, 256)
    Cut(length=300, count=2, size=150)
    """
    count = max(-(-length // block), 1)
    return Cut(length, count, max(-(-length // count), 1))


class Lists(NamedTuple):
    """Of each query block, the key blocks to visit: [m, at most n] indices, of which the first [m] count."""

    full: Any
    full_counts: Any
    """Every query may attend to every key: no mask need be evaluated."""
    partial: Any
    partial_counts: Any


def every(queries: Cut, keys: Cut, masked: bool) -> Lists:
    """List all key blocks for each query block."""
    some = np.ones((queries.count, keys.count), bool)
    return _lists(some, some & (not masked), keys)


def needed(head: Inputs, queries: Cut, keys: Cut) -> Lists:
    """List the key blocks that the mask lets each query block see; known while compiling where the mask is."""
    if head.mask is None:
        return every(queries, keys, masked=False)
    some, full = head.mask.classify(queries.places(head.rows()), keys.places(head.columns()), head.head)
    return _lists(some, full, keys)


def _lists(some: Any, full: Any, keys: Cut) -> Lists:
    xp = np if isinstance(some, np.ndarray) and isinstance(full, np.ndarray) else jnp
    if keys.padding:
        full = full & (xp.arange(keys.count) < keys.count - 1)[None, :]
    partial = some & ~full
    return Lists(*_listed(full & some, xp), *_listed(partial, xp))


def _listed(chosen: Any, xp: Any) -> tuple[Any, Any]:
    order = xp.argsort(~chosen, axis=1, stable=True).astype(xp.int32)
    counts = chosen.sum(axis=1, dtype=xp.int32)
    if xp is np:
        order = order[:, : max(int(counts.max()), 1)]
    return order, counts


GRAIN = 128
"""Blocks of keys may begin at multiples of this."""


class Visits(NamedTuple):
    """Of each query block, where the key blocks to visit begin: [m, at most n], of which the first [m] count."""

    full: Any
    full_counts: Any
    partial: Any
    partial_counts: Any
    first: Any
    """[m, n]: the first key that counts of each partial block; those before it belong to another."""
    block: int
    """Keys of a block."""
    padded: int
    """How many keys there must be for every block to lie within them."""

    @property
    def steps(self) -> int | None:
        """How many blocks are visited in all; None if only the run can tell."""
        counts = self.full_counts, self.partial_counts
        return int(sum(c.sum() for c in counts)) if all(isinstance(c, np.ndarray) for c in counts) else None


def visits(head: Inputs, queries: Cut, block: int, skip: bool) -> Visits:
    """List where the blocks of so many keys begin that each query block visits: all, or those the mask lets be seen."""
    length = head.key.shape[0]
    keys, fine = cut(length, block), cut(length, GRAIN)
    known = not jax.tree.leaves(head.mask) and head.query_positions is None and head.key_positions is None
    if skip and known and head.mask is not None and block % GRAIN == 0 and length > block and length % GRAIN == 0:
        some, full = head.mask.classify(queries.places(head.rows()), fine.places(head.columns()), head.head)
        if isinstance(some, np.ndarray) and isinstance(full, np.ndarray):
            return _runs(some, full, block // GRAIN, length)
    lists = needed(head, queries, keys) if skip else every(queries, keys, head.mask is not None)
    full, partial = lists.full * keys.size, lists.partial * keys.size
    return Visits(full, lists.full_counts, partial, lists.partial_counts, partial, keys.size, keys.count * keys.size)


def _runs(some: np.ndarray, full: np.ndarray, width: int, length: int) -> Visits:
    """Cover what may be seen of each row of grains from left to right, by blocks of `width` grains."""
    count, grains = some.shape
    rows, index = np.arange(count), np.arange(grains)
    after = np.where(some, index, grains)[:, ::-1]
    after = np.pad(np.minimum.accumulate(after, axis=1)[:, ::-1], ((0, 0), (0, 1)), constant_values=grains)
    filled = np.pad(np.cumsum(full, axis=1), ((0, 0), (1, 0)))
    starts, firsts, wholes = [], [], []
    cursor = np.zeros(count, np.int64)
    while (after[rows, cursor] < grains).any():
        first = after[rows, cursor]
        start = np.minimum(first, grains - width)
        whole = (filled[rows, start + width] - filled[rows, start] == width) & (start == first)
        starts, firsts, wholes = [*starts, start], [*firsts, first], [*wholes, whole]
        cursor = np.minimum(first + width, grains)
    if not starts:
        starts, firsts, wholes = [np.zeros(count, int)], [np.full(count, grains)], [np.zeros(count, bool)]
    start, first, whole = (np.stack(x, axis=1) for x in (starts, firsts, wholes))
    real = first < grains
    (full_order, full_counts), (order, counts) = _listed(real & whole, np), _listed(real & ~whole, np)
    taken = [np.take_along_axis(a, o, axis=1) * GRAIN for a, o in ((start, full_order), (start, order), (first, order))]
    full_at, partial_at, first_at = (x.astype(np.int32) for x in taken)
    return Visits(full_at, full_counts, partial_at, counts, first_at, width * GRAIN, length)

"""Grids of blocks of queries and keys, and the schedule of key blocks that each query block computes.

If the mask is known at compile time, key blocks need not lie on a grid of their own size: a run of keys that a block of
queries may attend to is covered from its start, which may be any multiple of `KEY_ALIGNMENT`.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.backends.call import Head

KEY_ALIGNMENT = 128
"""Key blocks may start at multiples of this number."""


class BlockGrid(NamedTuple):
    """A sequence divided into `count` blocks of `size`, the last one padded."""

    length: int
    count: int
    size: int

    @property
    def padding(self) -> int:
        """The number of rows that pad the last block."""
        return self.count * self.size - self.length

    def split(self, rows: Array) -> Array:
        """Divide rows [length, ...] into blocks [count, size, ...], padded with the last row."""
        if self.padding:
            rows = jnp.pad(rows, [(0, self.padding)] + [(0, 0)] * (rows.ndim - 1), mode="edge")
        return rows.reshape(self.count, self.size, *rows.shape[1:])

    def split_positions(self, positions: Any) -> Any:
        """Divide positions [length] into blocks [count, size], padded with the last position; NumPy stays NumPy."""
        xp = np if isinstance(positions, np.ndarray) else jnp
        return xp.pad(positions, (0, self.padding), mode="edge").reshape(self.count, self.size)

    def valid(self) -> np.ndarray:
        """Return which rows are valid, [count, size]: False for padding."""
        return (np.arange(self.count * self.size) < self.length).reshape(self.count, self.size)

    def join(self, blocks: Array) -> Array:
        """Join blocks [count, size, ...] to rows [length, ...], without the padding."""
        return blocks.reshape(self.count * self.size, *blocks.shape[2:])[: self.length]


def block_grid(length: int, block_size: int) -> BlockGrid:
    """Divide a sequence into the fewest blocks of at most `block_size`, with sizes as equal as possible.

    >>> block_grid(300, 256)
    BlockGrid(length=300, count=2, size=150)
    """
    count = max(-(-length // block_size), 1)
    return BlockGrid(length, count, max(-(-length // count), 1))


class BlockIndices(NamedTuple):
    """The key blocks that each query block computes: indices [m, at most n], and the counts [m] of valid ones."""

    full: Any
    full_counts: Any
    """Blocks in which every query may attend to every key, so the mask need not be evaluated."""
    partial: Any
    partial_counts: Any


def all_blocks(queries: BlockGrid, keys: BlockGrid, masked: bool) -> BlockIndices:
    """Return all key blocks for each query block."""
    some = np.ones((queries.count, keys.count), bool)
    return _indices(some, some & (not masked), keys)


def unmasked_blocks(head: Head, queries: BlockGrid, keys: BlockGrid) -> BlockIndices:
    """Return the key blocks that are not fully masked; in NumPy if the mask is known at compile time."""
    if head.mask is None:
        return all_blocks(queries, keys, masked=False)
    query_blocks, key_blocks = queries.split_positions(head.rows()), keys.split_positions(head.columns())
    some, full = head.mask.classify(query_blocks, key_blocks, head.head_index)
    return _indices(some, full, keys)


def _indices(some: Any, full: Any, keys: BlockGrid) -> BlockIndices:
    xp = np if isinstance(some, np.ndarray) and isinstance(full, np.ndarray) else jnp
    if keys.padding:
        full = full & (xp.arange(keys.count) < keys.count - 1)[None, :]
    partial = some & ~full
    return BlockIndices(*_indices_of_true(full & some, xp), *_indices_of_true(partial, xp))


def _indices_of_true(selected: Any, xp: Any) -> tuple[Any, Any]:
    order = xp.argsort(~selected, axis=1, stable=True).astype(xp.int32)
    counts = selected.sum(axis=1, dtype=xp.int32)
    if xp is np:
        order = order[:, : max(int(counts.max()), 1)]
    return order, counts


class BlockSchedule(NamedTuple):
    """The first key of each key block that a query block computes: [m, at most n], and the counts [m] of valid ones."""

    full: Any
    full_counts: Any
    partial: Any
    partial_counts: Any
    first: Any
    """[m, n]: the first key that each partial block computes; earlier keys in it belong to another block."""
    block: int
    """Keys of a block."""
    padded: int
    """The number of keys including padding, with which no block exceeds the keys."""

    @property
    def steps(self) -> int | None:
        """The number of blocks computed; None if it depends on values known at run time."""
        counts = self.full_counts, self.partial_counts
        return int(sum(c.sum() for c in counts)) if all(isinstance(c, np.ndarray) for c in counts) else None


def block_schedule(head: Head, queries: BlockGrid, block: int, skip: bool) -> BlockSchedule:
    """Schedule the key blocks of each query block: all, or those that are not fully masked (`skip`)."""
    length = head.key.shape[0]
    keys, fine = block_grid(length, block), block_grid(length, KEY_ALIGNMENT)
    known = not jax.tree.leaves(head.mask) and head.query_positions is None and head.key_positions is None
    aligned = block % KEY_ALIGNMENT == 0 and length > block and length % KEY_ALIGNMENT == 0
    if skip and known and head.mask is not None and aligned:
        query_blocks, key_blocks = queries.split_positions(head.rows()), fine.split_positions(head.columns())
        some, full = head.mask.classify(query_blocks, key_blocks, head.head_index)
        if isinstance(some, np.ndarray) and isinstance(full, np.ndarray):
            return _aligned_schedule(some, full, block // KEY_ALIGNMENT, length)
    indices = unmasked_blocks(head, queries, keys) if skip else all_blocks(queries, keys, head.mask is not None)
    full, partial = indices.full * keys.size, indices.partial * keys.size
    counts = indices.full_counts, indices.partial_counts
    return BlockSchedule(full, counts[0], partial, counts[1], partial, keys.size, keys.count * keys.size)


def _aligned_schedule(some: np.ndarray, full: np.ndarray, width: int, length: int) -> BlockSchedule:
    """Cover the unmasked cells of each row from left to right, by blocks `width` cells wide.

    Args:
        some: [m, n], whether any logit of a cell of `KEY_ALIGNMENT` keys is unmasked.
        full: [m, n], whether all logits of the cell are.
    """
    count, cells = some.shape
    rows, index = np.arange(count), np.arange(cells)
    after = np.where(some, index, cells)[:, ::-1]
    after = np.pad(np.minimum.accumulate(after, axis=1)[:, ::-1], ((0, 0), (0, 1)), constant_values=cells)
    filled = np.pad(np.cumsum(full, axis=1), ((0, 0), (1, 0)))
    starts, firsts, fulls = [], [], []
    cursor = np.zeros(count, np.int64)
    while (after[rows, cursor] < cells).any():
        first = after[rows, cursor]
        start = np.minimum(first, cells - width)
        is_full = (filled[rows, start + width] - filled[rows, start] == width) & (start == first)
        starts, firsts, fulls = [*starts, start], [*firsts, first], [*fulls, is_full]
        cursor = np.minimum(first + width, cells)
    if not starts:
        starts, firsts, fulls = [np.zeros(count, int)], [np.full(count, cells)], [np.zeros(count, bool)]
    start, first, is_full = (np.stack(x, axis=1) for x in (starts, firsts, fulls))
    valid = first < cells
    full_order, full_counts = _indices_of_true(valid & is_full, np)
    order, counts = _indices_of_true(valid & ~is_full, np)
    pairs = (start, full_order), (start, order), (first, order)
    full_keys, partial_keys, first_keys = (
        (np.take_along_axis(a, o, axis=1) * KEY_ALIGNMENT).astype(np.int32) for a, o in pairs
    )
    return BlockSchedule(full_keys, full_counts, partial_keys, counts, first_keys, width * KEY_ALIGNMENT, length)

"""Cutting queries and keys into blocks, and the lists of key blocks that each query block needs."""

from typing import Any, NamedTuple

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
        """[length, ...] -> [count, size, ...], padded with zeros."""
        if self.padding:
            rows = jnp.pad(rows, [(0, self.padding)] + [(0, 0)] * (rows.ndim - 1))
        return rows.reshape(self.count, self.size, *rows.shape[1:])

    def places(self, positions: Any) -> Any:
        """[length] -> [count, size], the last position repeated; NumPy stays NumPy."""
        xp = np if isinstance(positions, np.ndarray) else jnp
        return xp.pad(positions, (0, self.padding), mode="edge").reshape(self.count, self.size)

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

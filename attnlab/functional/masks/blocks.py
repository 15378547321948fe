"""Blocks of positions, and reductions of boolean arrays over them."""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

Table = Any
"""A JAX or a NumPy array."""
BlockClasses = tuple[Table, Table]
"""(some, every): whether any pair of each block may attend, and whether all may; broadcast to [m, n]."""


class Blocks(NamedTuple):
    """The positions of m blocks of queries and n blocks of keys, for one head."""

    query: Table
    """Positions [m, bq], in any order."""
    key: Table
    """Positions [n, bk]."""
    head: Any

    @property
    def rows_and_columns(self) -> tuple[tuple[Table, Table], tuple[Table, Table]]:
        """The lowest and the highest position of each block of queries, [m, 1] both, and of keys, [1, n]."""
        query, key = self.query, self.key
        return (
            (query.min(axis=1)[:, None], query.max(axis=1)[:, None]),
            (key.min(axis=1)[None, :], key.max(axis=1)[None, :]),
        )


def narrowed(blocks: Table) -> Table:
    """Return NumPy positions as int32, the dtype of JAX's positions.

    >>> narrowed(np.arange(2)).dtype
    dtype('int32')
    """
    return blocks.astype(np.int32) if isinstance(blocks, np.ndarray) else blocks


def filled(classes: Table, shape: tuple[int, int]) -> Table:
    """Broadcast classes that are the same for all blocks of queries or of keys.

    >>> filled(np.array([[True]]), (1, 2)).tolist()
    [[True, True]]
    """
    broadcast = np.broadcast_to if isinstance(classes, np.ndarray) else jnp.broadcast_to
    return broadcast(classes, shape)


def reduced(where: Table, rows: Table | None, columns: Table | None) -> BlockClasses:
    """Reduce booleans [Q, K] over blocks of rows [m, bq] and columns [n, bk]; None for a single row or column.

    >>> some, every = reduced(np.array([[True, False], [True, True]]), np.array([[0, 1]]), np.array([[0], [1]]))
    >>> some.tolist(), every.tolist()
    ([[True, True]], [[True, False]])
    """
    some = every = where
    if rows is not None:
        some, every = some[rows].any(axis=1), every[rows].all(axis=1)
    if columns is not None:
        some, every = some[:, columns].any(axis=2), every[:, columns].all(axis=2)
    return some, every

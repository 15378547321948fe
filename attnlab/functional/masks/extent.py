"""Masks by length: padding and prefixes."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask, Structured
from attnlab.functional.masks.alignment import integer_array, map_size, static_integer
from attnlab.functional.masks.blocks import BlockClasses, Blocks
from attnlab.functional.masks.picture import CELLS, describe
from attnlab.functional.types import Extent, Positions, Where, known


@partial(register_dataclass, data_fields=["keys", "queries"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Lengths(Structured):
    """The mask of padding; made by `lengths`."""

    keys: Any
    queries: Any

    def __call__(self, positions: Positions) -> Where:
        where = jnp.ones((positions.query.size, positions.key.size), bool)
        if self.keys is not None:
            where &= positions.columns < self.keys.astype(positions.key.dtype)
        if self.queries is not None:
            where &= positions.rows < self.queries.astype(positions.query.dtype)
        return where

    def bounds(self, blocks: Blocks) -> BlockClasses:
        rows, columns = blocks.rows_and_columns
        sides = [(self.keys, columns), (self.queries, rows)]
        known = [(low, high, length.astype(low.dtype)) for length, (low, high) in sides if length is not None]
        some, every = [low < length for low, _, length in known], [high < length for _, high, length in known]
        return some[0] & some[-1], every[0] & every[-1]

    def check(self, queries: Extent, keys: Extent) -> None:
        for lengths, along in ((self.keys, keys), (self.queries, queries)):
            values = known(lengths)
            if values is None or not values.size:
                continue
            if values.min() < 0:
                raise ValueError(f"lengths: the number of {along.name} positions must be 0 or more, not {values.min()}")
            if not along.explicit and isinstance(along.count, int) and values.max() > along.count:
                raise ValueError(f"lengths: {values.max()} {along.name} positions, but the inputs have {along.count}")

    def leaf_ranks(self) -> tuple[int, ...]:
        return tuple(0 for length in (self.keys, self.queries) if length is not None)

    def reach(self) -> int:
        return max(CELLS, *(int(length.max()) for length in (self.keys, self.queries) if length is not None))

    def expression(self) -> str:
        keys = [] if self.keys is None else [describe(self.keys)]
        queries = [] if self.queries is None else [f"queries={describe(self.queries)}"]
        return f"lengths({', '.join(keys + queries)})"


def lengths(keys: Array | int | None = None, queries: Array | int | None = None) -> Mask:
    """Mask padding at the end: queries attend to keys below the given lengths only.

    may[i, j] = i < queries and j < keys

    Args:
        keys: number of valid keys (the source lengths), integers [*B], or [] for all examples; from 0 to the number of
            keys. Inside jit, where the values are unknown, a larger number means all keys and a negative number none.
        queries: number of valid queries, likewise; None for no padding. At least one of the two is required.
    Returns: a mask with the lengths as leaves, so that new lengths do not compile again.
    Numerics: an example of length 0 has empty rows: output 0, finite gradients.

    >>> lengths(jnp.array([1, 3])).dense(1, 3).astype(int).tolist()
    [[[1, 0, 0]], [[1, 1, 1]]]
    """
    if keys is None and queries is None:
        raise ValueError("lengths: keys, queries or both are required; write masks.lengths(n)")
    return Lengths(integer_array("lengths", keys), integer_array("lengths", queries))


@partial(register_dataclass, data_fields=["traced"], meta_fields=["static"])
@dataclass(frozen=True, repr=False, eq=False)
class Prefix(Structured):
    """The mask in which all queries attend to the first keys; made by `prefix`."""

    traced: Any
    static: int | None

    def _end(self, dtype: Any) -> Any:
        return self.traced.astype(dtype) if self.static is None else self.static

    def __call__(self, positions: Positions) -> Where:
        where = positions.columns < self._end(positions.key.dtype)
        return jnp.broadcast_to(where, (positions.query.size, positions.key.size))

    def bounds(self, blocks: Blocks) -> BlockClasses:
        _, (low, high) = blocks.rows_and_columns
        end = self._end(low.dtype)
        return low < end, high < end

    def leaf_ranks(self) -> tuple[int, ...]:
        return (0,) if self.static is None else ()

    def reach(self) -> int:
        return map_size((int(self.traced.max()) if self.static is None else self.static) // 2)

    def expression(self) -> str:
        return f"prefix({describe(self.traced) if self.static is None else self.static})"


def prefix(n: Array | np.ndarray | int) -> Mask:
    """Let every query attend to the first n keys; a prefix language model is `causal() | prefix(n)`.

    may[i, j] = j < n

    The same predicate as `lengths(n)`, but a Python integer stays static, so that empty blocks are known at compile
    time.

    Args:
        n: number of keys: a Python integer (static), or an integer array [*B], [] for all examples.
    Returns: a mask, with n as its leaf if n is an array.
    Reference: Raffel et al. 2020, section 3.2.1.

    >>> from attnlab.functional.masks.position import causal
    >>> (causal() | prefix(2)).dense(3, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    if isinstance(n, Array | np.ndarray):
        return Prefix(integer_array("prefix", n), None)
    return Prefix(None, static_integer("prefix", "n", n, minimum=0))

"""Masks: which query may attend to which key. Functions of positions; True means may attend; & | ~ combine them.

A mask is called with one head of one example, `mask(query_positions [q], key_positions [k], head [])`,
and answers [q k], so nothing of size T×S need be stored. It is a pytree: lengths and arrays are leaves
(new lengths compile nothing anew), the rest is static. A leaf may carry the batch axes *B in front. The
fields that hold leaves are `Any`, since JAX puts other things than arrays there.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool

from attnlab.functional.parts import as_part
from attnlab.functional.types import Head, KeyPositions, QueryPositions, Where


class Mask:
    """The base of every mask."""

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        """Tell which of these queries may attend to which of these keys."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it masks")

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> "Mask":
        """Return this mask for so many queries, keys and query heads (None: any); raise where it cannot be."""
        return self

    def leaf_ranks(self) -> tuple[int, ...]:
        """Return the rank of each leaf within one example; axes in front of it are batch axes."""
        return ()

    def batch_axes(self, batch: tuple[int, ...]) -> list[int | None]:
        """Return, leaf by leaf, 0 where it carries the batch axes and None where all examples share it."""
        axes: list[int | None] = []
        for leaf, rank in zip(jax.tree.leaves(self), self.leaf_ranks(), strict=True):
            front = leaf.shape[: leaf.ndim - rank]
            if front not in ((), batch):
                raise ValueError(f"a mask's array has batch axes {front}, the inputs have {batch}")
            axes.append(0 if front else None)
        return axes

    def dense(self, queries: int, keys: int, head: int = 0) -> Bool[Array, "*B q k"]:
        """Write the mask out: [queries, keys], with the batch axes that its arrays carry in front."""
        mask = self.fitted(queries, keys)
        leaves, treedef = jax.tree.flatten(mask)
        fronts = {leaf.shape[: leaf.ndim - rank] for leaf, rank in zip(leaves, mask.leaf_ranks(), strict=True)}
        batch = max(fronts, key=len, default=())
        axes = mask.batch_axes(batch)

        def one(leaves: list[Array]) -> Array:
            positions = jnp.arange(queries, dtype=jnp.int32), jnp.arange(keys, dtype=jnp.int32)
            return jax.tree.unflatten(treedef, leaves)(*positions, jnp.int32(head))

        for _ in batch:
            one = jax.vmap(one, in_axes=(axes,))
        return one(leaves)

    def __and__(self, other: "Mask") -> "Mask":
        return And(self, other) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, other) if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> "Mask":
        return Not(self)


class _Both(Mask):
    """Two masks combined."""

    left: Mask
    right: Mask

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> Mask:
        return type(self)(self.left.fitted(queries, keys, heads), self.right.fitted(queries, keys, heads))  # pyright: ignore

    def leaf_ranks(self) -> tuple[int, ...]:
        return self.left.leaf_ranks() + self.right.leaf_ranks()


@partial(register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True)
class And(_Both):
    """May attend where both masks say so; written left & right."""

    left: Mask
    right: Mask

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        return self.left(query_positions, key_positions, head) & self.right(query_positions, key_positions, head)


@partial(register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True)
class Or(_Both):
    """May attend where either mask says so; written left | right."""

    left: Mask
    right: Mask

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        return self.left(query_positions, key_positions, head) | self.right(query_positions, key_positions, head)


@partial(register_dataclass, data_fields=["mask"], meta_fields=[])
@dataclass(frozen=True)
class Not(Mask):
    """May attend where the mask says not; written ~mask."""

    mask: Mask

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        return ~self.mask(query_positions, key_positions, head)

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> Mask:
        return Not(self.mask.fitted(queries, keys, heads))

    def leaf_ranks(self) -> tuple[int, ...]:
        return self.mask.leaf_ranks()


@partial(register_dataclass, data_fields=[], meta_fields=["alignment"])
@dataclass(frozen=True)
class Causal(Mask):
    """No query sees a later key; made by `causal`."""

    alignment: Literal["lower_right", "upper_left"] | int | None

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        if not isinstance(self.alignment, int):
            raise ValueError("causal: evaluated before the number of queries and keys is known; call .fitted(T, S)")
        return key_positions[None, :] <= query_positions[:, None] + self.alignment

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> Mask:
        if isinstance(self.alignment, int):
            return self
        if self.alignment is None and queries != keys:
            raise ValueError(
                f'causal: {queries} queries and {keys} keys need an alignment: "lower_right" (the last query sees '
                f'all keys), "upper_left" (the first query sees the first key alone), or an offset'
            )
        return Causal(keys - queries if self.alignment == "lower_right" else 0)


def causal(alignment: Literal["lower_right", "upper_left"] | int | None = None) -> Mask:
    """Let query i attend to the keys up to its own position.

    may[i, j] = j ≤ i + offset

    Args:
        alignment: where the diagonal lies when the numbers of queries and keys, T and S, differ:
            "upper_left" is offset 0, "lower_right" offset S − T (the last query sees all keys), a number
            is the offset itself. None is right only for T = S, and an error otherwise.
    Returns: a mask without arrays.
    Numerics: with a negative offset the first queries see no key: their output is 0.
    Reference: Vaswani et al. 2017, section 3.2.3.

    >>> causal("lower_right").dense(2, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    valid = alignment in (None, "lower_right", "upper_left") or type(alignment) is int
    if not valid:
        raise ValueError(f'causal: alignment {alignment!r} is none of "lower_right", "upper_left", an int, None')
    return Causal(alignment)


@partial(register_dataclass, data_fields=["keys", "queries"], meta_fields=[])
@dataclass(frozen=True)
class Lengths(Mask):
    """Padding is not attended to; made by `lengths`."""

    keys: Any
    queries: Any

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        where = jnp.ones((query_positions.size, key_positions.size), bool)
        if self.keys is not None:
            where &= (key_positions < self.keys.astype(key_positions.dtype))[None, :]
        if self.queries is not None:
            where &= (query_positions < self.queries.astype(query_positions.dtype))[:, None]
        return where

    def leaf_ranks(self) -> tuple[int, ...]:
        return tuple(0 for length in (self.keys, self.queries) if length is not None)


def lengths(keys: Array | int | None = None, queries: Array | int | None = None) -> Mask:
    """Let the real queries attend to the real keys, and nothing to or from padding at the end.

    may[i, j] = i < queries and j < keys

    Args:
        keys: number of real keys (the source lengths), a whole number [*B], or [] for one that all examples share.
        queries: number of real queries, likewise; None when none is padding. At least one of the two is needed.
    Returns: a mask with the lengths as leaves: new lengths compile nothing anew.
    Numerics: an example of length 0 has empty rows: output 0, finite gradients.

    >>> lengths(jnp.array([1, 3])).dense(1, 3).astype(int).tolist()
    [[[1, 0, 0]], [[1, 1, 1]]]
    """
    if keys is None and queries is None:
        raise ValueError("lengths: give the number of keys, of queries, or both")
    return Lengths(_whole(keys), _whole(queries))


def _whole(length: Array | int | None) -> Array | None:
    if length is None:
        return None
    length = jnp.asarray(length)
    if not jnp.issubdtype(length.dtype, jnp.integer):
        raise ValueError(f"lengths: whole numbers are needed, not {length.dtype}")
    return length


@partial(register_dataclass, data_fields=["where"], meta_fields=["axes"])
@dataclass(frozen=True)
class Dense(Mask):
    """A mask that is written out; made by `array`."""

    where: Any
    axes: tuple[str, ...]

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        where = self.where
        if "h" in self.axes:
            where = where[head]
        where = where[query_positions] if "q" in self.axes else where[None]
        where = where[:, key_positions] if "k" in self.axes else where[:, None]
        return jnp.broadcast_to(where, (query_positions.size, key_positions.size))

    def fitted(self, queries: int, keys: int, heads: int | None = None) -> Mask:
        sizes = dict(zip(reversed(self.axes), reversed(self.where.shape), strict=False))
        for axis, size in (("q", queries), ("k", keys), ("h", heads)):
            if size is not None and sizes.get(axis, size) != size:
                raise ValueError(f"array: axis {axis} of the mask has {sizes[axis]} positions, the inputs have {size}")
        return self

    def leaf_ranks(self) -> tuple[int, ...]:
        return (len([axis for axis in self.axes if axis != "b"]),)


def array(where: Array, axes: str = "q k") -> Mask:
    """Make a mask of an array of truth values, naming its axes.

    Args:
        where: True where a query may attend to a key.
        axes: what its axes are, in this order and apart by spaces: b (all batch axes *B), h (query heads),
            q, k. One that is left out is shared: "b k" is a padding mask.
    Returns: a mask with the array as its leaf.

    >>> array(jnp.array([True, False]), axes="k").dense(2, 2).astype(int).tolist()
    [[1, 0], [1, 0]]
    """
    names = tuple(axes.split())
    if names != tuple(name for name in "bhqk" if name in names):
        raise ValueError(f'array: axes {axes!r} are not some of "b h q k" in this order')
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise ValueError(f"array: truth values are needed, not {where.dtype} (True = may attend)")
    needed = len([name for name in names if name != "b"])
    if where.ndim < needed or ("b" not in names and where.ndim > needed):
        raise ValueError(f"array: shape {where.shape} does not have the axes {axes!r}")
    return Dense(where, names)


@partial(register_dataclass, data_fields=["fn"], meta_fields=[])
@dataclass(frozen=True)
class FromFn(Mask):
    """A mask by a function of the positions; made by `from_fn`."""

    fn: Callable[..., Array]

    def __call__(self, query_positions: QueryPositions, key_positions: KeyPositions, head: Head) -> Where:
        where = self.fn(query_positions[:, None], key_positions[None, :], head)
        return jnp.broadcast_to(where, (query_positions.size, key_positions.size))

    def leaf_ranks(self) -> tuple[int, ...]:
        return tuple(leaf.ndim for leaf in jax.tree.leaves(self.fn))


def from_fn(fn: Callable[[Array, Array, Array], Array]) -> Mask:
    """Make a mask of a function `fn(query_position, key_position, head)` that answers True for may attend.

    Args:
        fn: takes positions [q, 1] and [1, k] and a head [], answers what broadcasts to [q, k]. Arrays that it
            needs are bound with `jax.tree_util.Partial`; all examples share them.
    Returns: a mask with the bound arrays as leaves.

    >>> from_fn(lambda query, key, head: (query - key) % 2 == 0).dense(2, 3).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    return FromFn(as_part(fn))

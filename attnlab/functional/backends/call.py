"""A call of `attention` as a backend receives it: arrays with named leading axes, and options.

The leading axes of every array have one-letter names: b examples (all batch axes flattened), t queries, s keys, k key
heads, g query heads that share a key head. Mapping over heads and sharding over devices use these names.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh
from jax.tree_util import register_dataclass

from attnlab.functional.extras import Extra
from attnlab.functional.masks import Mask
from attnlab.functional.parts import MappedArray, flatten_mapped
from attnlab.functional.types import Positions, Size

T = TypeVar("T")


@register_dataclass
@dataclass(frozen=True, eq=False)
class Operands:
    """The arrays and functions of a call, in the shapes of the arguments of `attention`; a pytree."""

    query: Any
    key: Any
    value: Any
    """None if only weights are computed."""
    score: Any
    mods: Any
    normalizer: Any
    mask: Any
    rng: Any
    """Rng of dropout; None for no dropout."""
    query_positions: Any
    """None for 0 … T − 1, which are known at compile time."""
    key_positions: Any
    """None for 0 … S − 1."""


@register_dataclass
@dataclass(frozen=True, eq=False)
class Head(Operands):
    """The operands of one head of one example: query [T, D], key [S, E], value [S, V].

    Inside a `Call` every array still has the leading axes of heads and examples, as a `MappedArray`; `map_heads` maps
    over them.
    """

    head_index: Any
    """Index of the query head."""
    example_index: Any
    """Index of the example, row-major over the batch axes."""

    def rows(self) -> Any:
        """Return the positions of the queries, as a NumPy array if they are known at compile time."""
        return _arange(self.query.shape[0]) if self.query_positions is None else self.query_positions

    def columns(self) -> Any:
        """Return the positions of the keys, likewise."""
        return _arange(self.key.shape[0]) if self.key_positions is None else self.key_positions

    def positions(self) -> Positions:
        """Return the positions of this head's logits, as JAX arrays."""
        rows = _traced_positions(self.query, self.query_positions)
        columns = _traced_positions(self.key, self.key_positions)
        return Positions(rows, columns, self.head_index, self.example_index)


def _arange(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.int32)


def _traced_positions(array: Any, positions: Any) -> Array:
    return jnp.arange(array.shape[0], dtype=jnp.int32) if positions is None else jnp.asarray(positions)


@dataclass(frozen=True)
class Options:
    """The static options of a call; hashable."""

    dropout_rate: float = 0.0
    returns: tuple[Extra, ...] = ()
    """Extras of all rows and heads, which the backend returns."""
    selected: tuple[Extra, ...] = ()
    """Extras of some rows or heads, each computed by a separate call."""
    block_size: tuple[int, int] | None = None
    mesh: Mesh | None = None
    device: str = "cpu"
    """The kind of device (`devices.device_kind`), by which a backend picks its tuning."""


@partial(register_dataclass, data_fields=["heads"], meta_fields=["options"])
@dataclass(frozen=True, eq=False)
class Call:
    """The input of a backend: the operands of all heads, and options."""

    heads: Head
    options: Options

    @property
    def sizes(self) -> "Sizes":
        """The length of every axis."""
        examples, queries, key_heads, group, width = self.heads.query.array.shape
        _, keys, _, key_width = self.heads.key.array.shape
        value_width = None if self.heads.value is None else self.heads.value.array.shape[-1]
        return Sizes(examples, queries, keys, key_heads, group, width, key_width, value_width)

    @property
    def itemsize(self) -> int:
        """Bytes of a logit."""
        return max(self.heads.query.array.dtype.itemsize, 4)

    def with_options(self, **changes: Any) -> "Call":
        """Return the call with other options."""
        return replace(self, options=replace(self.options, **changes))

    def once(self, function: Callable[["Call"], T]) -> T:
        """Return `function(self)`, computed at most once for this call."""
        if function not in self._results:
            self._results[function] = function(self)
        return self._results[function]

    @cached_property
    def _results(self) -> dict[Callable[["Call"], Any], Any]:
        return {}


@dataclass(frozen=True)
class Sizes:
    """The length of every axis of a call; under `jax.export` examples, queries and keys may be symbolic."""

    examples: Size
    queries: Size
    keys: Size
    key_heads: int
    group: int
    """Query heads that share a key head."""
    width: int
    key_width: int
    value_width: int | None

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.key_heads * self.group

    @property
    def total_heads(self) -> int:
        """Number of query heads of all examples; of one example if the number of examples is symbolic."""
        return self.heads * (self.examples if isinstance(self.examples, int) else 1)

    @property
    def symbolic(self) -> bool:
        """Whether the number of queries or keys is unknown at compile time."""
        return not (isinstance(self.queries, int) and isinstance(self.keys, int))

    @property
    def logits(self) -> int:
        """Number of logits of all heads; of one example if the number of examples is symbolic."""
        return self.total_heads * self.queries * self.keys

    def __str__(self) -> str:
        values = "" if self.value_width is None else f", values of width {self.value_width}"
        return (
            f"examples: {self.examples}; queries: {self.queries} in {self.heads} heads of width {self.width}; "
            f"keys: {self.keys} in {self.key_heads} heads of width {self.key_width}{values}"
        )


def fold(operands: Operands) -> Head:
    """Flatten the batch axes of every array, split its head axis into k and g, and name its leading axes."""
    query, key, value = operands.query, operands.key, operands.value
    batch, (queries, heads) = query.shape[:-3], query.shape[-3:-1]
    keys, key_heads = key.shape[-3:-1]
    examples, group = math.prod(batch), heads // key_heads

    def fold_part(name: str, part: Any) -> Any:
        arrays, axes, structure = flatten_mapped(part)
        pairs = zip(arrays, axes, strict=True)
        folded = [_fold_axes(name, array, front, batch, (key_heads, group)) for array, front in pairs]
        return jax.tree.unflatten(structure, folded)

    def fold_positions(positions: Array | None, length: Size, axis: str) -> Any:
        if positions is None:
            return None
        positions = positions.astype(jnp.int32)
        if positions.ndim == 1:
            return MappedArray(positions, (axis,))
        return MappedArray(positions.reshape(examples, length), ("b", axis))

    return Head(
        query=MappedArray(query.reshape(examples, queries, key_heads, group, query.shape[-1]), ("b", "t", "k", "g")),
        key=MappedArray(key.reshape(examples, *key.shape[-3:]), ("b", "s", "k")),
        value=None if value is None else MappedArray(value.reshape(examples, *value.shape[-3:]), ("b", "s", "k")),
        score=fold_part("score", operands.score),
        mods=tuple(fold_part("mods", mod) for mod in operands.mods),
        normalizer=fold_part("normalizer", operands.normalizer),
        mask=_fold_mask(operands.mask, batch, (key_heads, group)),
        rng=operands.rng,
        query_positions=fold_positions(operands.query_positions, queries, "t"),
        key_positions=fold_positions(operands.key_positions, keys, "s"),
        head_index=MappedArray(jnp.arange(heads, dtype=jnp.int32).reshape(key_heads, group), ("k", "g")),
        example_index=MappedArray(jnp.arange(examples, dtype=jnp.int32), ("b",)),
    )


def _fold_mask(mask: Mask | None, batch: tuple[Size, ...], heads: tuple[int, int]) -> Any:
    if mask is None:
        return None
    leaves, structure = jax.tree.flatten(mask)
    axes = [() if axis is None else ("b",) for axis in mask.batch_axes(batch)]
    folded = [_fold_axes("mask", leaf, front, batch, heads) for leaf, front in zip(leaves, axes, strict=True)]
    return jax.tree.unflatten(structure, folded)


def _fold_axes(name: str, array: Any, axes: tuple[str, ...], batch: tuple[Size, ...], heads: tuple[int, int]) -> Any:
    """Check an array against its axes "b" and "h", and replace them by an axis of examples and two axes of heads.

    An axis of size 1 is shared by all; if all axes of a letter have size 1, the letter is dropped.
    """
    if not axes:
        return array
    array, lengths = jnp.asarray(array), {"b": batch, "h": (math.prod(heads),)}
    expected = sum((lengths[axis] for axis in axes), ())
    front, rest = array.shape[: len(expected)], array.shape[len(expected) :]
    if len(front) < len(expected) or any(size not in (1, count) for size, count in zip(front, expected, strict=True)):
        raise ValueError(
            f"attention: an array of the {name} mapped over {' '.join(axes)!r} must begin with the axes {expected}; "
            f"its shape is {array.shape}"
        )
    folded, kept = {"b": (math.prod(batch),), "h": heads}, []
    for axis in axes:
        sizes, front = front[: len(lengths[axis])], front[len(lengths[axis]) :]
        if sizes == lengths[axis] or any(size != 1 for size in sizes):
            kept.append(axis)
    if kept != list(axes) or array.shape[: len(expected)] != expected:
        shared = [size if axis in kept else 1 for axis in axes for size in lengths[axis]]
        array = jnp.broadcast_to(array, (*shared, *rest))
    array = array.reshape(*(size for axis in kept for size in folded[axis]), *rest)
    letters = {"b": ("b",), "h": ("k", "g")}
    return MappedArray(array, sum((letters[axis] for axis in kept), ())) if kept else array


def select(call: Call, rows: tuple[int, ...] | None, heads: tuple[int, ...] | None) -> Call:
    """Return the call for some queries and query heads, without values; each selected head has its own key head."""
    sizes, operands = call.sizes, call.heads
    if not isinstance(sizes.queries, int):
        raise ValueError(
            f"extras.weights: the number of queries, {sizes.queries}, must be known at compile time to select some; "
            'write returns=("weights",) for all of them'
        )
    rows = tuple(range(sizes.queries)) if rows is None else rows
    heads = tuple(range(sizes.heads)) if heads is None else heads
    for name, indices, count in (("row", rows, sizes.queries), ("head", heads, sizes.heads)):
        for index in indices:
            if not 0 <= index < count:
                raise ValueError(f"extras.weights: {name} {index} does not exist; valid indices are 0 to {count - 1}")

    def take(leaf: Any) -> Any:
        if not isinstance(leaf, MappedArray):
            return leaf
        array, axes = leaf.array, leaf.axes
        if "g" in axes:
            axis = axes.index("k")
            array = array.reshape(*array.shape[:axis], sizes.heads, *array.shape[axis + 2 :])
            array = jnp.expand_dims(jnp.take(array, jnp.asarray(heads), axis=axis), axis + 1)
        elif "k" in axes:
            array = jnp.take(array, jnp.asarray(heads) // sizes.group, axis=axes.index("k"))
        if "t" in axes:
            array = jnp.take(array, jnp.asarray(rows), axis=axes.index("t"))
        return MappedArray(array, axes)

    positions = operands.query_positions
    if positions is None:
        positions = MappedArray(jnp.arange(sizes.queries, dtype=jnp.int32), ("t",))
    operands = replace(operands, value=None, rng=None, query_positions=positions)
    operands = jax.tree.map(take, operands, is_leaf=lambda node: isinstance(node, MappedArray))
    return replace(call, heads=operands)

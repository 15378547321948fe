"""What an implementation is given, and how a function of one head of one example is mapped over all of them.

Every array is marked with the axes it carries in front, by one letter each: b the examples (all batch axes in
one), t the queries, s the keys, k the key heads, g the query heads that share a key head. Mapping over heads and
splitting over devices both read these marks.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.masks import Mask
from attnlab.functional.parts import Each, Part, marked
from attnlab.functional.types import Positions, Size, accumulation_dtype
from attnlab.functional.varying import vary_like

Mapped = Callable[[list[Array]], Any]


class Inputs(NamedTuple):
    """The arrays of a call, marked; or, inside `each_head`, what one head of one example sees of them."""

    query: Any
    """[T, D]"""
    key: Any
    """[S, E]"""
    value: Any
    """[S, V], or None where only weights are asked for."""
    score: Any
    mods: Any
    normalizer: Any
    mask: Any
    rng: Any
    """For dropout, or None."""
    query_positions: Any
    """[T], or None for 0 … T − 1, known while compiling."""
    key_positions: Any
    """[S], or None likewise."""
    head: Any
    example: Any

    def rows(self) -> Any:
        """Positions of the queries: a NumPy array where they are known while compiling."""
        return _counted(self.query.shape[0]) if self.query_positions is None else self.query_positions

    def columns(self) -> Any:
        """Positions of the keys, likewise."""
        return _counted(self.key.shape[0]) if self.key_positions is None else self.key_positions

    def positions(self) -> Positions:
        """Where this head's logits lie."""
        rows = _placed(self.query, self.query_positions)
        return Positions(rows, _placed(self.key, self.key_positions), self.head, self.example)


def _counted(length: int) -> np.ndarray:
    return np.arange(length, dtype=np.int32)


def _placed(array: Any, positions: Any) -> Array:
    """Return the positions of an array's rows, counted by the program where they are not given."""
    return jnp.arange(array.shape[0], dtype=jnp.int32) if positions is None else jnp.asarray(positions)


class Call(NamedTuple):
    """A call's arrays as they were given; a pytree."""

    query: Any
    key: Any
    value: Any
    """None where only weights are asked for."""
    score: Any
    mods: Any
    normalizer: Any
    mask: Any
    rng: Any
    query_positions: Any
    key_positions: Any


def inputs(
    query: Array,
    key: Array,
    value: Array | None,
    score: Part,
    mods: tuple[Part, ...],
    normalizer: Part,
    mask: Mask | None,
    rng: Array | None,
    query_positions: Array | None,
    key_positions: Array | None,
) -> Inputs:
    """Gather a call's arrays, [*B, T, N, D] and so on, in the one form that implementations take."""
    batch, (queries, heads) = query.shape[:-3], query.shape[-3:-1]
    keys, key_heads = key.shape[-3:-1]
    examples = math.prod(batch)
    group = heads // key_heads

    def fold(what: str, array: Any, axes: tuple[str, ...]) -> Any:
        """Check an array against the axes it is marked with; give it one axis of examples, two of heads.

        Axes of size 1 are shared: where all that a mark stands for are, the mark is dropped.
        """
        if not axes:
            return array
        array, whole = jnp.asarray(array), {"b": batch, "h": (heads,)}
        expected = sum((whole[axis] for axis in axes), ())
        front, rest = array.shape[: len(expected)], array.shape[len(expected) :]
        if len(front) < len(expected) or any(size not in (1, all) for size, all in zip(front, expected, strict=True)):
            raise ValueError(
                f"attention: an array of the {what} marked {' '.join(axes)!r} must begin with the axes {expected}, "
                f"its shape is {array.shape}"
            )
        folded, kept = {"b": (examples,), "h": (key_heads, group)}, []
        for axis in axes:
            own, front = front[: len(whole[axis])], front[len(whole[axis]) :]
            if own == whole[axis] or any(size != 1 for size in own):
                kept.append(axis)
        if kept != list(axes) or array.shape[: len(expected)] != expected:
            shared = [size if axis in kept else 1 for axis in axes for size in whole[axis]]
            array = jnp.broadcast_to(array, (*shared, *rest))
        array = array.reshape(*(size for axis in kept for size in folded[axis]), *rest)
        letters = {"b": ("b",), "h": ("k", "g")}
        return Each(array, sum((letters[axis] for axis in kept), ())) if kept else array

    def part(what: str, tree: Any) -> Any:
        arrays, axes, structure = marked(tree)
        return jax.tree.unflatten(structure, [fold(what, *pair) for pair in zip(arrays, axes, strict=True)])

    def where(mask: Mask) -> Any:
        leaves, structure = jax.tree.flatten(mask)
        fronts = [() if axis is None else ("b",) for axis in mask.batch_axes(batch)]
        return jax.tree.unflatten(structure, [fold("mask", *pair) for pair in zip(leaves, fronts, strict=True)])

    def places(positions: Array | None, length: Size, axis: str) -> Any:
        if positions is None:
            return None
        positions = positions.astype(jnp.int32)
        if positions.ndim == 1:
            return Each(positions, (axis,))
        return Each(positions.reshape(examples, length), ("b", axis))

    return Inputs(
        query=Each(query.reshape(examples, queries, key_heads, group, query.shape[-1]), ("b", "t", "k", "g")),
        key=Each(key.reshape(examples, *key.shape[-3:]), ("b", "s", "k")),
        value=None if value is None else Each(value.reshape(examples, *value.shape[-3:]), ("b", "s", "k")),
        score=part("score", score),
        mods=tuple(part("mods", mod) for mod in mods),
        normalizer=part("normalizer", normalizer),
        mask=None if mask is None else where(mask),
        rng=rng,
        query_positions=places(query_positions, queries, "t"),
        key_positions=places(key_positions, keys, "s"),
        head=Each(jnp.arange(heads, dtype=jnp.int32).reshape(key_heads, group), ("k", "g")),
        example=Each(jnp.arange(examples, dtype=jnp.int32), ("b",)),
    )


def chosen(given: Inputs, rows: tuple[int, ...] | None, heads: tuple[int, ...] | None) -> Inputs:
    """Keep some queries and query heads, without values: heads that shared keys get a copy each."""
    _, queries, key_heads, group, _ = given.query.array.shape
    if not isinstance(queries, int):
        raise ValueError(
            f'extras.weights: {queries} queries are not known while compiling; ask for "weights", all of them'
        )
    rows = tuple(range(queries)) if rows is None else rows
    heads = tuple(range(key_heads * group)) if heads is None else heads
    for what, asked, count in (("row", rows, queries), ("head", heads, key_heads * group)):
        for index in asked:
            if not 0 <= index < count:
                raise ValueError(f"extras.weights: there is no {what} {index}; they go from 0 to {count - 1}")

    def some(leaf: Any) -> Any:
        if not isinstance(leaf, Each):
            return leaf
        array, axes = leaf.array, leaf.axes
        if "g" in axes:
            at = axes.index("k")
            array = array.reshape(*array.shape[:at], key_heads * group, *array.shape[at + 2 :])
            array = jnp.expand_dims(jnp.take(array, jnp.asarray(heads), axis=at), at + 1)
        elif "k" in axes:
            array = jnp.take(array, jnp.asarray(heads) // group, axis=axes.index("k"))
        if "t" in axes:
            array = jnp.take(array, jnp.asarray(rows), axis=axes.index("t"))
        return Each(array, axes)

    at = Each(jnp.arange(queries, dtype=jnp.int32), ("t",)) if given.query_positions is None else given.query_positions
    given = given._replace(value=None, rng=None, query_positions=at)
    return jax.tree.map(some, given, is_leaf=lambda node: isinstance(node, Each))


def each_head(one: Callable[[Any], Any], given: Any, in_turn: bool) -> Any:
    """Map a function of one head of one example over all: its results get the axes [b, k, g] in front.

    Args:
        one: takes what `given` is, each array without the axes b, k and g that it is marked with.
        in_turn: one head at a time, so that what one needs stays in cache; otherwise all at once.
    """
    arrays, axes, structure = marked(given)
    arrays = [jnp.asarray(x) for x in arrays]

    function: Mapped = lambda arrays: one(jax.tree.unflatten(structure, arrays))  # noqa: E731
    for place, letter in reversed(list(enumerate("bkg"))):
        where = [_place(own, letter, "bkg"[:place]) for own in axes]
        function = _in_turn(function, where) if in_turn else jax.vmap(function, in_axes=(where,))
    return function(arrays)


def each_head_summed(one: Callable[[Any], list[Array]], given: Any, like: list[Each], in_turn: bool) -> list[Array]:
    """Map a function over all heads of which each result belongs to an array: stacked where the array has the axis.

    Args:
        one: returns an array shaped like each one of `like`, without its axes b, k and g. Over an axis that an
            array does not carry, results are added up: such is the gradient of what heads or examples share.
    """
    arrays, axes, structure = marked(given)
    arrays = [jnp.asarray(x) for x in arrays]

    function: Mapped = lambda arrays: one(jax.tree.unflatten(structure, arrays))  # noqa: E731
    for place, letter in reversed(list(enumerate("bkg"))):
        where = [_place(own, letter, "bkg"[:place]) for own in axes]
        out = [_place(x.axes, letter, "bkg"[:place]) for x in like]
        within = [_without(x, "bkg"[: place + 1]) for x in like]
        function = _summed(function, where, out, within, in_turn)
    # Added up in float32 at least, and rounded once.
    return [x.astype(of.array.dtype) for x, of in zip(function(arrays), like, strict=True)]


def _place(own: tuple[str, ...], letter: str, outer: str) -> int | None:
    """Return where the axis stands once the outer ones are mapped over; None if the array has it not."""
    left = [axis for axis in own if axis not in outer]
    return left.index(letter) if letter in left else None


def _without(array: Each, letters: str) -> jax.ShapeDtypeStruct:
    """Return what is left of the array's shape inside the maps over these axes."""
    front = [length for axis, length in zip(array.axes, array.array.shape, strict=False) if axis not in letters]
    return jax.ShapeDtypeStruct((*front, *array.array.shape[len(array.axes) :]), accumulation_dtype(array.array))


def _slices(arrays: list[Array], axes: list[int | None]) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """Return the arrays that have the axis, it in front, and what puts a slice of each back among the others."""
    fronts = [jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True) if axis is not None]

    def merged(slices: list[Array]) -> list[Array]:
        remaining = iter(slices)
        return [x if axis is None else next(remaining) for x, axis in zip(arrays, axes, strict=True)]

    return fronts, merged


def _in_turn(function: Mapped, axes: list[int | None]) -> Mapped:
    """Do as `jax.vmap(function, in_axes=(axes,))`, one slice after the other."""

    def mapped(arrays: list[Array]) -> Any:
        fronts, merged = _slices(arrays, axes)
        if fronts[0].shape[0] == 1:
            return jax.tree.map(lambda x: x[None], function(merged([x[0] for x in fronts])))
        return jax.lax.map(lambda slices: function(merged(slices)), fronts)

    return mapped


def _summed(
    function: Mapped, axes: list[int | None], out: list[int | None], within: list[jax.ShapeDtypeStruct], in_turn: bool
) -> Mapped:
    """Map over one axis, stacking each result at its place in `out`, or adding up where that is None."""

    def mapped(arrays: list[Array]) -> list[Array]:
        fronts, merged = _slices(arrays, axes)
        if fronts[0].shape[0] == 1:
            found = function(merged([x[0] for x in fronts]))
            return [x if axis is None else jnp.expand_dims(x, axis) for x, axis in zip(found, out, strict=True)]
        if not in_turn:
            found = jax.vmap(lambda slices: function(merged(slices)))(fronts)
            return [x.sum(0) if axis is None else jnp.moveaxis(x, 0, axis) for x, axis in zip(found, out, strict=True)]

        def step(sums: list[Array], slices: list[Array]) -> tuple[list[Array], list[Array]]:
            found = function(merged(slices))
            added = [x for x, axis in zip(found, out, strict=True) if axis is None]
            stacked = [x for x, axis in zip(found, out, strict=True) if axis is not None]
            return [a + b for a, b in zip(sums, added, strict=True)], stacked

        zeros = [jnp.zeros(of.shape, of.dtype) for of, axis in zip(within, out, strict=True) if axis is None]
        sums, stacked = (iter(x) for x in jax.lax.scan(step, vary_like(zeros, fronts), fronts))
        return [next(sums) if axis is None else jnp.moveaxis(next(stacked), 0, axis) for axis in out]

    return mapped

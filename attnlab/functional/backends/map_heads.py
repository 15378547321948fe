"""Mapping a function of one head of one example over all heads and examples, by the named axes of the operands."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from attnlab.functional.parts import MappedArray, flatten_mapped
from attnlab.functional.types import accumulation_dtype
from attnlab.functional.varying import vary_like

AXES = "bkg"
"""The axes to map over, from the outermost: examples, key heads, query heads of a key head."""
Mapped = Callable[[list[Array]], Any]


def map_heads(function: Callable[[Any], Any], operands: Any, sequential: bool) -> Any:
    """Map a function of one head of one example over all heads; its results get the leading axes [b, k, g].

    Args:
        function: takes a tree like `operands` whose arrays lack the axes b, k and g.
        operands: a tree of arrays; those that are not `MappedArray`s are shared by all heads.
        sequential: True to compute one head after another, so that its blocks stay in cache; False for all at once.
    """
    arrays, axes, structure = flatten_mapped(operands)
    arrays = [jnp.asarray(x) for x in arrays]

    mapped: Mapped = lambda arrays: function(jax.tree.unflatten(structure, arrays))  # noqa: E731
    for depth, letter in reversed(list(enumerate(AXES))):
        in_axes = [_axis_index(front, letter, AXES[:depth]) for front in axes]
        mapped = _map(mapped, in_axes, sequential)
    return mapped(arrays)


def map_heads_summed(
    function: Callable[[Any], list[Array]], operands: Any, like: list[MappedArray], sequential: bool
) -> list[Array]:
    """Map a function over all heads, and sum each result over the axes that its array in `like` lacks.

    The results are gradients: the gradient of an array shared by heads or examples is the sum of their gradients.

    Args:
        function: returns, for each array of `like`, an array of its shape without the axes b, k and g.
        operands: as in `map_heads`.
        like: the arrays whose gradients are computed.
        sequential: as in `map_heads`.
    """
    arrays, axes, structure = flatten_mapped(operands)
    arrays = [jnp.asarray(x) for x in arrays]

    mapped: Mapped = lambda arrays: function(jax.tree.unflatten(structure, arrays))  # noqa: E731
    for depth, letter in reversed(list(enumerate(AXES))):
        in_axes = [_axis_index(front, letter, AXES[:depth]) for front in axes]
        out_axes = [_axis_index(x.axes, letter, AXES[:depth]) for x in like]
        inner = [_inner_shape(x, AXES[: depth + 1]) for x in like]
        mapped = _summed_map(mapped, in_axes, out_axes, inner, sequential)
    # Summed in float32 at least, and rounded once.
    return [x.astype(of.array.dtype) for x, of in zip(mapped(arrays), like, strict=True)]


def _axis_index(axes: tuple[str, ...], letter: str, outer: str) -> int | None:
    """Return the index of an axis after the outer axes are mapped over; None if the array lacks it."""
    remaining = [axis for axis in axes if axis not in outer]
    return remaining.index(letter) if letter in remaining else None


def _inner_shape(array: MappedArray, letters: str) -> jax.ShapeDtypeStruct:
    """Return the shape of the array inside the maps over these axes."""
    front = [length for axis, length in zip(array.axes, array.array.shape, strict=False) if axis not in letters]
    return jax.ShapeDtypeStruct((*front, *array.array.shape[len(array.axes) :]), accumulation_dtype(array.array))


def _slices(arrays: list[Array], axes: list[int | None]) -> tuple[list[Array], Callable[[list[Array]], list[Array]]]:
    """Return the arrays with the axis, moved to the front, and a function that merges their slices with the others."""
    fronts = [jnp.moveaxis(x, axis, 0) for x, axis in zip(arrays, axes, strict=True) if axis is not None]

    def merge(slices: list[Array]) -> list[Array]:
        remaining = iter(slices)
        return [x if axis is None else next(remaining) for x, axis in zip(arrays, axes, strict=True)]

    return fronts, merge


def _map(function: Mapped, axes: list[int | None], sequential: bool) -> Mapped:
    """Return `jax.vmap(function, in_axes=(axes,))`, which is traced faster for an axis of length 1."""

    def mapped(arrays: list[Array]) -> Any:
        lengths = (x.shape[axis] for x, axis in zip(arrays, axes, strict=True) if axis is not None)
        if next(lengths) == 1:
            pairs = zip(arrays, axes, strict=True)
            results = function([x if axis is None else jax.lax.squeeze(x, (axis,)) for x, axis in pairs])
            return jax.tree.map(lambda x: jax.lax.expand_dims(x, (0,)), results)
        if not sequential:
            return jax.vmap(function, in_axes=(axes,))(arrays)
        fronts, merge = _slices(arrays, axes)
        return jax.lax.map(lambda slices: function(merge(slices)), fronts)

    return mapped


def _summed_map(
    function: Mapped,
    in_axes: list[int | None],
    out_axes: list[int | None],
    inner: list[jax.ShapeDtypeStruct],
    sequential: bool,
) -> Mapped:
    """Map over one axis, and stack each result along its axis in `out_axes`, or sum it if that is None."""

    def mapped(arrays: list[Array]) -> list[Array]:
        fronts, merge = _slices(arrays, in_axes)
        if fronts[0].shape[0] == 1:
            results = function(merge([x[0] for x in fronts]))
            return [x if axis is None else jnp.expand_dims(x, axis) for x, axis in zip(results, out_axes, strict=True)]
        if not sequential:
            results = jax.vmap(lambda slices: function(merge(slices)))(fronts)
            pairs = zip(results, out_axes, strict=True)
            return [x.sum(0) if axis is None else jnp.moveaxis(x, 0, axis) for x, axis in pairs]

        def step(sums: list[Array], slices: list[Array]) -> tuple[list[Array], list[Array]]:
            results = function(merge(slices))
            terms = [x for x, axis in zip(results, out_axes, strict=True) if axis is None]
            stacked = [x for x, axis in zip(results, out_axes, strict=True) if axis is not None]
            return [a + b for a, b in zip(sums, terms, strict=True)], stacked

        zeros = [jnp.zeros(of.shape, of.dtype) for of, axis in zip(inner, out_axes, strict=True) if axis is None]
        sums, stacked = (iter(x) for x in jax.lax.scan(step, vary_like(zeros, fronts), fronts))
        return [next(sums) if axis is None else jnp.moveaxis(next(stacked), 0, axis) for axis in out_axes]

    return mapped

"""What cannot be attended with, and what to write instead: a call's arguments before anything is computed of them."""

import inspect
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.masks import Mask
from attnlab.functional.mods import Alibi, Bias, Location
from attnlab.functional.normalizers import as_softmax
from attnlab.functional.parts import Each, one_number
from attnlab.functional.types import extent

FAMILIES = {"score": scores, "mods": mods, "normalizer": normalizers}
"""Argument of `attention` -> where such parts are."""


def check_shapes(query: Array, key: Array, value: Array) -> None:
    """Refuse arrays that do not belong together."""
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    if min(query.ndim, key.ndim, value.ndim) < 3:
        raise ValueError(f"attention: [*B, positions, heads, features] is needed: {shapes}")
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"attention: batch axes, and keys and heads of key and value, must agree: {shapes}")
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        raise ValueError(f"attention: {query.shape[-2]} query heads are no multiple of {key.shape[-2]} key heads")
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (query, key, value)):
        raise ValueError(f"attention: floating-point arrays are needed: {query.dtype}, {key.dtype}, {value.dtype}")


def check_mask(mask: Any, query: Array, key: Array) -> None:
    """Refuse what is no mask, and say how one is made of it."""
    if mask is None or isinstance(mask, Mask):
        return
    what = f"attention: mask is no mask but {type(mask).__name__}"
    if isinstance(mask, str):
        made = [name for name in masks.__all__ if name.islower()]
        near = get_close_matches(mask, made, n=1)
        raise ValueError(f"{what} {mask!r}; " + (_call(near[0]) if near else f"those of masks are {', '.join(made)}"))
    if isinstance(mask, Array | np.ndarray | list):
        shape = np.shape(mask)
        raise ValueError(f'{what} {list(shape)}; write masks.array(where, axes="{_axes(shape, query, key)}")')
    name = getattr(mask, "__name__", "")
    if callable(mask) and hasattr(masks, name):
        raise ValueError(f"{what} {name}; {_call(name)}")
    raise ValueError(f"{what}; make one by masks, of an array by masks.array, of a function by masks.from_fn")


def _call(name: str) -> str:
    needs = any(p.default is p.empty for p in inspect.signature(getattr(masks, name)).parameters.values())
    return f"call it: masks.{name}({'...' if needs else ''})"


def _axes(shape: Sequence[int], query: Array, key: Array) -> str:
    """Name the axes of an array that should be a mask: those whose lengths are the inputs', else by their number."""
    batch, heads, queries, keys = query.shape[:-3], query.shape[-2:-1], query.shape[-3:-2], key.shape[-3:-2]
    lengths = {"b": batch, "h": heads, "q": queries, "k": keys}
    named = ("q k", "b k", "b q k", "h q k", "b h q k", "k", "b q", "h k")
    for axes in named if batch else [axes for axes in named if "b" not in axes]:
        if tuple(shape) == sum((lengths[axis] for axis in axes.split()), ()):
            return axes
    return {1: "k", 2: "q k", 3: "b q k" if batch else "h q k"}.get(len(shape), "b h q k")


def check_parts(score: Any, mods: Any, normalizer: Any, query: Array) -> None:
    """Refuse parts that are no functions, have parameters that are not bound, or cannot see the mask."""
    if callable(mods):
        raise ValueError("attention: mods is a tuple of functions: (mod,)")
    own = {"score": score, **{f"mods[{n}]": mod for n, mod in enumerate(mods)}, "normalizer": normalizer}
    for name, part in own.items():
        if not callable(part):
            family = FAMILIES[name.partition("[")[0]].__name__.rpartition(".")[2]
            raise ValueError(f"attention: {name} is a function, such as those of attnlab.{family}, not {part!r}")
        _check_bound(name, part)
    home = getattr(getattr(normalizer, "func", normalizer), "__module__", None) or ""
    if home.split(".")[0] == "jax":
        raise ValueError(
            f"attention: normalizer {normalizer.__name__} of jax takes (logits, axis), not (logits, where): "
            "it would not see the mask; take one of attnlab.normalizers"
        )
    heads, batch = query.shape[-2], query.ndim - 3
    for number, mod in enumerate(mods):
        if isinstance(mod, Alibi) and len(mod.slopes) != heads:
            raise ValueError(f"attention: mods[{number}] is alibi({len(mod.slopes)}), the query has {heads} heads")
    if (family := as_softmax(normalizer)) is not None:  # blocks read its numbers without calling it
        for what, number in (("temperature: t", family.temperature), ("softmax_with_sink: sink", family.sink)):
            array, axes = (number.array, number.axes) if isinstance(number, Each) else (number, ())
            one_number(what, np.shape(array)[batch * ("b" in axes) + ("h" in axes) :])


def check_positions(name: str, positions: Any, of: Array) -> None:
    """Refuse positions that are no whole numbers, or not as many as there are queries (or keys)."""
    if positions is None:
        return
    length, batch = of.shape[-3], of.shape[:-3]
    needed = f"attention: {name}_positions are whole numbers [{length}] or [*B, {length}]"
    if not isinstance(positions, Array | np.ndarray):
        raise ValueError(
            f"{needed}, not {type(positions).__name__}; from position n on: {name}_positions=n + jnp.arange({length})"
        )
    if positions.shape not in ((length,), (*batch, length)) or not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ValueError(f"{needed}, not {positions.dtype}{list(positions.shape)}")


def fit(
    mask: Mask | None, mods: Any, query: Array, key: Array, query_positions: Array | None, key_positions: Array | None
) -> Mask | None:
    """Return the mask for these queries and keys; refuse it, or mods, whose arrays do not fit their positions."""
    queries = extent("query", query.shape[-3], query_positions)
    keys = extent("key", key.shape[-3], key_positions)
    for mod in mods:
        if isinstance(mod, Bias | Location):
            mod.check(queries, keys)
    if mask is None:
        return None
    mask.check(queries, keys)
    return mask.fitted(queries.count, keys.count, query.shape[-2])


def _check_bound(argument: str, part: Any) -> None:
    """Parameters are keywords without a default, and bound before the part is used."""
    if not (lacking := _needed(part)):
        return
    function = getattr(part, "func", part)
    name = getattr(function, "__name__", type(function).__name__)
    family = FAMILIES[argument.partition("[")[0]]
    if getattr(family, name, None) is function:
        name = f"{family.__name__.rpartition('.')[2]}.{name}"
    bound = ", ".join(f"{each}={each}" for each in _needed(function))
    raise ValueError(f"attention: {argument} {name} lacks {', '.join(lacking)}; bind it: Partial({name}, {bound})")


def _needed(part: Any) -> list[str]:
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):  # of a function that is not written in Python
        return []
    return [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY and one.default is one.empty]


def check_options(dropout_rate: float, rng: object, block_size: Any) -> None:
    """Refuse a dropout that cannot be drawn, and blocks that are none."""
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(f"attention: dropout_rate {dropout_rate} is not in [0, 1)")
    if dropout_rate and rng is None:
        raise ValueError("attention: dropout needs an rng")
    pair = isinstance(block_size, tuple | list) and len(block_size) == 2
    if block_size is not None and not (pair and all(isinstance(size, int) and size >= 1 for size in block_size)):
        raise ValueError(f"attention: block_size is (queries, keys), each at least 1, not {block_size}")

"""What cannot be attended with, and what to write instead: a call's arguments before anything is computed of them."""

import functools
import inspect
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.sharding import Mesh

from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.masks import Mask
from attnlab.functional.mods import Alibi, Bias, Location
from attnlab.functional.normalizers import Positional, as_softmax
from attnlab.functional.parameters import check_scalar
from attnlab.functional.parts import MappedArray, flatten_mapped
from attnlab.functional.signatures import check_callable
from attnlab.functional.types import extent

FAMILIES = {"score": scores, "mods": mods, "normalizer": normalizers}
"""Argument of `attention` -> where such parts are."""
TAKES = {"score": ("query", "key"), "mods": ("logits", "positions"), "normalizer": ("logits", "where")}
"""Argument of `attention` -> what such a part is called with."""


def check_arrays(**arrays: Any) -> None:
    """Refuse what is no array of JAX or NumPy, and say how one is made of it."""
    for name, array in arrays.items():
        home = type(array).__module__.split(".")[0]
        if home in ("torch", "tensorflow"):
            convert = f"{name}.detach().cpu().numpy()" if home == "torch" else f"{name}.numpy()"
            raise ValueError(f"attention: {name} is a tensor of {home}; write jnp.asarray({convert})")
        if not all(hasattr(array, attribute) for attribute in ("shape", "dtype", "ndim")):
            made = (
                "an array is needed: write attention(query, key, value), attention_weights(query, key) without values"
            )
            made = f"write jnp.asarray({name})" if isinstance(array, list | tuple | float | int) else made
            raise ValueError(f"attention: {name} is no array but {described(array)}; {made}")
        if isinstance(array, jax.ShapeDtypeStruct):
            raise ValueError(f"attention: {name} is a shape without numbers; write plan(...) or jax.eval_shape(...)")


def check_shapes(query: Array, key: Array, value: Array) -> None:
    """Refuse arrays that do not belong together."""
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    for name, array in (("query", query), ("key", key), ("value", value)):
        if array.ndim < 3:
            one_head = f"; with one head write {name}[:, None, :]" if array.ndim == 2 else ""
            raise ValueError(f"attention: {name}: [*B, positions, heads, features] is needed: {shapes}{one_head}")
    hint = lambda: _other_order(query.shape, key.shape, value.shape)  # noqa: E731
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"attention: batch axes, and keys and heads of key and value, must agree: {shapes}{hint()}")
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        raise ValueError(
            f"attention: {query.shape[-2]} query heads are no multiple of {key.shape[-2]} key heads: {shapes}{hint()}"
        )
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (query, key, value)):
        dtypes = f"{query.dtype}, {key.dtype}, {value.dtype}"
        raise ValueError(
            f"attention: floating-point arrays are needed: {dtypes} of query, key, value; "
            "write query.astype(jnp.float32) of whole numbers; of complex ones .real and .imag are features"
        )


def _other_order(*shapes: Sequence[int]) -> str:
    """Say so where the arrays would fit with their heads before their positions, as PyTorch's do."""
    (*b, n, _, _), (*c, k, s, _), (*e, v, z, _) = shapes
    fits = b == c == e and k == v and s == z and k != 0 and n % k == 0
    return "; where heads come before positions, as in PyTorch, write jnp.swapaxes(query, -2, -3)" if fits else ""


def check_mask(mask: Any, query: Array, key: Array) -> None:
    """Refuse what is no mask, and say how one is made of it."""
    if mask is None or isinstance(mask, Mask):
        return
    what = f"attention: mask is no mask but {type(mask).__name__}"
    if isinstance(mask, str):
        made = [name for name in masks.__all__ if name.islower()]
        near = get_close_matches(mask, made, n=1)
        raise ValueError(f"{what} {mask!r}; " + (_call(near[0]) if near else f"those of masks are {', '.join(made)}"))
    if isinstance(mask, list | tuple) and any(isinstance(one, Mask) for one in mask):
        together = " & ".join(one.expression() if isinstance(one, Mask) else "..." for one in mask)
        raise ValueError(f"{what}; combine masks by & and |: mask={together}")
    if isinstance(mask, Array | np.ndarray | list):
        shape, dtype = np.shape(mask), np.asarray(mask).dtype if isinstance(mask, list) else mask.dtype
        axes = _axes(shape, query, key)
        made = f'masks.array(where, axes="{axes}")'
        if jnp.issubdtype(dtype, jnp.floating):
            made += f' of truth values, or mods=(mods.bias(mask, "{axes}"),) where it is added to the logits'
        elif jnp.issubdtype(dtype, jnp.integer) and shape == query.shape[:-3]:
            made = "mask=masks.lengths(mask)"
        raise ValueError(f"{what} {list(shape)}; write {made}")
    name = getattr(mask, "__name__", "")
    if callable(mask) and hasattr(masks, name):
        raise ValueError(f"{what} {name}; {_call(name)}")
    if callable(mask):
        raise ValueError(f"{what}; write mask=masks.from_fn({name if name.isidentifier() else 'mask'})")
    raise ValueError(f"{what} {described(mask)}; write mask=None for none, masks.lengths(n) for the first n keys")


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
        raise ValueError("attention: mods is a tuple of functions: write mods=(mod,)")
    if not isinstance(mods, Iterable) or isinstance(mods, str | dict):
        raise ValueError(
            f"attention: mods is a tuple of functions, not {described(mods)}; write mods=() or mods=(mod,)"
        )
    own = {"score": score, **{f"mods[{n}]": mod for n, mod in enumerate(mods)}, "normalizer": normalizer}
    for name, part in own.items():
        _check_part(name, part)
    heads, batch = query.shape[-2], query.ndim - 3
    for number, mod in enumerate(mods):
        if isinstance(mod, Alibi) and len(mod.slopes) != heads:
            raise ValueError(
                f"attention: mods[{number}] is alibi({len(mod.slopes)}), the query has {heads} heads; "
                f"write mods.alibi({heads})"
            )
    if (family := as_softmax(normalizer)) is not None:  # blocks read its numbers without calling it
        for what, number in (("temperature: t", family.temperature), ("softmax_with_sink: sink", family.sink)):
            array, axes = (number.array, number.axes) if isinstance(number, MappedArray) else (number, ())
            check_scalar(what, np.shape(array)[batch * ("b" in axes) + ("h" in axes) :])


def _check_part(argument: str, part: Any) -> None:
    """A part is a function of its arguments, whose parameters are keywords without a default and bound before."""
    kind = argument.partition("[")[0]
    family, takes = FAMILIES[kind], TAKES[kind]
    home = family.__name__.rpartition(".")[2]
    call = f"{argument.partition('[')[0]}={'({},)' if kind == 'mods' else '{}'}"
    if not callable(part):
        names = [name for name in dir(family) if name.islower() and callable(getattr(family, name))]
        near = get_close_matches(part, names, n=1) if isinstance(part, str) else []
        hint = f"; write {call.format(_example(family, near[0]))}" if near else ""
        raise ValueError(
            f"attention: {argument} is a function, such as those of attnlab.{home}, not {described(part)}{hint}"
        )
    function = getattr(part, "func", part)
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(family, name, None) is function:
        name = f"{home}.{name}"
    if isinstance(part, type):
        raise ValueError(
            f"attention: {argument} is the class {name}, not one of it; write {call.format(name + '(...)')}"
        )
    if function is part and name.startswith(f"{home}.") and _positional(function)[:1] not in (["logits"], ["query"]):
        raise ValueError(f"attention: {argument} {name} makes the part; write {call.format(_example(family, name))}")
    if isinstance(part, functools.partial) and not isinstance(part, jax.tree_util.Partial):
        if any(axes for axes in flatten_mapped((part.args, part.keywords))[1]):
            raise ValueError(
                f"attention: {argument}: what is marked by parts.map_over is seen in jax.tree_util.Partial alone, "
                f"not in functools.partial; write Partial({name}, ...)"
            )
    if isinstance(function, Positional):
        takes = (*takes, "positions")
    if kind == "normalizer" and (getattr(function, "__module__", None) or "").split(".")[0] == "jax":
        raise ValueError(
            f"attention: normalizer {name} of jax takes (logits, axis), not (logits, where): it would not "
            "see the mask; take one of attnlab.normalizers: write normalizer=normalizers.softmax"
        )
    if lacking := _needed(part):
        bound = ", ".join(f"{each}={each}" for each in _needed(function))
        raise ValueError(f"attention: {argument} {name} lacks {', '.join(lacking)}; bind it: Partial({name}, {bound})")
    check_callable(f"attention: {argument}", part, takes)


def _example(family: Any, name: str) -> str:
    """Write a part as an argument: by its name where it is one itself, else as the call that makes it."""
    name = name.rpartition(".")[2]
    first = _positional(getattr(family, name))
    whole = f"{family.__name__.rpartition('.')[2]}.{name}"
    return whole if first[:1] in (["logits"], ["query"]) else f"{whole}({', '.join(first[:1])})"


def _positional(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _needed(part: Any) -> list[str]:
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):  # of a function that is not written in Python
        return []
    return [name for name, one in parameters.items() if one.kind is one.KEYWORD_ONLY and one.default is one.empty]


def check_positions(name: str, positions: Any, of: Array) -> None:
    """Refuse positions that are no whole numbers, or not as many as there are queries (or keys)."""
    if positions is None:
        return
    length, batch = of.shape[-3], of.shape[:-3]
    needed = f"attention: {name}_positions are whole numbers [{length}] or [*B, {length}]"
    instead = f"from position n on write {name}_positions=n + jnp.arange({length})"
    if not isinstance(positions, Array | np.ndarray):
        raise ValueError(f"{needed}, not {described(positions)}; {instead}")
    if positions.shape not in ((length,), (*batch, length)) or not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ValueError(f"{needed}, not {positions.dtype}{list(positions.shape)}; {instead}")


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


def check_options(dropout_rate: Any, rng: Any, block_size: Any, mesh: Any) -> None:
    """Refuse a dropout that cannot be drawn, blocks that are none, and devices that are no mesh."""
    if not isinstance(dropout_rate, float | int | np.number):
        raise ValueError(
            f"attention: dropout_rate is a number in Python, not {described(dropout_rate)}; write dropout_rate=0.1"
        )
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(f"attention: dropout_rate {dropout_rate} is not in [0, 1); write dropout_rate=0.1 for a tenth")
    if dropout_rate and rng is None:
        raise ValueError("attention: dropout needs an rng; write rng=jax.random.key(0)")
    check_rng("attention", rng)
    pair = isinstance(block_size, tuple | list) and len(block_size) == 2
    if block_size is not None and not (pair and all(isinstance(size, int) and size >= 1 for size in block_size)):
        raise ValueError(
            f"attention: block_size is (queries, keys), each at least 1, not {block_size}; write block_size=(256, 256)"
        )
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(
            f'attention: mesh is no mesh but {described(mesh)}; write mesh=jax.make_mesh((jax.device_count(),), ("x",))'
        )


def check_rng(function: str, rng: Any) -> None:
    """Refuse what is no key of `jax.random`, or is several."""
    if rng is None:
        return
    if not isinstance(rng, Array | np.ndarray):
        call = "rng=rngs()" if type(rng).__name__ == "Rngs" else "rng=jax.random.key(0)"
        raise ValueError(f"{function}: rng is a key of jax.random, not {described(rng)}; write {call}")
    typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    if not typed and rng.dtype != jnp.uint32:
        raise ValueError(f"{function}: rng is a key of jax.random, not {described(rng)}; write rng=jax.random.key(0)")
    if rng.ndim != (0 if typed else 1):
        raise ValueError(f"{function}: rng is one key, not an array {list(rng.shape)} of them; write rng=rng[0]")


def described(value: Any) -> str:
    """Write a value in a line: an array by its dtype and shape, a short one as it is, any other by its type."""
    if isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype"):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    written = repr(value) if isinstance(value, str | int | float | bool | type(None)) else ""
    return written if 0 < len(written) <= 40 else type(value).__name__

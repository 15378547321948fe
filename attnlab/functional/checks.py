"""Checks of the arguments of `attention`, before anything is computed; every error suggests the right code."""

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
"""Argument of `attention` -> the module of its parts."""
TAKES = {"score": ("query", "key"), "mods": ("logits", "positions"), "normalizer": ("logits", "where")}
"""Argument of `attention` -> the arguments of its parts."""


def check_arrays(**arrays: Any) -> None:
    """Raise for anything but arrays of JAX or NumPy."""
    for name, array in arrays.items():
        library = type(array).__module__.split(".")[0]
        if library in ("torch", "tensorflow"):
            convert = f"{name}.detach().cpu().numpy()" if library == "torch" else f"{name}.numpy()"
            raise ValueError(f"attention: {name} is a tensor of {library}; write jnp.asarray({convert})")
        if not all(hasattr(array, attribute) for attribute in ("shape", "dtype", "ndim")):
            hint = "write attention(query, key, value) with arrays, or attention_weights(query, key) without values"
            hint = f"write jnp.asarray({name})" if isinstance(array, list | tuple | float | int) else hint
            raise ValueError(f"attention: {name} must be an array, not {described(array)}; {hint}")
        if isinstance(array, jax.ShapeDtypeStruct):
            raise ValueError(
                f"attention: {name} is a ShapeDtypeStruct, not an array; write plan(...) or jax.eval_shape(...)"
            )


def check_shapes(query: Array, key: Array, value: Array) -> None:
    """Raise unless the shapes and dtypes of query, key and value fit together."""
    shapes = f"query {query.shape}, key {key.shape}, value {value.shape}"
    for name, array in (("query", query), ("key", key), ("value", value)):
        if array.ndim < 3:
            one_head = f"; with one head write {name}[:, None, :]" if array.ndim == 2 else ""
            raise ValueError(
                f"attention: {name} must have shape [*B, positions, heads, features], got {shapes}{one_head}"
            )
    hint = lambda: _other_order(query.shape, key.shape, value.shape)  # noqa: E731
    if not query.shape[:-3] == key.shape[:-3] == value.shape[:-3] or key.shape[:-1] != value.shape[:-1]:
        raise ValueError(f"attention: batch axes, numbers of keys and key heads must be equal, got {shapes}{hint()}")
    if key.shape[-2] == 0 or query.shape[-2] % key.shape[-2]:
        raise ValueError(
            f"attention: {query.shape[-2]} query heads must be a multiple of {key.shape[-2]} key heads: "
            f"{shapes}{hint()}"
        )
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in (query, key, value)):
        dtypes = f"{query.dtype}, {key.dtype}, {value.dtype}"
        raise ValueError(
            f"attention: query, key and value must be floating-point, got {dtypes}; write "
            "query.astype(jnp.float32) for integers; for complex arrays use .real and .imag as features"
        )


def _other_order(*shapes: Sequence[int]) -> str:
    """Return a hint if the shapes would fit with heads before positions, as in PyTorch."""
    (*b, n, _, _), (*c, k, s, _), (*e, v, z, _) = shapes
    fits = b == c == e and k == v and s == z and k != 0 and n % k == 0
    return "; for arrays with heads before positions, as in PyTorch, write jnp.swapaxes(query, -2, -3)" if fits else ""


def check_mask(mask: Any, query: Array, key: Array) -> None:
    """Raise for anything but a mask or None."""
    if mask is None or isinstance(mask, Mask):
        return
    kind = "a jax.Array" if isinstance(mask, Array) else type(mask).__name__
    problem = f"attention: mask must be a mask of attnlab.masks, not {kind}"
    if isinstance(mask, str):
        names = [name for name in masks.__all__ if name.islower()]
        near = get_close_matches(mask, names, n=1)
        hint = _call(near[0]) if near else f"masks are made by {', '.join(names)}"
        raise ValueError(f"{problem} {mask!r}; {hint}")
    if isinstance(mask, list | tuple) and any(isinstance(item, Mask) for item in mask):
        combined = " & ".join(item.expression() if isinstance(item, Mask) else "..." for item in mask)
        raise ValueError(f"{problem}; combine masks with & and |: mask={combined}")
    if isinstance(mask, Array | np.ndarray | list):
        shape, dtype = np.shape(mask), np.asarray(mask).dtype if isinstance(mask, list) else mask.dtype
        axes = _axes(shape, query, key)
        index, axes = _without_size_one(shape, axes, query, key)
        code = f'masks.array(where{index}, axes="{axes}")'
        if jnp.issubdtype(dtype, jnp.floating):
            code += f' for booleans, or mods=(mods.bias(mask{index}, "{axes}"),) to add it to the logits'
        elif jnp.issubdtype(dtype, jnp.integer) and shape == query.shape[:-3]:
            code = "mask=masks.lengths(mask)"
        raise ValueError(f"{problem} {list(shape)}; write {code}")
    name = getattr(mask, "__name__", "")
    if callable(mask) and hasattr(masks, name):
        raise ValueError(f"{problem} {name}; {_call(name)}")
    if callable(mask):
        raise ValueError(f"{problem}; write mask=masks.from_fn({name if name.isidentifier() else 'mask'})")
    raise ValueError(f"{problem} {described(mask)}; write mask=None, or masks.lengths(n) for the first n keys")


def _call(name: str) -> str:
    required = any(p.default is p.empty for p in inspect.signature(getattr(masks, name)).parameters.values())
    return f"call it: masks.{name}({'...' if required else ''})"


def _axes(shape: Sequence[int], query: Array, key: Array) -> str:
    """Return the axes of an array meant as a mask: by the lengths of the inputs, else by its rank."""
    batch, heads, queries, keys = query.shape[:-3], query.shape[-2:-1], query.shape[-3:-2], key.shape[-3:-2]
    lengths = {"b": batch, "h": heads, "q": queries, "k": keys}
    named = ("q k", "b k", "b q k", "h q k", "b h q k", "k", "b q", "h k")
    for axes in named if batch else [axes for axes in named if "b" not in axes]:
        if tuple(shape) == sum((lengths[axis] for axis in axes.split()), ()):
            return axes
    return {1: "k", 2: "q k", 3: "b q k" if batch else "h q k"}.get(len(shape), "b h q k")


def _without_size_one(shape: Sequence[int], axes: str, query: Array, key: Array) -> tuple[str, str]:
    """Return an index that removes axes of queries and keys that broadcast, as [batch, 1, 1, keys] has them, and the
    other axes."""
    names, lengths = axes.split(), {"q": query.shape[-3:-2], "k": key.shape[-3:-2]}
    broadcast = {axis for axis, size in zip(names, shape, strict=False) if size == 1 and lengths.get(axis, (1,)) > (1,)}
    kept = [axis for axis in names if axis not in broadcast and not (broadcast and axis == "h" and 1 in shape[1:2])]
    if not broadcast or len(names) != len(shape) or not kept:
        return "", axes
    index = ["0" if axis not in kept else ":" for axis in names]
    while index[-1] == ":":
        index.pop()
    return f"[{', '.join(index)}]", " ".join(kept)


def check_parts(score: Any, mods: Any, normalizer: Any, query: Array) -> None:
    """Raise for parts that are not functions, have unbound parameters, or do not take the mask."""
    if callable(mods):
        raise ValueError("attention: mods must be a tuple of functions; write mods=(mod,)")
    if not isinstance(mods, Iterable) or isinstance(mods, str | dict):
        raise ValueError(
            f"attention: mods must be a tuple of functions, not {described(mods)}; write mods=() or mods=(mod,)"
        )
    parts = {"score": score, **{f"mods[{n}]": mod for n, mod in enumerate(mods)}, "normalizer": normalizer}
    for name, part in parts.items():
        _check_part(name, part)
    heads, batch = query.shape[-2], query.ndim - 3
    for number, mod in enumerate(mods):
        if isinstance(mod, Alibi) and len(mod.slopes) != heads:
            raise ValueError(
                f"attention: mods[{number}] is alibi({len(mod.slopes)}), but the query has {heads} heads; "
                f"write mods.alibi({heads})"
            )
    if (family := as_softmax(normalizer)) is not None:  # blocks read its parameters without calling it
        for name, number in (("temperature: t", family.temperature), ("softmax_with_sink: sink", family.sink)):
            array, axes = (number.array, number.axes) if isinstance(number, MappedArray) else (number, ())
            check_scalar(name, np.shape(array)[batch * ("b" in axes) + ("h" in axes) :])


def _check_part(argument: str, part: Any) -> None:
    """Raise unless a part is a function of its arguments with all keyword parameters bound."""
    kind = argument.partition("[")[0]
    family, takes = FAMILIES[kind], TAKES[kind]
    module = family.__name__.rpartition(".")[2]
    call = f"{argument.partition('[')[0]}={'({},)' if kind == 'mods' else '{}'}"
    if not callable(part):
        names = [name for name in dir(family) if name.islower() and callable(getattr(family, name))]
        near = get_close_matches(part, names, n=1) if isinstance(part, str) else []
        hint = f"; write {call.format(_example(family, near[0]))}" if near else ""
        raise ValueError(
            f"attention: {argument} must be a function, such as those of attnlab.{module}, not {described(part)}{hint}"
        )
    function = getattr(part, "func", part)
    name = getattr(function, "__name__", type(function).__name__)
    if getattr(family, name, None) is function:
        name = f"{module}.{name}"
    if isinstance(part, type):
        raise ValueError(
            f"attention: {argument} is the class {name}, not an instance; write {call.format(name + '(...)')}"
        )
    if function is part and name.startswith(f"{module}.") and _positional(function)[:1] not in (["logits"], ["query"]):
        raise ValueError(f"attention: {argument} {name} must be called; write {call.format(_example(family, name))}")
    if isinstance(part, functools.partial) and not isinstance(part, jax.tree_util.Partial):
        if any(axes for axes in flatten_mapped((part.args, part.keywords))[1]):
            raise ValueError(
                f"attention: {argument}: parts.map_over has no effect in functools.partial; "
                f"write jax.tree_util.Partial({name}, ...)"
            )
    if isinstance(function, Positional):
        takes = (*takes, "positions")
    if kind == "normalizer" and (getattr(function, "__module__", None) or "").split(".")[0] == "jax":
        raise ValueError(
            f"attention: normalizer {name} of jax takes (logits, axis), not (logits, where), so it would ignore the "
            "mask; write normalizer=normalizers.softmax"
        )
    if missing := _required_keywords(part):
        bound = ", ".join(f"{keyword}={keyword}" for keyword in _required_keywords(function))
        raise ValueError(f"attention: {argument} {name} needs {', '.join(missing)}; write Partial({name}, {bound})")
    check_callable(f"attention: {argument}", part, takes)


def _example(family: Any, name: str) -> str:
    """Return the code of a part: its name if it is a part itself, otherwise the call that makes it."""
    name = name.rpartition(".")[2]
    first = _positional(getattr(family, name))[:1]
    function = f"{family.__name__.rpartition('.')[2]}.{name}"
    return function if first in (["logits"], ["query"]) else f"{function}({', '.join(first)})"


def _positional(function: Any) -> list[str]:
    return list(inspect.signature(function).parameters)


def _required_keywords(part: Any) -> list[str]:
    try:
        parameters = inspect.signature(part).parameters
    except (TypeError, ValueError):  # a function not written in Python
        return []
    return [name for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY and p.default is p.empty]


def check_positions(name: str, positions: Any, of: Array) -> None:
    """Raise unless positions are integers, one for each query (or key)."""
    if positions is None:
        return
    length, batch = of.shape[-3], of.shape[:-3]
    expected = f"attention: {name}_positions must be integers [{length}] or [*B, {length}]"
    instead = f"for positions from n on write {name}_positions=n + jnp.arange({length})"
    if not isinstance(positions, Array | np.ndarray):
        raise ValueError(f"{expected}, not {described(positions)}; {instead}")
    if positions.shape not in ((length,), (*batch, length)) or not jnp.issubdtype(positions.dtype, jnp.integer):
        raise ValueError(f"{expected}, not {positions.dtype}{list(positions.shape)}; {instead}")


def fit(
    mask: Mask | None, mods: Any, query: Array, key: Array, query_positions: Array | None, key_positions: Array | None
) -> Mask | None:
    """Return the mask for these queries and keys; raise if its arrays, or those of mods, do not fit their positions."""
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
    """Raise for an invalid dropout rate, rng, block size or mesh."""
    if not isinstance(dropout_rate, float | int | np.number):
        raise ValueError(
            f"attention: dropout_rate must be a Python number, not {described(dropout_rate)}; write dropout_rate=0.1"
        )
    if not 0.0 <= dropout_rate < 1.0:
        raise ValueError(
            f"attention: dropout_rate must be in [0, 1), not {dropout_rate}; write dropout_rate=0.1 for 10%"
        )
    if dropout_rate and rng is None:
        raise ValueError("attention: dropout requires an rng; write rng=jax.random.key(0)")
    check_rng("attention", rng)
    pair = isinstance(block_size, tuple | list) and len(block_size) == 2
    if block_size is not None and not (pair and all(isinstance(size, int) and size >= 1 for size in block_size)):
        raise ValueError(
            f"attention: block_size must be (queries, keys), both at least 1, not {block_size}; "
            "write block_size=(256, 256)"
        )
    if mesh is not None and not isinstance(mesh, Mesh):
        raise ValueError(
            f"attention: mesh must be a jax.sharding.Mesh, not {described(mesh)}; write "
            'mesh=jax.make_mesh((jax.device_count(),), ("x",))'
        )


def check_rng(function: str, rng: Any) -> None:
    """Raise unless `rng` is None or one key of `jax.random`."""
    if rng is None:
        return
    if not isinstance(rng, Array | np.ndarray):
        call = "rng=rngs()" if type(rng).__name__ == "Rngs" else "rng=jax.random.key(0)"
        raise ValueError(f"{function}: rng must be a key of jax.random, not {described(rng)}; write {call}")
    typed = jnp.issubdtype(rng.dtype, jax.dtypes.prng_key)
    if not typed and rng.dtype != jnp.uint32:
        raise ValueError(
            f"{function}: rng must be a key of jax.random, not {described(rng)}; write rng=jax.random.key(0)"
        )
    if rng.ndim != (0 if typed else 1):
        raise ValueError(f"{function}: rng must be one key, not an array {list(rng.shape)} of keys; write rng=rng[0]")


def described(value: Any) -> str:
    """Describe a value in one line: an array by dtype and shape, a short value by its repr, others by type."""
    if isinstance(getattr(value, "shape", None), tuple) and hasattr(value, "dtype"):
        return f"{value.dtype}[{', '.join(map(str, value.shape))}]"
    text = repr(value) if isinstance(value, str | int | float | bool | type(None)) else ""
    return text if 0 < len(text) <= 40 else type(value).__name__

"""Checks that custom parts can be computed block by block, by calling them on a few numbers at trace time.

A score, a mod and a predicate of `masks.from_fn` must compute each pair of a query and a key independently of all other
pairs; a normalizer must compute each query independently of the others, and of which masked keys are present. A
function's signature does not guarantee that, and the blocks of a part that mixes queries would be wrong without an
error. So each custom part is called on 5 queries together and on each of them alone, and the results are compared. A
part that cannot be called this way (it needs other sizes, or arrays of the caller's trace) is assumed to be separable.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.backends.call import Call
from attnlab.functional.backends.fingerprint import NoFingerprint, is_trusted, of_structure
from attnlab.functional.masks import And, Mask, Not, Or
from attnlab.functional.masks.custom import FromFn
from attnlab.functional.normalizers import Positional
from attnlab.functional.parts import flatten_mapped
from attnlab.functional.types import Positions

QUERIES, KEYS = 5, 7
"""The sizes on which parts are called."""
ROUNDING = 1e-2
"""The largest difference, relative to the largest result, that is attributed to rounding."""


@dataclass(frozen=True)
class Mixing:
    """A custom part whose results for one query and key depend on others."""

    kind: str
    """"score", "mod", "normalizer" or "mask"."""
    name: str
    mixed: str
    """"queries", "keys" or "masked keys"."""

    def reason(self, consequence: str) -> str:
        """Return a clause that names the part and what follows."""
        return f"the {self.kind} {self.name} mixes {self.mixed}, so {consequence}"


def mixing(call: Call) -> Mixing | None:
    """Return the first custom part of a call that mixes queries or keys, or None."""
    heads = call.heads
    parts = [("score", heads.score), *(("mod", mod) for mod in heads.mods), ("normalizer", heads.normalizer)]
    parts += [("mask", predicate) for predicate in _predicates(heads.mask)]
    for kind, part in parts:
        if not (name := _custom_name(part)):
            continue
        arrays, axes, structure = flatten_mapped(part)
        shapes = tuple(
            (tuple(x.shape[len(front) :]), x.dtype) for x, front in zip(map(jnp.asarray, arrays), axes, strict=True)
        )
        try:
            mixed = _mixed(kind, structure, shapes, (call.sizes.width, call.sizes.key_width))
        except Exception:  # a user's function may raise any exception on these numbers
            continue
        if mixed:
            return Mixing(kind, name, mixed)
    return None


def _predicates(mask: Mask | None) -> Iterator[Mask]:
    if isinstance(mask, FromFn):
        yield mask
    elif isinstance(mask, And | Or):
        yield from _predicates(mask.left)
        yield from _predicates(mask.right)
    elif isinstance(mask, Not):
        yield from _predicates(mask.mask)


def _custom_name(part: Any) -> str:
    """Return the name of a user's function; "" for a function of attnlab."""
    while (inner := _wrapped(part)) is not None:
        part = inner
    function = part if hasattr(part, "__name__") else type(part)
    return "" if _is_of_attnlab(function) else function.__name__


def _wrapped(part: Any) -> Any:
    """Return the function that a `partial`, or an object of attnlab, wraps; None if it wraps none."""
    if isinstance(part, partial):
        return part.func
    if not _is_of_attnlab(type(part)):
        return None
    return next((inner for name in ("normalizer", "fn") if (inner := getattr(part, name, None)) is not None), None)


def _is_of_attnlab(function: Any) -> bool:
    """Return whether attnlab defines this object under its name (`functools.wraps` copies names)."""
    return (function.__module__ or "").split(".")[0] == "attnlab" and is_trusted(function)


@dataclass(frozen=True)
class _Part:
    """A part without its arrays; two parts are equal if they compute the same function."""

    fingerprint: Hashable
    structure: Any = field(compare=False)


def _mixed(kind: str, structure: Any, shapes: tuple[Any, ...], widths: tuple[int, int]) -> str:
    """Check a part, or return the cached result of an equal part."""
    try:
        fingerprint = of_structure(structure)
    except NoFingerprint:  # it may have changed since it was checked
        return _check.__wrapped__(kind, _Part(None, structure), shapes, widths)
    return _check(kind, _Part(fingerprint, structure), shapes, widths)


@lru_cache(maxsize=32)
def _check(kind: str, part: _Part, shapes: tuple[Any, ...], widths: tuple[int, int]) -> str:
    """Return "queries", "keys" or "masked keys" if the part mixes them, else ""."""
    with jax.ensure_compile_time_eval():
        leaves = [_sample(*shape) for shape in shapes]
        check = partial(_CHECKS[kind], widths=widths)
        differences = jax.jit(lambda leaves: check(jax.tree.unflatten(part.structure, leaves)))(leaves)
        return next((axis for axis, differs in jax.device_get(differences).items() if differs), "")


def _sample(shape: tuple[int, ...], dtype: Any) -> Array:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return jax.random.split(jax.random.key(0), shape)
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.asarray(np.random.default_rng(0).uniform(0.5, 1.5, shape), dtype)
    return jnp.ones(shape, dtype)


def _normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


def _positions(rows: Any, columns: Any) -> Positions:
    return Positions(*(jnp.asarray(x, jnp.int32) for x in (rows, columns, 0, 0)))


def _score(score: Callable[..., Array], widths: tuple[int, int]) -> dict[str, Array]:
    query, key = _normal(QUERIES, widths[0]), _normal(KEYS, widths[1])
    return _pairwise(lambda rows, columns: score(jnp.asarray(query[rows]), jnp.asarray(key[columns])))


def _mod(mod: Callable[..., Array], widths: tuple[int, int]) -> dict[str, Array]:
    logits = _normal(QUERIES, KEYS)
    return _pairwise(lambda rows, columns: mod(jnp.asarray(logits[np.ix_(rows, columns)]), _positions(rows, columns)))


def _mask(mask: Mask, widths: tuple[int, int]) -> dict[str, Array]:
    return _pairwise(lambda rows, columns: mask(_positions(rows, columns)))


def _pairwise(block: Callable[[np.ndarray, np.ndarray], Array]) -> dict[str, Array]:
    rows, columns = np.arange(QUERIES), np.arange(KEYS)
    whole = block(rows, columns)
    by_row = jnp.concatenate([block(rows[i : i + 1], columns) for i in rows], axis=0)
    by_column = jnp.concatenate([block(rows, columns[j : j + 1]) for j in columns], axis=1)
    return {"queries": _differ(whole, by_row), "keys": _differ(whole, by_column)}


def _normalizer(normalizer: Callable[..., Array], widths: tuple[int, int]) -> dict[str, Array]:
    logits, where = _normal(QUERIES, KEYS + 1), np.ones((QUERIES, KEYS + 1), bool)
    where[np.arange(QUERIES), [2, 0, 6, 3, 5]] = where[1, 4] = False

    def weights(rows: Any, columns: Any) -> Array:
        positional = isinstance(getattr(normalizer, "func", normalizer), Positional)
        extra = (_positions(rows, columns),) if positional else ()
        block = np.ix_(rows, columns)
        return normalizer(jnp.asarray(logits[block]), jnp.asarray(where[block]), *extra)

    rows, columns = np.arange(QUERIES), np.arange(KEYS + 1)
    whole = weights(rows, columns)
    rows_alone = [weights(rows[i : i + 1], columns) for i in rows]
    allowed = [weights(rows[i : i + 1], columns[where[i]]) for i in rows]
    masked = jnp.concatenate([x[:, where[i]] for i, x in zip(rows, rows_alone, strict=True)], axis=1)
    return {
        "queries": _differ(whole, jnp.concatenate(rows_alone)),
        "masked keys": _differ(masked, jnp.concatenate(allowed, axis=1)),
    }


_CHECKS = {"score": _score, "mod": _mod, "normalizer": _normalizer, "mask": _mask}


def _differ(whole: Array, parts: Array) -> Array:
    whole, parts = (jnp.nan_to_num(x.astype(jnp.float32)) for x in (whole, parts))
    return jnp.max(jnp.abs(whole - parts)) > ROUNDING * jnp.max(jnp.abs(whole))

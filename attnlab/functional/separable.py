"""Whether a custom part may be computed a block at a time: it is tried on a few numbers while tracing.

A score, a mod and a predicate of `masks.from_fn` say of each pair of a query and a key what they say of it alone; a
normalizer weighs the keys of each query by that query's logits, whichever of its masked keys are left out. Nothing in
a function's signature promises that, and a block of a part that looks further (at all queries, say) would be wrong
without a sign. So each is called on 5 queries and on each alone; what differs is for `dense`. A part that cannot be
called so (it needs other sizes, or arrays of the caller's trace) is taken at its word.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.fingerprint import NoFingerprint, is_trusted, of_structure
from attnlab.functional.inputs import Inputs
from attnlab.functional.masks import And, Mask, Not, Or
from attnlab.functional.masks.written import FromFn
from attnlab.functional.normalizers import Positional
from attnlab.functional.parts import marked
from attnlab.functional.types import Positions

QUERIES, KEYS = 5, 7
ROUNDING = 1e-2
"""Relative to the largest result: two ways to compute one thing differ by less, two things by more."""


def unfit(given: Inputs) -> dict[str, str]:
    """Return the implementations by blocks that a custom part of this call is not for, each with the reason."""
    widths = given.query.array.shape[-1], given.key.array.shape[-1]
    parts = [("score", given.score), *(("mod", mod) for mod in given.mods), ("normalizer", given.normalizer)]
    parts += [("mask", predicate) for predicate in _predicates(given.mask)]
    for kind, part in parts:
        if not (name := _custom(part)):
            continue
        arrays, axes, structure = marked(part)
        shapes = tuple(
            (tuple(x.shape[len(own) :]), x.dtype) for x, own in zip(map(jnp.asarray, arrays), axes, strict=True)
        )
        try:
            mixes = _mixed(kind, structure, shapes, widths)
        except Exception:  # whatever a function of the user's raises on numbers that are not its own
            continue
        if mixes:
            blocks = ("block_sparse",) if mixes == "masked keys" else ("streaming", "block_sparse")
            return dict.fromkeys(blocks, f"the {kind} {name} mixes {mixes}, which no block can honor")
    return {}


def _predicates(mask: Mask | None) -> Iterator[Mask]:
    if isinstance(mask, FromFn):
        yield mask
    elif isinstance(mask, And | Or):
        yield from _predicates(mask.left)
        yield from _predicates(mask.right)
    elif isinstance(mask, Not):
        yield from _predicates(mask.mask)


def _custom(part: Any) -> str:
    """Return the name of a function that is not attnlab's own, "" for one that is."""
    while (inner := _wrapped(part)) is not None:
        part = inner
    home = part if hasattr(part, "__name__") else type(part)
    return "" if _is_own(home) else home.__name__


def _wrapped(part: Any) -> Any:
    """Return what a `partial`, or a class of attnlab, calls; an attribute of a user's class says nothing."""
    if isinstance(part, partial):
        return part.func
    own = _is_own(type(part))
    return next(
        (inner for name in ("normalizer", "fn") if own and (inner := getattr(part, name, None)) is not None), None
    )


def _is_own(home: Any) -> bool:
    """Tell by what attnlab has under that name, as `functools.wraps` copies names."""
    return (home.__module__ or "").split(".")[0] == "attnlab" and is_trusted(home)


@dataclass(frozen=True)
class _Part:
    """A part without its arrays; two are equal that compute the same, though made anew."""

    identity: Hashable
    structure: Any = field(compare=False)


def _mixed(kind: str, structure: Any, shapes: tuple[Any, ...], widths: tuple[int, int]) -> str:
    """Try a part, or remember what was found of its equal."""
    try:
        identity = of_structure(structure)
    except NoFingerprint:  # it may do something else by now
        return _tried.__wrapped__(kind, _Part(None, structure), shapes, widths)
    return _tried(kind, _Part(identity, structure), shapes, widths)


@lru_cache(maxsize=32)
def _tried(kind: str, part: _Part, shapes: tuple[Any, ...], widths: tuple[int, int]) -> str:
    """Return what the part mixes: "queries", "keys", "masked keys", or "" for none of them."""
    with jax.ensure_compile_time_eval():
        leaves = [_sample(*shape) for shape in shapes]
        called = partial(_TRIED[kind], widths=widths)
        differs = jax.jit(lambda leaves: called(jax.tree.unflatten(part.structure, leaves)))(leaves)
        return next((what for what, differ in jax.device_get(differs).items() if differ), "")


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
        more = (_positions(rows, columns),) if positional else ()
        block = np.ix_(rows, columns)
        return normalizer(jnp.asarray(logits[block]), jnp.asarray(where[block]), *more)

    rows, columns = np.arange(QUERIES), np.arange(KEYS + 1)
    whole = weights(rows, columns)
    by_row = [weights(rows[i : i + 1], columns) for i in rows]
    allowed = [weights(rows[i : i + 1], columns[where[i]]) for i in rows]
    left_out = jnp.concatenate([x[:, where[i]] for i, x in zip(rows, by_row, strict=True)], axis=1)
    return {
        "queries": _differ(whole, jnp.concatenate(by_row)),
        "masked keys": _differ(left_out, jnp.concatenate(allowed, axis=1)),
    }


_TRIED = {"score": _score, "mod": _mod, "normalizer": _normalizer, "mask": _mask}


def _differ(whole: Array, parts: Array) -> Array:
    whole, parts = (jnp.nan_to_num(x.astype(jnp.float32)) for x in (whole, parts))
    return jnp.max(jnp.abs(whole - parts)) > ROUNDING * jnp.max(jnp.abs(whole))

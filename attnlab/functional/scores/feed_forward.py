"""Additive scores without storing the hidden layer [q k a], forward or in reverse.

tanh(x + y) = 1 − 2 / (1 + e^{2x} e^{2y}), so exponentials are computed once per token, and every (query, key, hidden
unit) needs only products, a sum and a division; a few terms are summed at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Bool, Float

from attnlab.functional.custom_transpose import custom_transpose
from attnlab.functional.types import Logits, accumulation_dtype
from attnlab.functional.varying import vary_like

UNROLLED = 16
"""Terms added in one pass over the result: more terms increase compile time, fewer increase memory traffic."""
SQUARINGS = 2
"""e^{2x} is stored as its root of order 2^SQUARINGS, which moves overflow from |x| = 44 to 177 in float32."""
FEW = 2
"""Most queries (or keys) for which [q k a] is stored, since it is hardly larger than the inputs."""


def additive(
    query: Float[Array, "q d"],
    key: Float[Array, "k e"],
    *,
    w_query: Float[Array, "d a"] | None,
    w_key: Float[Array, "e a"] | None,
    v: Float[Array, " a"],
) -> Logits:
    """Score every query against every key with a feed-forward network of one hidden layer.

    logits[i, j] = vᵀ tanh(W_qᵀ query_i + W_kᵀ key_j)

    The same function as `concat`, which takes W as one matrix. Not the `AdditiveAttention` of Keras, which has no
    learned projections.

    Args:
        query: queries of width d.
        key: keys of width e.
        w_query: W_q; None for queries that are already projected (then d = a).
        w_key: W_k; None for keys that are already projected (then e = a), as in a decoder that projects its keys once
            and attends at every step.
        v: the output weights of the hidden layer.
    Returns: logits, in [−‖v‖₁, ‖v‖₁].
    Numerics: computed in float32 for bfloat16 and float16. No array [q k a] is stored, forward or in reverse.
        Accurate to about 1e-6 · ‖v‖₁ in float32, for inputs of any magnitude, also where W_qᵀ query_i ≈ −W_kᵀ key_j.
    Reference: Bahdanau, Cho & Bengio 2015, appendix A.1.2.

    >>> logits = additive(jnp.ones((1, 2)), jnp.ones((3, 2)), w_query=jnp.eye(2), w_key=None, v=jnp.ones(2))
    >>> logits.shape, round(float(logits[0, 0]), 4)
    ((1, 3), 1.9281)
    """
    dtype = accumulation_dtype(query, key, v)
    from_query, from_key = _projected(query, w_query, dtype), _projected(key, w_key, dtype)
    widths = from_query.shape[1], from_key.shape[1], v.shape[0]
    if len(set(widths)) > 1:
        raise ValueError("additive: hidden widths of queries {}, keys {} and v {} must agree".format(*widths))
    hidden = from_query, from_key, v.astype(dtype)
    stored = min(query.shape[0], key.shape[0]) <= FEW
    return _stored((), hidden) if stored else _hidden_free((), hidden)


def concat(
    query: Float[Array, "q d"], key: Float[Array, "k e"], *, w: Float[Array, "c a"], v: Float[Array, " a"]
) -> Logits:
    """Score every query against every key with a feed-forward network on their concatenation.

    logits[i, j] = vᵀ tanh(Wᵀ [query_i; key_j])

    The same function as `additive` with W = [W_q; W_k], and computed that way, without concatenating pairs.

    Args:
        query: queries of width d.
        key: keys of width e.
        w: W, with c = d + e rows: the first d for the query, the others for the key.
        v: the output weights of the hidden layer.
    Returns: logits, in [−‖v‖₁, ‖v‖₁].
    Numerics: as in `additive`.
    Reference: Luong, Pham & Manning 2015, section 3.1, "concat".

    >>> logits = concat(jnp.ones((1, 1)), jnp.ones((3, 2)), w=jnp.ones((3, 2)), v=jnp.ones(2))
    >>> logits.shape, round(float(logits[0, 0]), 4)
    ((1, 3), 1.9901)
    """
    width = query.shape[1]
    if w.shape[0] != width + key.shape[1]:
        raise ValueError(f"concat: w has {w.shape[0]} rows, but query and key have {width} + {key.shape[1]} features")
    return additive(query, key, w_query=w[:width], w_key=w[width:], v=v)


def _projected(features: Array, w: Array | None, dtype: jnp.dtype) -> Array:
    return features.astype(dtype) if w is None else jnp.matmul(features, w, preferred_element_type=dtype)


# vᵀ tanh(x_i + y_j) for x [q a], y [k a], v [a], and its reverse

Hidden = tuple[Float[Array, "q a"], Float[Array, "k a"], Float[Array, " a"]]


def _stored(_: tuple[()], hidden: Hidden) -> Array:
    x, y, v = hidden
    return jnp.matmul(jnp.tanh(x[:, None, :] + y[None, :, :]), v)


def _row_by_row(_: tuple[()], hidden: Hidden) -> Array:
    """Store a few rows at a time, and recompute them in reverse: slower, but JAX can differentiate it."""
    x, y, v = hidden
    if x.shape[0] <= UNROLLED:
        return _stored((), hidden)
    row = jax.checkpoint(lambda x: jnp.matmul(jnp.tanh(x[None, :] + y), v))
    return lax.map(row, x, batch_size=UNROLLED)


def _forward(_: tuple[()], hidden: Hidden) -> Array:
    x, y, v = hidden

    def logits(unit: "_Unit", x: Array, y: Array, unrolled: int) -> Array:
        term = lambda x, y, v: v * unit.value(x[:, None], y[None, :])  # noqa: E731
        return _sum(term, (unit.prepare(x).T, unit.prepare(y).T, v), unrolled)

    return _guarded(logits, x, y)


def _reverse(_: tuple[()], hidden: Hidden, logits: Array, ct: Array) -> Hidden:
    x, y, v = hidden

    def cotangents(unit: "_Unit", x: Array, y: Array, unrolled: int) -> Hidden:
        x_ready, y_ready = unit.prepare(x), unit.prepare(y)

        def along(function: Callable[[Array, Array], Array], kept: Array, swept: Array, ct: Array) -> Array:
            """Return Σ_j ct[i, j] function(kept_i, swept_j) for every i and hidden unit."""
            return _sum(lambda other, ct: ct[:, None] * function(kept, other[None, :]), (swept, ct.T), unrolled)

        by_x = along(unit.slope, x_ready, y_ready, ct) * v[None, :]
        by_y = along(unit.slope, y_ready, x_ready, ct.T) * v[None, :]
        return by_x, by_y, along(unit.value, x_ready, y_ready, ct).sum(axis=0)

    return _guarded(cotangents, x, y)


# Jitted for eager calls, which would otherwise compile their loops in every call.
_hidden_free = custom_transpose(
    jax.jit(_forward, inline=True), jax.jit(_reverse, inline=True), jax.jit(_row_by_row, inline=True)
)


def _sum(term: Callable[..., Array], terms: tuple[Array, ...], unrolled: int) -> Array:
    """Return Σ_n term(a_n, b_n, ...) over the leading axis of the arrays; a term of zeros must be zero.

    Each pass over the sum adds several unrolled terms, which compiles to a loop that keeps them in registers. (A
    reduction of [q k a], or slices inside that loop, are 5 to 10 times as slow.)
    """
    count = terms[0].shape[0]
    unrolled = min(unrolled, count)
    passes = -(-count // unrolled)

    def parts(array: Array) -> Array:
        rest = array.shape[1:]
        padded = jnp.pad(array, [(0, passes * unrolled - count), *[(0, 0) for _ in rest]])
        return padded.reshape(passes, unrolled, *rest)

    def add(total: Array, several: tuple[Array, ...]) -> tuple[Array, None]:
        several = lax.optimization_barrier(several)
        for n in range(unrolled):
            total = total + term(*(array[n] for array in several))
        return total, None

    shape = jax.eval_shape(term, *(array[0] for array in terms))
    start = vary_like(jnp.zeros(shape.shape, shape.dtype), terms)
    return lax.scan(add, start, tuple(map(parts, terms)))[0]


class _Unit:
    """tanh(x + y) and its derivative, from `prepare(x)` and `prepare(y)`."""

    def prepare(self, x: Array) -> Array:
        """Compute the part that depends on one token only."""
        return x

    def value(self, x: Array, y: Array) -> Array:
        return jnp.tanh(x + y)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 - jnp.square(self.value(x, y))


class _ByExponentials(_Unit):
    """tanh(x + y) as 1 − 2r with r = 1 / (1 + e^{2x} e^{2y}), with derivative 4 r (1 − r)."""

    def prepare(self, x: Array) -> Array:
        return jnp.exp(x * 2.0 ** (1 - SQUARINGS))

    def value(self, x: Array, y: Array) -> Array:
        return 1 - 2 * self._r(x, y)

    def slope(self, x: Array, y: Array) -> Array:
        r = self._r(x, y)
        return 4 * r * (1 - r)

    def _r(self, x: Array, y: Array) -> Array:
        power = x * y
        for _ in range(SQUARINGS):
            power = power * power
        return 1 / (1 + power)


def _guarded(compute: Callable[[_Unit, Array, Array, int], Any], x: Array, y: Array) -> Any:
    """Compute with exponentials and, if one of them overflows, again with tanh.

    The second computation is a loop of at most one iteration: under `vmap` a `lax.cond` would always compute both. The
    barrier makes the iteration depend on the state, or the compiler would move it out of the loop.
    """

    def again(state: tuple[Array, Any]) -> tuple[Array, Any]:
        needed, inputs = lax.optimization_barrier((state[0], (x, y)))
        return jnp.zeros_like(needed), compute(_Unit(), inputs[0], inputs[1], 2)

    state = _overflows(x) | _overflows(y), compute(_ByExponentials(), x, y, UNROLLED)
    return lax.while_loop(lambda state: state[0], again, state)[1]


def _overflows(x: Array) -> Bool[Array, ""]:
    limit = 0.98 * math.log(float(jnp.finfo(x.dtype).max)) * 2.0 ** (SQUARINGS - 1)
    return jnp.max(jnp.abs(x), initial=0.0) > limit

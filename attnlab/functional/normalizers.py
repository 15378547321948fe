"""Normalizers: logits become weights. Which keys may be attended comes as `where`, never as a large negative number."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.types import widen


def softmax(
    logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None, *, axis: int = -1
) -> Float[Array, "*axes"]:
    """Weigh every key by the exponential of its logit, so that the weights of a query add up to one.

    weights[i, j] = exp(logits[i, j]) / Σ_{k allowed} exp(logits[i, k])    where j is allowed, else 0

    Not `jax.nn.softmax(..., where=...)`, which gives NaN gradients when a masked logit is NaN.

    Args:
        logits: any real numbers; −inf is the same as not allowed.
        where: True where a query may attend to a key; None where it may attend to all.
        axis: the axis of the keys.
    Returns: weights in [0, 1] that add up to one along `axis`, or are all 0 when nothing is allowed.
    Numerics: shifted by the largest allowed logit; float32 inside for bfloat16 and float16. Nothing of a
        masked logit (NaN, ±inf) reaches a weight or a gradient; an empty row has gradient 0. Differentiable
        forward and in reverse, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 6; Bridle 1990.

    >>> softmax(jnp.array([0.0, 0.0, jnp.nan]), jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    if where is not None:
        logits = jnp.where(where, logits, -jnp.inf)
    return _softmax(widen(logits), axis).astype(logits.dtype)


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(logits: Array, axis: int) -> Array:
    largest = jnp.max(logits, axis=axis, keepdims=True, initial=-jnp.inf)
    powers = jnp.exp(logits - jnp.where(largest == -jnp.inf, 0.0, largest))
    total = jnp.sum(powers, axis=axis, keepdims=True)
    return powers / jnp.where(total == 0.0, 1.0, total)


@_softmax.defjvp
def _softmax_jvp(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    weights, change = _softmax(primals[0], axis), tangents[0]
    return weights, weights * (change - jnp.sum(weights * change, axis=axis, keepdims=True))

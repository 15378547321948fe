"""Weights that take the place of attention weights: uniform ones, and the same ones in another order."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.normalizers import reorder


def uniform_weights(where: Bool[Array, "*b n"]) -> Float[Array, "*b n"]:
    """Return equal weights for all tokens that may be attended to.

    weight_i = 1 / n for each of the n tokens

    Args:
        where: True for tokens that may be attended to.
    Returns: weights that sum to one, or are all 0 where nothing may be attended to; float32.
    Reference: Wiegreffe & Pinter 2019, section 3.2.

    >>> uniform_weights(jnp.array([[True, True, False]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    counts = jnp.sum(where, axis=-1, keepdims=True, dtype=jnp.int32)
    share = 1.0 / jnp.maximum(counts, 1).astype(jnp.float32)
    return jnp.where(where, jnp.broadcast_to(share, where.shape), 0.0)


def permute(rng: Array, weights: Float[Array, "*b n"], where: Bool[Array, "*#b n"] | None = None) -> Array:
    """Permute the weights of each row at random; positions outside `where` keep their weight.

    Args:
        rng: a key of `jax.random`.
        weights: attention weights over the tokens; each row draws its own order.
        where: True for tokens among which weights are permuted; None for all.
    Returns: [*b n] the same weights in an order drawn uniformly from all permutations.

    >>> permute(jax.random.key(0), jnp.array([0.5, 0.5, 0.0]), jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    allowed = jnp.ones(weights.shape, bool) if where is None else jnp.broadcast_to(where, weights.shape)
    return reorder(weights, allowed, jax.random.uniform(rng, weights.shape, jnp.float32))

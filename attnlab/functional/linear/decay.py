"""Decays of the state between the tokens of one sequence, for the forms that compute many tokens at once."""

from typing import NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float


class Decays(NamedTuple):
    """The factors by which a state decays among t tokens, each [..., m] if every feature has its own, else [...].

    Each is in [0, 1] where the logarithms are at most 0.
    """

    between: Float[Array, "t t"] | Float[Array, "t t m"]
    """From after token j until token i, [i, j]; 0 for j > i, which also makes products with it causal."""
    since_start: Float[Array, " t"] | Float[Array, "t m"]
    """From the state before the first token until token i."""
    until_end: Float[Array, " t"] | Float[Array, "t m"]
    """From after token j until the last token."""

    @property
    def in_all(self) -> Array:
        """From the state before the first token until the last, [] or [m]."""
        return self.since_start[-1]


def decays(log_decay: Float[Array, " t"] | Float[Array, "t m"]) -> Decays:
    """Return the products of all intervals of decays, for t ≥ 1 tokens.

    between[i, j] = Π_{j < l ≤ i} exp(log_decay_l)    for j ≤ i, else 0

    Args:
        log_decay: logarithm of the factor by which each token decays the state before it, for all features or each.
    Returns: the `Decays`.
    Numerics: the logarithms of each interval are summed on their own. Differences of cumulative sums, or quotients of
        cumulative products, would be less work, but lose all digits of a weak decay after a strong one, and are NaN
        after a decay of exactly 0 (−inf), which here empties the state.
    Reference: Dao & Gu 2024, "Transformers are SSMs", listing 1 (the segment sum, for one decay a token).

    >>> import jax
    >>> jax.jit(decays)(jnp.log(jnp.array([0.5, 0.25]))).between.tolist()
    [[1.0, 0.0], [0.25, 1.0]]
    """
    tokens = jnp.arange(log_decay.shape[0])
    trailing = (1,) * (log_decay.ndim - 1)
    later = (tokens[:, None] > tokens[None, :]).reshape(*2 * tokens.shape, *trailing)
    allowed = (tokens[:, None] >= tokens[None, :]).reshape(*2 * tokens.shape, *trailing)
    sums = jnp.cumsum(jnp.where(later, log_decay[:, None], 0.0), axis=0)
    between = jnp.where(allowed, jnp.exp(sums), 0.0)
    return Decays(between, jnp.exp(jnp.cumsum(log_decay, axis=0)), between[-1])


def decayed_products(
    left: Float[Array, "t m"], right: Float[Array, "t m"], between: Float[Array, "t t"] | Float[Array, "t t m"]
) -> Float[Array, "t t"]:
    """Return the inner products of tokens, each feature times its decay in between.

    products[i, j] = Σ_d left[i, d] right[j, d] between[i, j, d]

    Args:
        left: features of the later tokens, queries or keys.
        right: features of the earlier tokens.
        between: decays of `decays`, 0 for j > i.
    Returns: products, 0 for j > i.
    Numerics: one matrix product if all features share their decay. Otherwise [t, t, m] numbers are summed: the
        factored form, (left exp(G)) · (right exp(−G)) with cumulative G, overflows.

    >>> import jax
    >>> ones = jnp.ones((2, 3))
    >>> jax.jit(decayed_products)(ones, ones, jnp.array([[1.0, 0.0], [0.5, 1.0]])).tolist()
    [[3.0, 0.0], [1.5, 3.0]]
    """
    if between.ndim == 2:
        return (left @ right.T) * between
    return jnp.sum(left[:, None] * right[None, :] * between, axis=-1)


def scaled(features: Float[Array, "*t m"], factors: Array) -> Float[Array, "*t m"]:
    """Multiply the features of each token by its decay, one for all features ([*t]) or one for each ([*t, m]).

    >>> scaled(jnp.ones((2, 2)), jnp.array([1.0, 0.5])).tolist()
    [[1.0, 1.0], [0.5, 0.5]]
    """
    return features * (factors if factors.ndim == features.ndim else factors[..., None])

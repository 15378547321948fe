"""Statistics of attention: what a row of logits or weights amounts to. Every one sees one head of one example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import Logits, Weights, Where


def masked_logits(logits: Logits, where: Where | None = None) -> Logits:
    """Set the logits that are not allowed to −inf.

    >>> masked_logits(jnp.array([[1.0, 2.0]]), jnp.array([[True, False]])).tolist()
    [[1.0, -inf]]
    """
    return logits if where is None else jnp.where(where, logits, -jnp.inf)


def largest(logits: Logits, where: Where | None = None) -> Float[Array, " q"]:
    """Return the largest allowed logit of each query; −inf for an empty row.

    >>> largest(jnp.array([[1.0, 2.0]]), jnp.array([[True, False]])).tolist()
    [1.0]
    """
    return jnp.max(masked_logits(logits, where), axis=1, initial=-jnp.inf)


def lse(logits: Logits, where: Where | None = None) -> Float[Array, " q"]:
    """Return the logarithm of the softmax's denominator for each query.

    lse_i = log Σ_{j allowed} exp(logits[i, j])

    Returns: −inf for an empty row, whose gradient is 0.
    Numerics: shifted by the largest allowed logit; its gradient is the softmax weights.

    >>> round(float(lse(jnp.zeros((1, 2)))[0]), 4)
    0.6931
    """
    logits = masked_logits(logits, where)
    shift = jax.lax.stop_gradient(jnp.max(logits, axis=1, initial=-jnp.inf))
    empty = shift == -jnp.inf
    shift = jnp.where(empty, 0.0, shift)
    total = jnp.sum(jnp.exp(logits - shift[:, None]), axis=1)
    return jnp.where(empty, -jnp.inf, jnp.log(jnp.where(empty, 1.0, total)) + shift)


def entropy(weights: Weights) -> Float[Array, " q"]:
    """Return how spread the weights of each query are, in nats.

    entropy_i = −Σ_j weights[i, j] log weights[i, j]    with 0 log 0 = 0

    Returns: 0 for one key alone (or none), log k for k equal weights.
    Numerics: the gradient is −log w − 1, and 0 at a weight of 0.

    >>> round(float(entropy(jnp.array([[0.5, 0.5, 0.0]]))[0]), 4)
    0.6931
    """
    positive = weights != 0.0
    return -jnp.sum(jnp.where(positive, weights * jnp.log(jnp.where(positive, weights, 1.0)), 0.0), axis=1)

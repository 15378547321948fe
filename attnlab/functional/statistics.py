"""Statistics of the logits or weights of one head of one example."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import Logits, Positions, Weights, Where


def masked_logits(logits: Logits, where: Where | None = None) -> Logits:
    """Set masked logits to −inf.

    >>> masked_logits(jnp.array([[1.0, 2.0]]), jnp.array([[True, False]])).tolist()
    [[1.0, -inf]]
    """
    return logits if where is None else jnp.where(where, logits, -jnp.inf)


def largest(logits: Logits, where: Where | None = None) -> Float[Array, " q"]:
    """Return the largest allowed logit of each query; −inf for a fully masked row.

    Numerics: the gradient is 1 at the first of the largest logits, which is selected by its index. (The gradient of
        `jnp.max` compares logits with the maximum, and is 0 where the compiler rounds the two differently.)

    >>> largest(jnp.array([[1.0, 2.0]]), jnp.array([[True, False]])).tolist()
    [1.0]
    """
    logits = masked_logits(logits, where)
    if logits.shape[1] == 0:
        return jnp.full(logits.shape[0], -jnp.inf, logits.dtype)
    index = jnp.argmax(logits, axis=1, keepdims=True)
    return jnp.take_along_axis(logits, index, axis=1)[:, 0]


def lse(logits: Logits, where: Where | None = None) -> Float[Array, " q"]:
    """Return the logarithm of the softmax's denominator for each query.

    lse_i = log Σ_{j allowed} exp(logits[i, j])

    Returns: −inf for a fully masked row, with gradient 0.
    Numerics: shifted by the largest allowed logit; the gradient is the softmax weights.

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
    """Return the entropy of the weights of each query, in nats.

    entropy_i = −Σ_j weights[i, j] log weights[i, j]    with 0 log 0 = 0

    Returns: 0 for a single key or a fully masked row, log k for k equal weights.
    Numerics: the gradient is −log w − 1, and 0 at a weight of 0.

    >>> round(float(entropy(jnp.array([[0.5, 0.5, 0.0]]))[0]), 4)
    0.6931
    """
    positive = weights != 0.0
    return -jnp.sum(jnp.where(positive, weights * jnp.log(jnp.where(positive, weights, 1.0)), 0.0), axis=1)


def key_mass(weights: Weights) -> Float[Array, " k"]:
    """Return the sum of the weights of each key over all queries.

    key_mass_j = Σ_i weights[i, j]

    Also called the attention that a token receives; in translation, the coverage of a source word.

    >>> key_mass(jnp.array([[0.5, 0.5], [0.0, 1.0]])).tolist()
    [0.5, 1.5]
    """
    return jnp.sum(weights, axis=0)


def distance(weights: Weights, positions: Positions) -> Float[Array, " q"]:
    """Return the mean distance from each query to the keys it attends to, in positions.

    distance_i = Σ_j weights[i, j] |p_i − p_j|

    Returns: at least 0; 0 for a fully masked row. If the weights do not sum to 1 it is a sum, not a mean.
    Reference: Vig & Belinkov 2019, "Analyzing the structure of attention in a transformer language model".

    >>> positions = Positions(jnp.array([2]), jnp.array([0, 2]), jnp.int32(0), jnp.int32(0))
    >>> distance(jnp.array([[0.5, 0.5]]), positions).tolist()
    [1.0]
    """
    return jnp.sum(weights * jnp.abs(positions.rows - positions.columns).astype(weights.dtype), axis=1)

"""The score of uniform attention."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import Logits, Query, accumulation_dtype
from attnlab.functional.varying import vary_like


def constant(query: Query, key: Float[Array, "k e"]) -> Logits:
    """Score all keys alike, whatever queries and keys are: uniform weights with `softmax`.

    logits[i, j] = 0

    With `mods.diagonal_bias` or `mods.random_bias` the weights depend on positions alone. The mean of the values is the
    classical control for attention that is learned; it has no parameters.

    Args:
        query: queries of any width.
        key: keys of any width.
    Returns: zeros.
    Numerics: zeros of float64 if query or key has it, of float32 otherwise; the gradient with respect to both is 0.
    Reference: Wiegreffe & Pinter 2019, section 3.2 (models trained with uniform weights).

    >>> constant(jnp.ones((1, 4)), jnp.ones((2, 3))).tolist()
    [[0.0, 0.0]]
    """
    zeros = jnp.zeros((query.shape[0], key.shape[0]), accumulation_dtype(query, key))
    return vary_like(zeros, (query, key))

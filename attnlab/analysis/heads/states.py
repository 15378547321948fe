"""Hidden states behind the attention: how alike they are, and how large the largest is."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.types import widen


def conicity(states: Float[Array, "t d"], valid: Bool[Array, " t"] | None = None) -> Float[Array, ""]:
    """Return how narrow a cone the hidden states of a sequence lie in: their mean cosine similarity with their mean.

    conicity = (1/T) Σ_t cos(h_t, (1/T) Σ_t' h_t')

    Near 1, the states are so alike that permuting the attention weights hardly changes their weighted sum.

    Args:
        states: hidden states.
        valid: True for tokens that are not padding; None counts all.
    Returns: in [−1, 1], for states of one length in [0, 1]; 1 for a single state; 0 if there is none. A state of length
        0, or a mean of length 0, has cosine 0.
    Reference: Mohankumar et al. 2020, "Towards transparent and explainable attention models"; Chandrahas, Sharma &
        Talukdar 2018 ("conicity" as the mean "alignment to mean").

    >>> round(float(conicity(jnp.eye(2))), 4)
    0.7071
    """
    mask = jnp.ones(states.shape[0], bool) if valid is None else valid
    states = jnp.where(mask[:, None], widen(states), 0.0)
    count = jnp.maximum(jnp.sum(mask.astype(states.dtype)), 1.0)
    mean = jnp.sum(states, axis=0) / count
    scale = jnp.sqrt(jnp.sum(states**2, axis=1) * jnp.sum(mean**2))
    positive = scale > 0.0
    return jnp.sum(jnp.where(positive, states @ mean / jnp.where(positive, scale, 1.0), 0.0)) / count


def massive_activation_ratio(states: Float[Array, "t d"], valid: Bool[Array, " t"] | None = None) -> Float[Array, ""]:
    """Return the largest magnitude of the hidden states relative to their median magnitude.

    ratio = max_{t, i} |h_ti| / median_{t, i} |h_ti|

    Above about 1,000 Sun et al. speak of a massive activation; such tokens are the sinks of the layers that follow.

    Args:
        states: hidden states of a layer, before its normalization.
        valid: True for tokens that are not padding; None counts all.
    Returns: at least 1; inf if the median is 0 but not all states; 0 if all are 0, or there are none.
    Reference: Sun et al. 2024, "Massive activations in large language models", section 2.

    >>> float(massive_activation_ratio(jnp.array([[1.0, -2.0, 8.0]])))
    4.0
    """
    mask = jnp.ones(states.shape[0], bool) if valid is None else valid
    magnitude = jnp.sort(jnp.where(mask[:, None], jnp.abs(widen(states)), jnp.inf).ravel())
    if magnitude.size == 0:
        return jnp.zeros((), magnitude.dtype)
    count = jnp.sum(mask) * states.shape[1]
    lower, upper = (magnitude[jnp.maximum(index, 0)] for index in ((count - 1) // 2, count // 2))
    median, largest = 0.5 * (lower + upper), magnitude[jnp.maximum(count - 1, 0)]
    ratio = jnp.where(median > 0.0, largest / jnp.where(median > 0.0, median, 1.0), jnp.inf)
    return jnp.where((count > 0) & (largest > 0.0), ratio, 0.0)

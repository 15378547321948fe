"""Attention sinks: keys that many queries attend to, and the values behind them."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.heads.patterns import Mask, visible
from attnlab.functional import statistics
from attnlab.functional.types import Weights, widen


def received_attention(weights: Weights, where: Mask | None = None) -> Float[Array, " k"]:
    """Return the mean weight that each key receives from the queries that may attend to it.

    received_k = Σ_q weights[q, k] / number of queries that may attend to key k

    For a causal mask this is the importance score of Gu et al.

    Returns: in [0, 1]; 0 for a key that no query may attend to.
    Reference: Gu et al. 2025, section 3.2.

    >>> received_attention(jnp.array([[1.0, 0.0], [0.5, 0.5]]), jnp.tril(jnp.ones((2, 2), bool))).tolist()
    [0.75, 0.5]
    """
    weights, mask = visible(weights, where)
    return statistics.key_mass(weights) / jnp.maximum(jnp.sum(mask.astype(weights.dtype), axis=0), 1.0)


def sink_rate(weights: Float[Array, "h q k"], where: Mask | None = None, threshold: float = 0.3) -> Float[Array, " k"]:
    """Return the share of heads for which each key is an attention sink.

    rate_k = (1/H) Σ_h [received_attention_h(k) > threshold]

    Gu et al. report key 0 (`sink_rate(...)[0]`), with the layers' heads together, averaged over sequences.

    Args:
        weights: all heads, of one or more layers.
        where: mask of all heads.
        threshold: ε, in [0, 1].
    Returns: in [0, 1]. A key that few queries may attend to easily reaches the threshold: with a causal mask the last
        keys say little.
    Reference: Gu et al. 2025, "When attention sink emerges in language models", section 3.2, with ε = 0.3.

    >>> sink_rate(jnp.stack([jnp.eye(4), jnp.eye(4)[jnp.zeros(4, int)]])).tolist()
    [0.5, 0.0, 0.0, 0.0]
    """
    if not 0.0 <= threshold <= 1.0:
        raise ValueError(f"sink_rate: threshold {threshold} must be in [0, 1]")
    received = jax.vmap(lambda head: received_attention(head, where))(weights)
    return jnp.sum((received > threshold).astype(received.dtype), axis=0) / max(weights.shape[0], 1)


def value_norm_ratio(value: Float[Array, "k v"], sink: int, valid: Bool[Array, " k"] | None = None) -> Float[Array, ""]:
    """Return the norm of a key's value relative to the mean norm of the others.

    ratio = ‖v_sink‖ / mean_{k ≠ sink} ‖v_k‖

    A sink that has a small value takes weight without adding to the output: attention that does nothing.

    Args:
        value: values of a head, or better their projections f(x_k) = v_k W_O, which add to the output.
        sink: index of the key.
        valid: True for keys that are not padding; None counts all.
    Returns: at least 0; 0 if the sink is padding or there is no other key, inf if all others are 0 but the sink is not.
    Reference: Kobayashi et al. 2020, section 4; Gu et al. 2025, section 3.1.

    >>> float(value_norm_ratio(jnp.array([[0.5], [1.0], [3.0]]), sink=0))
    0.25
    """
    if not 0 <= sink < value.shape[0]:
        raise ValueError(f"value_norm_ratio: key {sink} does not exist; there are {value.shape[0]} keys, from 0")
    mask = jnp.ones(value.shape[0], bool) if valid is None else valid
    norm = jnp.sqrt(jnp.sum(jnp.where(mask[:, None], widen(value), 0.0) ** 2, axis=1))
    others = mask & (jnp.arange(value.shape[0]) != sink)
    count = jnp.sum(others.astype(norm.dtype))
    mean = jnp.sum(jnp.where(others, norm, 0.0)) / jnp.maximum(count, 1.0)
    ratio = jnp.where(mean > 0.0, norm[sink] / jnp.where(mean > 0.0, mean, 1.0), jnp.inf)
    return jnp.where((count > 0.0) & (norm[sink] > 0.0), ratio, 0.0)

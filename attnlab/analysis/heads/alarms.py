"""Alarms: attention maps that are constant, uniform, not finite, or empty, and so explain nothing."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from attnlab.analysis.heads.patterns import Mask, visible
from attnlab.functional.divergence import jsd
from attnlab.functional.types import Weights, Where

AlarmKind = Literal["nonfinite", "fully_masked", "uniform", "constant"]
CONSTANT = 1e-6
"""Largest divergence of a query's weights from their mean, in nats, at which a map counts as constant."""
UNIFORM = 0.01
"""Largest relative difference of a weight from 1 / (number of keys) at which a map counts as uniform."""
MEANINGS: dict[AlarmKind, str] = {
    "nonfinite": "NaN or Inf among the weights",
    "fully_masked": "a token that is not padding attends to nothing",
    "uniform": f"every weight is within {UNIFORM:.0%} of uniform attention",
    "constant": "every query has the same weights",
}


@dataclass(frozen=True)
class Alarm:
    """A fault of the attention maps of one head.

    Attributes:
        kind: what is wrong.
        layer: name of the layer.
        head: number of the head, from 1.
        affected: number of examples with this fault.
        examples: number of examples that could have it; of those with one query or one key, no map can be called
            constant or uniform.
        message: all of this as a sentence.
    """

    kind: AlarmKind
    layer: str
    head: int
    affected: int
    examples: int
    message: str


def max_divergence_from_mean(weights: Weights, where: Mask | None = None) -> Float[Array, ""]:
    """Return the largest divergence of a query's weights from the mean weights of all queries.

    max_q JSD(weights_q, mean_q' weights_q')

    Args:
        weights: one head of one example, rows that sum to 1.
        where: mask; queries that may attend to nothing do not count.
    Returns: in [0, ln 2]; 0 for a map in which every query attends alike, or with fewer than two queries.

    >>> float(max_divergence_from_mean(jnp.full((3, 2), 0.5)))
    0.0
    """
    weights, mask = visible(weights, where)
    rows = mask.any(axis=1)
    mean = jnp.sum(weights, axis=0) / jnp.maximum(jnp.sum(rows.astype(weights.dtype)), 1.0)
    divergence = jsd(weights, jnp.broadcast_to(mean, weights.shape))
    return jnp.max(jnp.where(rows, divergence, 0.0), initial=0.0)


def max_difference_from_uniform(weights: Weights, where: Mask | None = None) -> Float[Array, ""]:
    """Return the largest relative difference of a weight from uniform attention.

    max_{q, k} |n_q weights[q, k] − 1|    with n_q the number of keys that query q may attend to

    Args:
        weights: one head of one example, rows that sum to 1.
        where: mask.
    Returns: at least 0; 0 for uniform weights, or if every query may attend to nothing.

    >>> float(max_difference_from_uniform(jnp.array([[0.5, 0.5], [0.75, 0.25]])))
    0.5
    """
    weights, mask = visible(weights, where)
    count = jnp.sum(mask.astype(weights.dtype), axis=1, keepdims=True)
    return jnp.max(jnp.where(mask, jnp.abs(count * weights - 1.0), 0.0), initial=0.0)


def attention_alarms(
    weights: Float[Array | np.ndarray, "b h q k"],
    where: Bool[Array | np.ndarray, "#b #h #q #k"] | None = None,
    queries: Bool[Array | np.ndarray, "b q"] | None = None,
    layer: str = "attention",
) -> list[Alarm]:
    """Return the faults of the attention maps of a layer, one record for each head and kind.

    nonfinite       NaN or Inf at a key that may be attended to
    fully_masked    a query that is not padding has no key, or weights that are all 0
    uniform         every weight within 1% of 1/n, n the number of keys of its query
    constant        max_q JSD(weights_q, mean weights) < 1e-6: the same map for every query (not reported if uniform)

    A causal map is constant only if all queries attend to the first key.

    Args:
        weights: weights of a batch.
        where: mask of the attention with padding, of `analysis.interventions.allowed` with the lengths of the queries;
            an axis of 1 is the same for all. None if every query may attend to every key.
        queries: True for queries that are not padding; None takes those with a key, and so finds a fully masked row
            only by its weights.
        layer: name of the layer, for the message.
    Returns: records in the order of heads, then kinds; none if nothing is wrong.
    Numerics: on the host. Kinds after the first are tested in examples that are finite.

    >>> [alarm.message for alarm in attention_alarms(jnp.full((2, 1, 3, 4), 0.25), layer="encoder 1")]
    ['encoder 1, head 1: every weight is within 1% of uniform attention (2 of 2 examples)']
    """
    heads = weights.shape[1]
    mask: np.ndarray = np.ones((1, 1, 1, 1), bool) if where is None else np.asarray(where)
    if mask.ndim != 4 or any(n not in (1, size) for n, size in zip(mask.shape, weights.shape, strict=True)):
        raise ValueError(
            f"attention_alarms: where {mask.shape} must be [b h q k] {weights.shape}, or 1 for an axis that it is "
            "constant along"
        )
    mask = np.broadcast_to(mask, weights.shape)
    real = np.any(mask, axis=(1, 3)) if queries is None else np.asarray(queries)
    mask = mask & real[:, None, :, None]
    if weights.size == 0:
        return []
    found = jax.device_get(_criteria(jnp.asarray(weights), jnp.asarray(mask), jnp.asarray(real)))
    comparable = (mask.any(axis=3).sum(axis=2) >= 2) & (mask.any(axis=2).sum(axis=2) >= 2)
    wide = (mask.sum(axis=3) >= 2).any(axis=2)
    finite = ~found["nonfinite"]
    uniform = finite & wide & (found["from_uniform"] <= UNIFORM) & ~found["fully_masked"]
    constant = finite & comparable & (found["from_mean"] < CONSTANT) & ~found["fully_masked"] & ~uniform
    everywhere = np.ones(wide.shape, bool)
    kinds: tuple[tuple[AlarmKind, np.ndarray, np.ndarray], ...] = (
        ("nonfinite", found["nonfinite"], everywhere),
        ("fully_masked", found["fully_masked"] & finite, everywhere),
        ("uniform", uniform, wide),
        ("constant", constant, comparable),
    )
    return [
        _alarm(kind, layer, head + 1, int(faults[:, head].sum()), int(possible[:, head].sum()))
        for head in range(heads)
        for kind, faults, possible in kinds
        if faults[:, head].any()
    ]


def _alarm(kind: AlarmKind, layer: str, head: int, affected: int, examples: int) -> Alarm:
    message = f"{layer}, head {head}: {MEANINGS[kind]} ({affected} of {examples} examples)"
    return Alarm(kind, layer, head, affected, examples, message)


@jax.jit
def _criteria(
    weights: Float[Array, "b h q k"], mask: Bool[Array, "b h q k"], real: Bool[Array, "b q"]
) -> dict[str, Array]:
    """Return what the alarms are decided by, [b h] each."""

    def of_head(real: Bool[Array, " q"], weights: Weights, mask: Where) -> dict[str, Array]:
        masked = visible(weights, mask)[0]
        finite = jnp.isfinite(masked)
        masked = jnp.where(finite, masked, 0.0)
        return {
            "nonfinite": ~finite.all(),
            "fully_masked": (real & (masked == 0.0).all(axis=1)).any(),
            "from_mean": max_divergence_from_mean(masked, mask),
            "from_uniform": max_difference_from_uniform(masked, mask),
        }

    def of_example(
        weights: Float[Array, "h q k"], mask: Bool[Array, "h q k"], real: Bool[Array, " q"]
    ) -> dict[str, Array]:
        return jax.vmap(partial(of_head, real))(weights, mask)

    return jax.vmap(of_example)(weights, mask, real)

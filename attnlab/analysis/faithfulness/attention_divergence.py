"""How far two models are from each other in their attention weights and in their predictions for the same texts."""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.functional.divergence import jsd, tvd

MAX_WEIGHT_EDGES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Bins of the largest weight of a text, those of Wiegreffe & Pinter 2019, figure 3."""


class AttentionDivergence(NamedTuple):
    """The distance of a model from a base model, for one text."""

    weight_jsd: Float[Array, ""]
    """Divergence of the attention weights, in [0, ln 2]; of several hops the mean."""
    prediction_tvd: Float[Array, ""]
    """Total variation distance of the predictions, in [0, 1]."""
    max_weight: Float[Array, ""]
    """The largest attention weight of the base model; of several hops the mean."""


def attention_divergence(
    base_probabilities: Float[Array, " c"],
    base_weights: Float[Array, "*r n"],
    probabilities: Float[Array, " c"],
    weights: Float[Array, "*r n"],
) -> AttentionDivergence:
    """Compute the divergence of attention weights and the distance of predictions of two models for one text.

    JSD(α_b, α),  TVD(ŷ_b, ŷ)

    Between models that differ only in the seed this is the variance that training itself has: the noise floor for
    models that are trained to attend differently.

    Args:
        base_probabilities: class probabilities of the base model.
        base_weights: its attention weights over the tokens, one row a hop if there are several.
        probabilities: class probabilities of the other model.
        weights: its attention weights over the same tokens, hop by hop.
    Returns: an `AttentionDivergence`; NaN if an argument is.
    Numerics: float32 at least; padding, with weight 0 in both, adds nothing.
    Reference: Wiegreffe & Pinter 2019, section 3.3 and figure 3.

    >>> half, one = jnp.array([0.5, 0.5]), jnp.array([1.0, 0.0])
    >>> [round(float(value), 4) for value in attention_divergence(half, half, one, one)]
    [0.2158, 0.5, 0.5]
    """
    divergence = jnp.mean(jsd(base_weights, weights))
    return AttentionDivergence(divergence, tvd(base_probabilities, probabilities), jnp.mean(jnp.max(base_weights, -1)))


class Bin(NamedTuple):
    """The divergence of the weights of those texts whose largest weight lies in a bin."""

    low: float
    high: float
    """The bin is [low, high), the last one [low, high]."""
    texts: int
    quantiles: list[float] | None
    """Smallest, quartiles and largest weight_jsd of these texts: five numbers; None for a bin without a text."""


def by_max_weight(
    weight_jsd: Float[np.ndarray, " n"],
    max_weight: Float[np.ndarray, " n"],
    edges: Sequence[float] = MAX_WEIGHT_EDGES,
) -> list[Bin]:
    """Return the distribution of the divergence of the weights in each bin of the largest weight.

    A large divergence at large weights says more than one at flat weights, where little distinguishes the tokens.

    Args:
        weight_jsd: of each text.
        max_weight: of each text.
        edges: the edges of the bins, from 0 to 1.
    Reference: Wiegreffe & Pinter 2019, figure 3.

    >>> by_max_weight(np.array([0.1, 0.3]), np.array([0.5, 1.0]), (0.0, 0.5, 1.0))[0]
    Bin(low=0.0, high=0.5, texts=0, quantiles=None)
    """
    places = np.clip(np.searchsorted(edges, max_weight, side="right") - 1, 0, len(edges) - 2)
    bins = []
    for place, (low, high) in enumerate(pairwise(edges)):
        inside = weight_jsd[places == place]
        quantiles = np.percentile(inside, [0, 25, 50, 75, 100]).tolist() if len(inside) else None
        bins.append(Bin(low, high, len(inside), quantiles))
    return bins

"""Coverage of the source in translation: over- and under-translation."""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.heads.patterns import Mask, visible
from attnlab.functional import statistics
from attnlab.functional.types import Weights


class CoverageDeviation(NamedTuple):
    """How far the coverage of source words is from 1."""

    total: Array
    """Σ_k |1 − coverage_k|, which is under + over."""
    under: Array
    """Σ_k max(0, 1 − coverage_k): source words that were translated too little."""
    over: Array
    """Σ_k max(0, coverage_k − 1): source words that were translated too often."""


def coverage(weights: Weights, where: Mask | None = None) -> Float[Array, " k"]:
    """Return the coverage Σ_q weights[q, k] of each key (see `functional.statistics.key_mass`), without padding.

    Args:
        weights: attention of a decoder over its source.
        where: mask; a padded target token is a row of False.
    Returns: at least 0; 0 for padded keys.
    Reference: Tu et al. 2016, "Modeling coverage for neural machine translation", with a fertility of 1.

    >>> coverage(jnp.array([[0.5, 0.5], [0.0, 1.0]])).tolist()
    [0.5, 1.5]
    """
    return statistics.key_mass(visible(weights, where)[0])


def coverage_deviation(weights: Weights, where: Mask | None = None) -> CoverageDeviation:
    """Return how far the coverage of the keys is from 1 each, summed over keys: under- and over-translation.

    total = Σ_k |1 − coverage_k|

    A deviation of 0 needs as many queries as keys: if T target words translate S source words, total ≥ |S − T|.

    Args:
        weights: attention of a decoder over its source.
        where: mask; keys that no query may attend to are padding and do not count.
    Returns: sums, at least 0.
    Reference: Tu et al. 2016 (over- and under-translation).

    >>> [float(value) for value in coverage_deviation(jnp.array([[0.5, 0.5], [0.0, 1.0]]))]
    [1.0, 0.5, 0.5]
    """
    missing = jnp.where(visible(weights, where)[1].any(axis=0), 1.0 - coverage(weights, where), 0.0)
    under, over = jnp.sum(jnp.maximum(missing, 0.0)), jnp.sum(jnp.maximum(-missing, 0.0))
    return CoverageDeviation(under + over, under, over)

"""The permutation test of Jain & Wallace 2019: how much the prediction depends on which token gets which weight."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.faithfulness.divergence import tvd

PredictFromWeights = Callable[[Float[Array, " n"]], Float[Array, " c"]]
"""(weights [n]) -> class probabilities [c], of a model whose attention weights are replaced by these."""


class PermutationTest(NamedTuple):
    """How predictions change under permutations of the attention weights of one text."""

    median_tvd: Float[Array, ""]
    """Median over the permutations of the total variation distance from the original prediction, in [0, 1]."""
    tvds: Float[Array, " p"]
    """The distance of each permutation."""
    max_weight: Float[Array, ""]
    """The largest attention weight, which the median is plotted against."""


def permute(rng: Array, weights: Float[Array, " n"], where: Bool[Array, " n"] | None = None) -> Float[Array, " n"]:
    """Permute the weights of the tokens at random; other positions keep their weight.

    Args:
        rng: a key of `jax.random`.
        weights: attention weights over the tokens of one text.
        where: True for tokens among which weights are permuted; None for all.
    Returns: the same weights in an order drawn uniformly from all permutations.

    >>> permute(jax.random.key(0), jnp.array([0.5, 0.5, 0.0]), jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    excluded = jnp.zeros(weights.shape, bool) if where is None else ~where
    shuffled = jnp.lexsort((jax.random.uniform(rng, weights.shape), excluded))
    places = jnp.argsort(excluded, stable=True)
    permuted = jnp.zeros_like(weights).at[places].set(weights[shuffled])
    return jnp.where(excluded, weights, permuted)


def permutation_test(
    rng: Array,
    predict: PredictFromWeights,
    weights: Float[Array, " n"],
    where: Bool[Array, " n"] | None = None,
    *,
    permutations: int = 100,
) -> PermutationTest:
    """Compare the prediction with predictions from randomly permuted attention weights.

    Δŷ_med = median_p TVD(f(π_p(α)), f(α))

    A small median at a large weight says that the prediction does not depend on where that weight lies. It does not say
    that the weights are no explanation: the values may all carry the same information (Mohankumar et al. 2020), and the
    model was not trained with the permuted weights (Wiegreffe & Pinter 2019).

    Args:
        rng: a key of `jax.random`.
        predict: (weights [n]) -> class probabilities [c]. It must be deterministic: without dropout. (The code
            published with the paper leaves the model in training mode.)
        weights: attention weights over the tokens of one text.
        where: True for tokens among which weights are permuted; None for all. The paper leaves out the first and the
            last, special token.
        permutations: number of permutations.
    Returns: a `PermutationTest`; all distances are 0 for fewer than two tokens.
    Reference: Jain & Wallace 2019, algorithm 2 and section 4.2.1.

    >>> values = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> predict = lambda weights: weights @ values
    >>> test = permutation_test(jax.random.key(0), predict, jnp.array([1.0, 0.0, 0.0]))
    >>> float(test.median_tvd), float(test.max_weight)
    (1.0, 1.0)
    """
    if permutations < 1:
        raise ValueError(f"permutation_test: permutations must be at least 1, not {permutations}")
    original = predict(weights)

    def distance(rng: Array) -> Float[Array, ""]:
        return tvd(predict(permute(rng, weights, where)), original)

    tvds = jax.vmap(distance)(jax.random.split(rng, permutations))
    valid = jnp.ones(weights.shape, bool) if where is None else where
    return PermutationTest(jnp.median(tvds), tvds, jnp.max(weights, where=valid, initial=0.0))

"""The permutation test of Jain & Wallace 2019: how much the prediction depends on which token gets which weight."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.checks import check_attributions, check_positive, has_nan
from attnlab.analysis.faithfulness.removal import Attributions
from attnlab.analysis.functions import PredictFromWeights
from attnlab.analysis.weights import permute
from attnlab.functional.divergence import tvd


class PermutationTest(NamedTuple):
    """How predictions change under permutations of the attention weights of one text."""

    median_tvd: Float[Array, ""]
    """Median over the permutations of the total variation distance from the original prediction, in [0, 1]."""
    tvds: Float[Array, " p"]
    """The distance of each permutation."""
    max_weight: Float[Array, ""]
    """The largest attention weight, which the median is plotted against."""


def permutation_test(
    rng: Array,
    predict: PredictFromWeights,
    weights: Attributions,
    where: Bool[Array, " n"] | None = None,
    *,
    n_permutations: int = 100,
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
        n_permutations: number of permutations.
    Returns: a `PermutationTest`; all distances are 0 for fewer than two tokens, and NaN if a weight or a prediction is.
    Numerics: float32 at least. Under `jit`, n_permutations is static.
    Reference: Jain & Wallace 2019, algorithm 2 and section 4.2.1.

    >>> values = jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> predict = lambda weights: weights @ values
    >>> test = permutation_test(jax.random.key(0), predict, jnp.array([1.0, 0.0, 0.0]))
    >>> float(test.median_tvd), float(test.max_weight)
    (1.0, 1.0)
    """
    name = "permutation_test"
    check_positive(name, n_permutations=n_permutations)
    values, allowed = check_attributions(name, weights, where, "where")
    original = predict(values)

    def distance(rng: Array) -> Float[Array, ""]:
        return tvd(predict(permute(rng, values, allowed)), original)

    tvds = jax.vmap(distance)(jax.random.split(rng, n_permutations))
    tvds = jnp.where(has_nan(values, allowed), jnp.nan, tvds)
    return PermutationTest(jnp.median(tvds), tvds, jnp.max(values, where=allowed, initial=0.0))

"""Attribution by one gradient: `saliency` and `input_x_gradient`."""

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.aggregation import aggregate_features
from attnlab.analysis.attribution.checks import check_embedded, check_valid, gradient_of
from attnlab.analysis.attribution.record import Attribution, Scores


def gradient(
    method: str, scores: Scores, embedded: Float[Array, "n d"], valid: Bool[Array, " n"] | None
) -> Float[Array, "n d"]:
    """Return ∂F/∂x after checks of the arguments of `method`, with 0 at padding."""
    check_embedded(method, embedded)
    check_valid(method, valid, embedded.shape[0])
    slope = gradient_of(method, scores)(embedded)
    return slope if valid is None else jnp.where(valid[:, None], slope, 0)


def saliency(scores: Scores, embedded: Float[Array, "n d"], *, valid: Bool[Array, " n"] | None = None) -> Attribution:
    """Attribute to each token the length of the score's gradient with respect to its embedding.

    attributions_i = ‖∂F/∂x_i‖₂

    This is captum's `Saliency`, |∂F/∂x|, aggregated by "vnorm". It says to which tokens the score reacts most in a
    small neighborhood of the input. It cannot say whether a token speaks for or against the target (it is never
    negative), nor how much of the score a token accounts for: a saturated score has small gradients everywhere.

    Args:
        scores: the explained number as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n], at least 0; no completeness gap.
    Cost: 1 forward and backward pass.
    Numerics: dtype of `embedded`; padding has exactly 0. Differentiable where the gradient is not 0; at 0 the
        derivative is 0.
    Reference: Simonyan et al. 2014, section 3 (with the maximum over color channels in place of the norm).

    >>> saliency(lambda x: 3 * x[0, 0] - 4 * x[0, 1], jnp.ones((2, 2))).attributions.tolist()
    [5.0, 0.0]
    """
    return Attribution("saliency", aggregate_features(gradient("saliency", scores, embedded, valid), "vnorm"))


def input_x_gradient(
    scores: Scores, embedded: Float[Array, "n d"], *, valid: Bool[Array, " n"] | None = None
) -> Attribution:
    """Attribute to each feature of each token its value times the score's gradient.

    attributions_i = x_i ⊙ ∂F/∂x_i

    Summed over the features it is the first-order estimate of F(x) − F(x with x_i = 0). It can say whether a token
    speaks for (positive) or against the target. The estimate is exact for a linear score without bias only; it
    misses what saturates, and the sum over tokens need not be any difference of scores (use `integrated_gradients`).

    Args:
        scores: the explained number as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n d], of either sign; no completeness gap.
    Cost: 1 forward and backward pass.
    Numerics: dtype of `embedded`; padding has exactly 0. Differentiable.
    Reference: Shrikumar et al. 2016, "Not just a black box"; captum's `InputXGradient`.

    >>> input_x_gradient(lambda x: 2 * x[0, 0] + x[1, 0] ** 2, jnp.array([[1.0], [3.0]])).attributions.tolist()
    [[2.0], [18.0]]
    """
    slope = gradient("input_x_gradient", scores, embedded, valid)
    values = embedded if valid is None else jnp.where(valid[:, None], embedded, 0)
    return Attribution("input_x_gradient", values * slope)

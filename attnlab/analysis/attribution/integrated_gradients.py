"""Integrated gradients, with the completeness gap beside them."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import weighted_sum
from attnlab.analysis.attribution.checks import check_embedded, check_positive, check_valid, gradient_of, one_number
from attnlab.analysis.attribution.record import Attribution, Scores

Method = Literal["gausslegendre", "riemann_left", "riemann_middle", "riemann_right"]


def quadrature(method: Method, n_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the nodes in [0, 1] and the weights, which sum to 1, of a rule of integration.

    >>> [array.tolist() for array in quadrature("riemann_middle", 2)]
    [[0.25, 0.75], [0.5, 0.5]]
    """
    if method == "gausslegendre":
        nodes, weights = np.polynomial.legendre.leggauss(n_steps)
        return (1 + nodes) / 2, weights / 2
    offsets = {"riemann_left": 0.0, "riemann_middle": 0.5, "riemann_right": 1.0}
    if method not in offsets:
        names = ", ".join(("gausslegendre", *offsets))
        raise ValueError(f"integrated_gradients: method must be one of {names}, not {method!r}")
    return (np.arange(n_steps) + offsets[method]) / n_steps, np.full(n_steps, 1 / n_steps)


def integrated_gradients(
    scores: Scores,
    embedded: Float[Array, "n d"],
    *,
    baseline: Float[Array, "n d"] | Float[Array, " d"],
    n_steps: int = 50,
    method: Method = "gausslegendre",
    internal_batch_size: int | None = None,
    valid: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Attribute the difference of scores between the input and a baseline to the features of each token.

    attributions = (x − x') ⊙ ∫₀¹ ∂F(x' + a (x − x'))/∂x da,    Σ attributions = F(x) − F(x')  (completeness)

    It can say how the difference F(x) − F(x') divides among the tokens, with sign, and unlike `input_x_gradient` it
    sees through saturation. It cannot say more than the baseline allows: another baseline asks another question, and
    embeddings on the path between belong to no tokens. The integral is approximated; where the completeness gap is
    not small against |F(x) − F(x')|, take more steps.

    Args:
        scores: the explained number as a function of the embedded tokens.
        embedded: x, the embedded tokens of one example; `jax.vmap` gives batches.
        baseline: x', for each token or one for all: the embedding of PAD, zeros, or the mean embedding.
        n_steps: number of points on the path.
        method: rule of integration. The default is captum's, Gauss–Legendre, exact if the gradient is a polynomial
            of degree below 2 n_steps along the path. (captum's `riemann_trapezoid` is not offered: its weights sum
            to 1 − 1/n_steps.)
        internal_batch_size: number of points that are computed at a time; None for all. The memory of activations is
            that of so many examples.
        valid: True for real tokens, which alone move along the path; None if there is no padding.
    Returns: an `Attribution` with attributions [n d] and completeness_gap |Σ attributions − (F(x) − F(x'))|.
    Cost: n_steps forward and backward passes, and 2 forward passes for the gap.
    Numerics: dtype of `embedded`; padding has exactly 0. In float32 the gap of a smooth score ends at about 1e-6 of the
        sum of |attributions|. Differentiable.
    Reference: Sundararajan et al. 2017, section 3 and Proposition 1; captum's `IntegratedGradients`, whose
        convergence delta has this gap as its magnitude.

    >>> result = integrated_gradients(lambda x: x[0, 0] ** 2, jnp.array([[3.0]]), baseline=jnp.array([1.0]), n_steps=2)
    >>> result.attributions.round(4).tolist(), round(float(result.completeness_gap), 4)
    ([[8.0]], 0.0)
    """
    name = "integrated_gradients"
    check_embedded(name, embedded)
    check_valid(name, valid, embedded.shape[0])
    check_positive(name, n_steps=n_steps, internal_batch_size=internal_batch_size)
    if baseline.shape not in (embedded.shape, embedded.shape[1:]):
        raise ValueError(
            f"{name}: baseline must have shape {list(embedded.shape)} or {list(embedded.shape[1:])}, not "
            f"{list(baseline.shape)}"
        )
    start = jnp.broadcast_to(baseline, embedded.shape).astype(embedded.dtype)
    start = start if valid is None else jnp.where(valid[:, None], start, embedded)
    path = embedded - start
    nodes, weights = (jnp.asarray(array, embedded.dtype) for array in quadrature(method, n_steps))
    slope = gradient_of(name, scores)
    attributions = path * weighted_sum(lambda a: slope(start + a * path), nodes, weights, internal_batch_size)
    if valid is not None:
        attributions = jnp.where(valid[:, None], attributions, 0)
    score = one_number(name, scores)
    gap = jnp.abs(jnp.sum(attributions) - (score(embedded) - score(start)))
    return Attribution(name, attributions, gap)

"""Sensitivity and infidelity of attributions (Yeh et al. 2019)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.faithfulness.masks import Attributions, Predict

Attribute = Callable[[Float[Array, "n d"]], Float[Array, "..."]]
"""(embedded [n d]) -> attributions of one text, of any shape."""


def sensitivities(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    where: Bool[Array, " n"] | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Float[Array, " s"]:
    """Compute how much attributions change under small changes of the input, relative to their size.

    sensitivity_s = ‖Φ(x + u_s) − Φ(x)‖₂ / ‖Φ(x)‖₂,    u_s uniform in [−r, r]ⁿᵈ

    Relative to the attributions, as in the authors' code and in captum; Quantus divides by ‖x‖₂, and the definition in
    the paper has no denominator.

    Args:
        rng: a key of `jax.random`.
        attribute: see `Attribute`.
        embedded: the embeddings of the tokens.
        where: True for real tokens; None if all are. Others are not changed.
        radius: r, in the unit of the embeddings.
        samples: number of random changes.
    Returns: one number a sample, at least 0; NaN or ∞ if all attributions are 0.
    Reference: Yeh et al. 2019, section 3.

    >>> sensitivities(jax.random.key(0), lambda x: jnp.ones(2), jnp.ones((2, 3)), samples=2).tolist()
    [0.0, 0.0]
    """
    if samples < 1:
        raise ValueError(f"sensitivities: samples must be at least 1, not {samples}")
    changes = jax.random.uniform(rng, (samples, *embedded.shape), embedded.dtype, -radius, radius)
    if where is not None:
        changes = jnp.where(where[None, :, None], changes, 0.0)
    original = attribute(embedded)
    changed = jax.vmap(lambda change: attribute(embedded + change) - original)(changes)
    return jnp.sqrt(jnp.sum(changed.reshape(samples, -1) ** 2, axis=1)) / jnp.sqrt(jnp.sum(original**2))


def max_sensitivity(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    where: Bool[Array, " n"] | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Float[Array, ""]:
    """Compute the largest relative change of attributions over random small changes of the input.

    max_s ‖Φ(x + u_s) − Φ(x)‖₂ / ‖Φ(x)‖₂,    a lower bound of the maximum over the ball

    The lower the better, but constant attributions have 0: see it beside a metric of faithfulness.

    Args: as in `sensitivities`.
    Returns: at least 0; it grows with the number of samples.
    Reference: Yeh et al. 2019, section 3 (SENS_MAX).

    >>> float(max_sensitivity(jax.random.key(0), lambda x: jnp.ones(2), jnp.ones((2, 3))))
    0.0
    """
    return jnp.max(sensitivities(rng, attribute, embedded, where, radius=radius, samples=samples))


def avg_sensitivity(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    where: Bool[Array, " n"] | None = None,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Float[Array, ""]:
    """Compute the mean relative change of attributions over random small changes of the input.

    Args: as in `sensitivities`.
    Returns: at least 0.
    Reference: Yeh et al. 2019; Bhatt et al. 2020.

    >>> float(avg_sensitivity(jax.random.key(0), lambda x: jnp.ones(2), jnp.ones((2, 3))))
    0.0
    """
    return jnp.mean(sensitivities(rng, attribute, embedded, where, radius=radius, samples=samples))


def infidelity(
    score: Callable[[Float[Array, "n d"]], Float[Array, ""]],
    embedded: Float[Array, "n d"],
    attributions: Float[Array, "n d"],
    perturbations: Float[Array, "m n d"],
    *,
    rescale: bool = False,
) -> Float[Array, ""]:
    """Compute how badly attributions predict what significant changes of the input do to the score.

    infidelity = E_I[(⟨I, Φ⟩ − (f(x) − f(x − I)))²]

    The lower the better. 0 for the gradient of a linear model, whatever the perturbations. Attributions here are local
    (a gradient): those already multiplied by the input belong into `token_infidelity`.

    Args:
        score: (embedded [n d]) -> the score of the target.
        embedded: the embeddings of the tokens.
        attributions: one number a feature.
        perturbations: draws of I, which are subtracted; 0 at padding.
        rescale: multiply the attributions by the factor that is best for these perturbations, so that only their
            proportions count (captum's `normalize=True`, and what the authors' code does).
    Returns: at least 0, in the squared unit of the score.
    Reference: Yeh et al. 2019, section 2.

    >>> gradient = jnp.array([[1.0, 2.0]])
    >>> score = lambda embedded: jnp.sum(embedded * gradient)
    >>> float(infidelity(score, jnp.ones((1, 2)), gradient, jnp.array([[[0.5, 0.0]], [[1.0, 1.0]]])))
    0.0
    """
    changes = score(embedded) - jax.vmap(lambda perturbation: score(embedded - perturbation))(perturbations)
    return _mean_square(jnp.sum(perturbations * attributions[None], axis=(1, 2)), changes, rescale)


def token_infidelity(
    predict: Predict, attributions: Attributions, removed: Bool[Array, "m n"], *, rescale: bool = False
) -> Float[Array, ""]:
    """Compute how badly the sum of the attributions of removed tokens predicts what their removal does.

    infidelity = (1/m) Σ_s (Σ_{i removed in s} a_i − (f(x) − f(x without them)))²

    The infidelity of attributions that are already multiplied by the input, such as gradient × input, with removals of
    tokens as perturbations. 0 for the contributions of an additive model.

    Args:
        predict: see `masks.Predict`; it is called once, with m + 1 masks.
        attributions: of each token, in the unit of the prediction.
        removed: sets of tokens, a row each; no padding.
        rescale: as in `infidelity`. Without it, attributions in another unit (attention weights) are far off.
    Returns: at least 0, in the squared unit of the prediction.
    Reference: Yeh et al. 2019, section 2 (perturbations that remove subsets of the features).

    >>> contributions = jnp.array([0.5, 0.25, 0.25])
    >>> additive = lambda removed: jnp.where(removed, 0.0, contributions).sum(axis=1)
    >>> float(token_infidelity(additive, contributions, jnp.array([[True, True, False], [False, False, True]])))
    0.0
    """
    predictions = predict(jnp.concatenate([jnp.zeros((1, removed.shape[1]), bool), removed]))
    sums = jnp.sum(jnp.where(removed, attributions[None, :], 0.0), axis=1)
    return _mean_square(sums, predictions[0] - predictions[1:], rescale)


def _mean_square(expected: Float[Array, " m"], changes: Float[Array, " m"], rescale: bool) -> Float[Array, ""]:
    if rescale:
        square = jnp.sum(expected**2)
        expected *= jnp.sum(expected * changes) / jnp.where(square > 0.0, square, 1.0)
    return jnp.mean((expected - changes) ** 2)

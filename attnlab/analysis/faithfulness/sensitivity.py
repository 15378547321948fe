"""Sensitivity and infidelity of attributions (Yeh et al. 2019)."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.attribution.checks import check_embedded, check_shape, one_number
from attnlab.analysis.checks import call_predict, check_attributions, check_positive, check_valid, has_nan
from attnlab.analysis.faithfulness.removal import Attributions
from attnlab.analysis.functions import Predict, Score
from attnlab.analysis.record import Attribution
from attnlab.functional.types import widen

Attribute = Callable[[Float[Array, "n d"]], Float[Array, "n *features"] | Attribution]
"""(embedded [n d]) -> attributions of one text: one number a token, or more; an array, or the record of a method."""


def sensitivities(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    valid: Bool[Array, " n"] | None = None,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
) -> Float[Array, " s"]:
    """Compute how much attributions change under small changes of the input, relative to their size.

    sensitivity_s = ‖Φ(x + u_s) − Φ(x)‖₂ / ‖Φ(x)‖₂,    u_s uniform in [−r, r]ⁿᵈ

    Relative to the attributions, as in the authors' code and in captum; Quantus divides by ‖x‖₂, and the definition in
    the paper has no denominator.

    Args:
        rng: a key of `jax.random`.
        attribute: see `Attribute`.
        embedded: the embeddings of the tokens.
        valid: True for real tokens; None if all are. Padding is not changed.
        perturb_radius: r, in the unit of the embeddings.
        n_perturb_samples: number of random changes.
    Returns: one number a sample, at least 0; NaN or ∞ if all attributions are 0 (captum then divides by 1 instead), and
        NaN if an attribution of a real token is.
    Numerics: float32 at least; attributions of padding do not enter the norms. Under `jit`, n_perturb_samples is
        static.
    Reference: Yeh et al. 2019, section 3; captum's `sensitivity_max`, whose names of options these are.

    >>> sensitivities(jax.random.key(0), lambda x: jnp.ones(2), jnp.ones((2, 3)), n_perturb_samples=2).tolist()
    [0.0, 0.0]
    """
    name = "sensitivities"
    check_positive(name, n_perturb_samples=n_perturb_samples)
    check_embedded(name, embedded)
    n = embedded.shape[0]
    check_valid(name, valid, n)
    real = jnp.ones(n, bool) if valid is None else valid

    def attributed(x: Float[Array, "n d"]) -> Float[Array, "n m"]:
        result = attribute(x)
        values = result.attributions if isinstance(result, Attribution) else jnp.asarray(result)
        if not values.ndim or len(values) != n:
            raise ValueError(f"{name}: attribute must return attributions of {n} tokens, not {list(values.shape)}")
        flat = widen(values).reshape(n, -1)
        return jnp.where(real[:, None], flat, 0.0)

    changes = jax.random.uniform(
        rng, (n_perturb_samples, *embedded.shape), embedded.dtype, -perturb_radius, perturb_radius
    )
    changes = jnp.where(real[None, :, None], changes, 0)
    original = attributed(embedded)
    changed = jax.vmap(lambda change: jnp.sum((attributed(embedded + change) - original) ** 2))(changes)
    return jnp.sqrt(changed) / jnp.sqrt(jnp.sum(original**2))


def max_sensitivity(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    valid: Bool[Array, " n"] | None = None,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
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
    return jnp.max(
        sensitivities(
            rng, attribute, embedded, valid, perturb_radius=perturb_radius, n_perturb_samples=n_perturb_samples
        )
    )


def avg_sensitivity(
    rng: Array,
    attribute: Attribute,
    embedded: Float[Array, "n d"],
    valid: Bool[Array, " n"] | None = None,
    *,
    perturb_radius: float = 0.02,
    n_perturb_samples: int = 10,
) -> Float[Array, ""]:
    """Compute the mean relative change of attributions over random small changes of the input.

    Args: as in `sensitivities`.
    Returns: at least 0.
    Reference: Yeh et al. 2019; Bhatt et al. 2020.

    >>> float(avg_sensitivity(jax.random.key(0), lambda x: jnp.ones(2), jnp.ones((2, 3))))
    0.0
    """
    return jnp.mean(
        sensitivities(
            rng, attribute, embedded, valid, perturb_radius=perturb_radius, n_perturb_samples=n_perturb_samples
        )
    )


def infidelity(
    score: Score,
    embedded: Float[Array, "n d"],
    attributions: Float[Array, "n d"],
    perturbations: Float[Array, "m n d"],
    *,
    normalize: bool = False,
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
        normalize: multiply the attributions by the factor that is best for these perturbations, so that only their
            proportions count (as captum's `normalize=True`, and the authors' code).
    Returns: at least 0, in the squared unit of the score; NaN if an attribution is.
    Numerics: float32 at least. captum's `infidelity` draws the perturbations itself (`perturb_func`,
        `n_perturb_samples`); here they are an argument, so that methods are compared on the same ones.
    Reference: Yeh et al. 2019, section 2.

    >>> gradient = jnp.array([[1.0, 2.0]])
    >>> score = lambda embedded: jnp.sum(embedded * gradient)
    >>> float(infidelity(score, jnp.ones((1, 2)), gradient, jnp.array([[[0.5, 0.0]], [[1.0, 1.0]]])))
    0.0
    """
    name = "infidelity"
    check_embedded(name, embedded)
    check_shape(name, "attributions", attributions, embedded.shape, "embedded")
    check_shape(name, "perturbations", perturbations, (len(perturbations), *embedded.shape), "[draws, *embedded]")
    explained = one_number(name, score)
    without = jax.vmap(lambda perturbation: explained(embedded - perturbation))(perturbations)
    expected = jnp.sum(widen(perturbations) * widen(attributions)[None], axis=(1, 2))
    return _mean_square(expected, widen(explained(embedded)) - widen(without), normalize)


def token_infidelity(
    predict: Predict, attributions: Attributions, removed: Bool[Array, "m n"], *, normalize: bool = False
) -> Float[Array, ""]:
    """Compute how badly the sum of the attributions of removed tokens predicts what their removal does.

    infidelity = (1/m) Σ_s (Σ_{i removed in s} a_i − (f(x) − f(x without them)))²

    The infidelity of attributions that are already multiplied by the input, such as gradient × input, with removals of
    tokens as perturbations. 0 for the contributions of an additive model.

    Args:
        predict: see `functions.Predict`; it is called once, with m + 1 masks.
        attributions: of each token, in the unit of the prediction.
        removed: sets of tokens, a row each; no padding.
        normalize: as in `infidelity`. Without it, attributions in another unit (attention weights) are far off.
    Returns: at least 0, in the squared unit of the prediction; NaN if the attribution of a removed token is.
    Reference: Yeh et al. 2019, section 2 (perturbations that remove subsets of the features).

    >>> contributions = jnp.array([0.5, 0.25, 0.25])
    >>> additive = lambda removed: jnp.where(removed, 0.0, contributions).sum(axis=1)
    >>> float(token_infidelity(additive, contributions, jnp.array([[True, True, False], [False, False, True]])))
    0.0
    """
    name = "token_infidelity"
    values, everything = check_attributions(name, attributions)
    check_shape(name, "removed", removed, (len(removed), values.size), "[sets, tokens]")
    predictions = call_predict(name, predict, jnp.concatenate([jnp.zeros((1, values.size), bool), removed]))
    sums = jnp.sum(jnp.where(removed, values[None, :], 0.0), axis=1)
    sums = jnp.where(has_nan(values, everything & jnp.any(removed, axis=0)), jnp.nan, sums)
    return _mean_square(sums, predictions[0] - predictions[1:], normalize)


def _mean_square(expected: Float[Array, " m"], changes: Float[Array, " m"], normalize: bool) -> Float[Array, ""]:
    if normalize:
        square = jnp.sum(expected**2)
        expected *= jnp.sum(expected * changes) / jnp.where(square > 0.0, square, 1.0)
    return jnp.mean((expected - changes) ** 2)

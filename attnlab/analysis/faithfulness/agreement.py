"""Agreement of attributions with what removing a token does, with gradients, and with each other."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.attribution.checks import check_embedded, gradient_of
from attnlab.analysis.attribution.occlusion import leave_one_out
from attnlab.analysis.checks import check_attributions, check_valid
from attnlab.analysis.faithfulness.correlation import Correlation, kendall_tau
from attnlab.analysis.faithfulness.removal import Attributions, Removable
from attnlab.analysis.functions import Classify, Predict, Score
from attnlab.functional.divergence import tvd
from attnlab.functional.types import widen


def taucorr_loo(predict: Predict, attributions: Attributions, removable: Removable | None = None) -> Correlation:
    """Compute Kendall's τ-b between attributions and what removing each token alone does to the prediction.

    τ(a, Δf),    Δf_i = f(x) − f(x without token i)

    The sign of Δf counts, as in ferret. Jain & Wallace correlate attention with the total variation distance of the
    predictions, which has no sign: `taucorr_loo_tvd`.

    Args:
        predict: see `functions.Predict`; it is called once, with n + 1 masks.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
    Returns: τ in [−1, 1], the higher the better, and its p-value; NaN for fewer than two tokens, if all values of one
        of them are equal, or if one is NaN.
    Reference: Attanasio et al. 2023 (ferret, `taucorr_loo`); Jain & Wallace 2019, section 4.1.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> float(taucorr_loo(additive, jnp.array([3.0, 2.0, 1.0]), jnp.array([True, True, True])).statistic)
    1.0
    """
    values, allowed = check_attributions("taucorr_loo", attributions, removable, "removable")
    return kendall_tau(values, leave_one_out(predict, values.size, removable=allowed).attributions, allowed)


def taucorr_loo_tvd(classify: Classify, attributions: Attributions, removable: Removable | None = None) -> Correlation:
    """Compute Kendall's τ-b between attributions and how far the predictions move when each token is removed.

    τ(a, Δŷ),    Δŷ_i = TVD(ŷ(x without token i), ŷ(x))

    The leave-one-out of Jain & Wallace, over all classes and without sign; `taucorr_loo` is that of one target.

    Args:
        classify: (removed [m n]) -> class probabilities [m c], see `functions.Classify`; it is called once.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
    Returns: as `taucorr_loo`.
    Reference: Jain & Wallace 2019, section 4.1 and algorithm 1.

    >>> classify = lambda removed: jnp.stack([removed[:, 0] * 0.5, 1.0 - removed[:, 0] * 0.5], axis=1)
    >>> float(taucorr_loo_tvd(classify, jnp.array([3.0, 2.0])).statistic)
    1.0
    """
    name = "taucorr_loo_tvd"
    values, allowed = check_attributions(name, attributions, removable, "removable")
    n = values.size
    masks = jnp.concatenate([jnp.zeros((1, n), bool), jnp.eye(n, dtype=bool) & allowed[None, :]])
    probabilities = jnp.asarray(classify(masks))
    if probabilities.ndim != 2 or len(probabilities) != n + 1:
        raise ValueError(
            f"{name}: classify must return probabilities [{n + 1} classes], not {list(probabilities.shape)}; for the "
            "probability of one target use taucorr_loo"
        )
    moved = tvd(probabilities[1:], jnp.broadcast_to(probabilities[:1], probabilities[1:].shape))
    return kendall_tau(values, moved, allowed)


def gradient_magnitudes(
    score: Score, embedded: Float[Array, "n d"], valid: Bool[Array, " n"] | None = None
) -> Float[Array, " n"]:
    """Compute the gradient of Jain & Wallace: the magnitude of each token's first-order contribution.

    g_i = |Σ_d x[i, d] ∂y/∂x[i, d]|

    The magnitude of `input_x_gradient`, summed over the features: for a token whose embedding is its one-hot vector
    times a table, the derivative with respect to the entry that is 1. They cut the graph at the attention weights; how
    to do so is told at `taucorr_gradient`.

    Args:
        score: the output y as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        valid: True for real tokens; None if there is no padding.
    Returns: at least 0; 0 at padding.
    Numerics: float32 at least.
    Reference: Jain & Wallace 2019, section 4.1 and algorithm 1.

    >>> gradient_magnitudes(lambda x: 2 * x[0, 0] - x[1, 0], jnp.array([[1.0], [3.0]])).tolist()
    [2.0, 3.0]
    """
    name = "gradient_magnitudes"
    check_embedded(name, embedded)
    check_valid(name, valid, embedded.shape[0])
    slope = widen(gradient_of(name, score)(embedded))
    magnitudes = jnp.abs(jnp.sum(widen(embedded) * slope, axis=1))
    return magnitudes if valid is None else jnp.where(valid, magnitudes, 0.0)


def taucorr_gradient(
    score: Score, embedded: Float[Array, "n d"], attributions: Attributions, valid: Bool[Array, " n"] | None = None
) -> Correlation:
    """Compute Kendall's τ-b between attributions (attention weights) and the magnitudes of gradients.

    τ(a, g),    g_i = |Σ_d x[i, d] ∂y/∂x[i, d]|,    with the attention weights held fixed

    The gradient must not flow through the weights: it asks how the output changes with a token for the attention that
    there is. In a function of one's own write `jax.lax.stop_gradient(weights)`. For a model of the lab, replace its
    weights by what they are:

        output, layers = apply_with_attention(model, variables, embedded, **options)
        fixed = Partial(interventions.given, weights={layer.name: layer.weights for layer in layers})
        score = lambda x: target(apply_with_attention(model, variables, x, intervene=fixed, **options)[0])

    Args:
        score: the output y as a function of the embedded tokens, with fixed attention weights. Jain & Wallace take the
            probability of the class.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches.
        attributions: of each token.
        valid: True for tokens that count; None if all do.
    Returns: τ in [−1, 1] and its p-value; NaN as for `kendall_tau`.
    Reference: Jain & Wallace 2019, section 4.1 and algorithm 1.

    >>> import jax
    >>> weights = jnp.array([0.75, 0.25])
    >>> score = lambda x: jnp.sum(jax.lax.stop_gradient(weights) * x[:, 0])
    >>> float(taucorr_gradient(score, jnp.ones((2, 1)), weights).statistic)
    1.0
    """
    values, counted = check_attributions("taucorr_gradient", attributions, valid)
    return kendall_tau(values, gradient_magnitudes(score, embedded, counted), counted)


def significant_share(pvalues: Float[Array, " items"], level: float = 0.05) -> Float[Array, ""]:
    """Compute the share of texts in which a correlation is significant.

    share = |{i : p_i ≤ level}| / |{i : p_i is a number}|

    Jain & Wallace print it beside the mean τ ("Sig. Frac."). It grows with the length of the texts, and 5% of it is
    expected where nothing correlates; the texts are not corrected for being many.

    Args:
        pvalues: one a text; NaN where the correlation is undefined.
        level: significance level of each test.
    Returns: in [0, 1]; NaN if no p-value is a number.
    Reference: Jain & Wallace 2019, table 2.

    >>> float(significant_share(jnp.array([0.01, 0.2, jnp.nan])))
    0.5
    """
    return jnp.nanmean(jnp.where(jnp.isnan(pvalues), jnp.nan, (pvalues <= level).astype(pvalues.dtype)))

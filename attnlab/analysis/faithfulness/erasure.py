"""Erasure: how the prediction changes when the tokens with the largest attributions are removed, or are kept alone."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.checks import call_predict, check_attributions, has_nan
from attnlab.analysis.faithfulness.removal import (
    RATIOS,
    Attributions,
    Ratios,
    Removable,
    length,
    rationale_kept,
    rationale_removed,
    top_tokens,
)
from attnlab.analysis.functions import Classify, Predict
from attnlab.functional.types import widen


def comprehensiveness(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute how much the prediction falls when the tokens with the largest attributions are removed.

    comprehensiveness_r = f(x) − f(x without the ⌈r n⌉ tokens with the largest attributions)

    The higher the better. Not clipped at 0, unlike that of Carton et al. (`normalized_comprehensiveness`).

    Args:
        predict: see `functions.Predict`.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
        ratios: shares of the tokens; None for every number of tokens, 1 … n.
    Returns: the difference at each ratio, in [−1, 1] for probabilities; 0 if there is nothing to remove; NaN if an
        attribution is NaN.
    Numerics: in the dtype of `predict`, float32 at least. Padding is never removed. Under `jit`, ratios are static.
    Reference: DeYoung et al. 2020 (ERASER), eq. 1. Serrano & Smith 2019 remove by setting attention weights to 0 and
        normalizing the others again: with such a `predict` these are their tests.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> comprehensiveness(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1, 0.5)).tolist()
    [0.5, 0.75]
    """
    full, without = _predictions("comprehensiveness", rationale_removed, predict, attributions, removable, ratios)
    return full - without


def sufficiency(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute how much the prediction falls when only the tokens with the largest attributions are kept.

    sufficiency_r = f(x) − f(the ⌈r n⌉ tokens with the largest attributions)

    The lower the better: 0 if these tokens suffice. The sufficiency of Carton et al. is 1 − max(0, that), so higher is
    better there (`normalized_sufficiency`).

    Args: as in `comprehensiveness`.
    Returns: the difference at each ratio, in [−1, 1] for probabilities; NaN if an attribution is NaN.
    Numerics: in the dtype of `predict`, float32 at least. Special tokens and padding are kept.
    Reference: DeYoung et al. 2020 (ERASER), eq. 2.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> sufficiency(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1, 0.5)).tolist()
    [0.375, 0.125]
    """
    full, kept = _predictions("sufficiency", rationale_kept, predict, attributions, removable, ratios)
    return full - kept


def aopc_compr(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, ""]:
    """Average comprehensiveness over shares of the tokens: the area over the perturbation curve.

    aopc_compr = (1/|R|) Σ_{r ∈ R} comprehensiveness_r

    The higher the better. Two shares that are the same number of tokens both count, as in ERASER. `ratios=None` is the
    mean over every number of tokens, ferret's `based_on="k"`; its default is 10, 20, … 100% of them, rounded down,
    without shares of the same tokens, and without tokens of negative attribution (`only_pos`).

    Args: as in `comprehensiveness`.
    Returns: in [−1, 1] for probabilities; NaN for a text without tokens, or if an attribution is NaN.
    Reference: DeYoung et al. 2020, section 4.2 (the published code averages over the 5 ratios of `RATIOS`); Samek et
        al. 2017; Attanasio et al. 2023 (ferret).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> float(aopc_compr(additive, jnp.array([3.0, 2.0, 1.0]), ratios=None))
    0.75
    """
    return _mean(comprehensiveness(predict, attributions, removable, ratios=ratios), attributions, removable, ratios)


def aopc_suff(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, ""]:
    """Average sufficiency over shares of the tokens.

    aopc_suff = (1/|R|) Σ_{r ∈ R} sufficiency_r

    The lower the better. Shares as in `aopc_compr`.

    Args: as in `comprehensiveness`.
    Returns: in [−1, 1] for probabilities; NaN for a text without tokens, or if an attribution is NaN.
    Reference: DeYoung et al. 2020, section 4.2 (the published code averages over the 5 ratios of `RATIOS`); Attanasio
        et al. 2023 (ferret).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> float(aopc_suff(additive, jnp.array([3.0, 2.0, 1.0]), ratios=None))
    0.25
    """
    return _mean(sufficiency(predict, attributions, removable, ratios=ratios), attributions, removable, ratios)


def normalized_comprehensiveness(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute comprehensiveness as a share of the fall that removing all tokens causes.

    max(0, f(x) − f(x without the top tokens)) / max(0, f(x) − f(x without any token)),    clipped to [0, 1]

    The higher the better. It removes the advantage of models that are confident without any token.

    Args: as in `comprehensiveness`.
    Returns: in [0, 1]; NaN where removing all tokens does not lower the prediction, so that there is nothing to
        divide by. (The code published with the paper counts such a text as 0.)
    Reference: Carton, Rathore & Tan 2020, and the code published with it.

    >>> additive = lambda removed: 0.5 + jnp.where(removed, 0.0, jnp.array([0.25, 0.125, 0.125])).sum(axis=1)
    >>> normalized_comprehensiveness(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1,)).tolist()
    [0.5]
    """
    name = "normalized_comprehensiveness"
    full, without, null = _with_null(name, rationale_removed, predict, attributions, removable, ratios)
    return jnp.clip(jnp.maximum(full - without, 0.0) / _positive(full - null), 0.0, 1.0)


def normalized_sufficiency(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute which share of the fall that removing all tokens causes is prevented by the top tokens.

    (S − S₀) / (1 − S₀),    S = 1 − max(0, f(x) − f(the top tokens)),    S₀ = 1 − max(0, f(x) − f(no token))

    clipped to [0, 1]. The higher the better, unlike ERASER's `sufficiency`.

    Args: as in `comprehensiveness`.
    Returns: in [0, 1]; NaN where removing all tokens does not lower the prediction.
    Reference: Carton, Rathore & Tan 2020, and the code published with it.

    >>> additive = lambda removed: 0.5 + jnp.where(removed, 0.0, jnp.array([0.25, 0.125, 0.125])).sum(axis=1)
    >>> normalized_sufficiency(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1, 0.5)).tolist()
    [0.5, 0.75]
    """
    name = "normalized_sufficiency"
    full, kept, null = _with_null(name, rationale_kept, predict, attributions, removable, ratios)
    return jnp.clip(1.0 - jnp.maximum(full - kept, 0.0) / _positive(full - null), 0.0, 1.0)


def log_odds(
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    ratios: Ratios | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute the logarithm of the ratio of probabilities without and with the tokens with the largest attributions.

    log_odds_r = log f(x without the ⌈r n⌉ tokens with the largest attributions) − log f(x)

    The lower (more negative) the better. Despite its name it is a difference of log-probabilities, not of logits. It
    tells apart falls that differences of probabilities do not: from 0.01 to 0.001 as much as from 1 to 0.1.

    Args: as in `comprehensiveness`; `predict` returns probabilities.
    Returns: in nats; 0 if nothing changes, −inf if the probability falls to 0, ∞ if it rises from 0; NaN if it is 0
        with and without these tokens, if it is negative (a score is no probability), or if an attribution is NaN.
    Reference: Shrikumar et al. 2017 (DeepLIFT); Chen et al. 2019 (L-Shapley and C-Shapley).

    >>> predict = lambda removed: jnp.where(removed[:, 0], 0.25, 0.5)
    >>> round(float(log_odds(predict, jnp.array([3.0, 2.0]), ratios=(0.1,))[0]), 4)
    -0.6931
    """
    full, without = _predictions("log_odds", rationale_removed, predict, attributions, removable, ratios)
    return jnp.log(without) - jnp.log(full)


def decision_flip_fraction(
    classify: Classify,
    attributions: Attributions,
    removable: Removable | None = None,
) -> Float[Array, ""]:
    """Compute the share of tokens that must be removed, the largest attributions first, until the decision changes.

    min {k : argmax f(x without k tokens) ≠ argmax f(x)} / n

    The lower the better. It runs the model on n + 1 versions of the text.

    Args:
        classify: (removed [m n]) -> scores of all classes [m c] of each version of the text.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
    Returns: in (0, 1]; NaN if the decision is the same even without any token, for a text without tokens, and if an
        attribution or a score is NaN. A mean over texts (`jnp.nanmean`) should say how many are left out.
    Reference: Serrano & Smith 2019, section 5.

    >>> classify = lambda removed: jnp.stack([jnp.where(removed[:, 1], 0.0, 1.0), jnp.full(len(removed), 0.5)], axis=1)
    >>> float(decision_flip_fraction(classify, jnp.array([3.0, 2.0, 1.0, 0.0])))
    0.5
    """
    name = "decision_flip_fraction"
    values, allowed = check_attributions(name, attributions, removable, "removable")
    counts = jnp.arange(values.size + 1, dtype=jnp.int32)
    removed = top_tokens(attributions, counts, removable)
    scores = widen(jnp.asarray(classify(removed)))
    if scores.ndim != 2 or len(scores) != len(removed):
        raise ValueError(f"{name}: classify must return scores [{len(removed)} classes], not {list(scores.shape)}")
    decisions, tokens = jnp.argmax(scores, axis=1), length(attributions, removable)
    reached = counts <= tokens
    flipped = (decisions != decisions[0]) & reached
    first = jnp.argmax(flipped).astype(scores.dtype) / jnp.maximum(tokens, 1).astype(scores.dtype)
    undefined = has_nan(values, allowed) | jnp.any(reached[:, None] & jnp.isnan(scores))
    return jnp.where(jnp.any(flipped) & ~undefined, first, jnp.nan)


def _predictions(
    name: str,
    masks: Callable[..., Bool[Array, "r n"]],
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None,
    ratios: Ratios | None,
) -> tuple[Float[Array, ""], Float[Array, " r"]]:
    """Return the prediction for the whole text and for the mask of each ratio, from one call of the model.

    The latter are NaN if an attribution is.
    """
    values, allowed = check_attributions(name, attributions, removable, "removable")
    removed = jnp.concatenate([jnp.zeros((1, values.size), bool), masks(values, allowed, ratios)])
    predictions = call_predict(name, predict, removed)
    return predictions[0], jnp.where(has_nan(values, allowed), jnp.nan, predictions[1:])


def _with_null(
    name: str,
    masks: Callable[..., Bool[Array, "r n"]],
    predict: Predict,
    attributions: Attributions,
    removable: Removable | None,
    ratios: Ratios | None,
) -> tuple[Float[Array, ""], Float[Array, " r"], Float[Array, ""]]:
    """Return the predictions for the whole text, for the mask of each ratio, and for the text without any token."""

    def and_all(values: Array, allowed: Array, ratios: Ratios | None) -> Array:
        return jnp.concatenate([masks(values, allowed, ratios), allowed[None, :]])

    full, others = _predictions(name, and_all, predict, attributions, removable, ratios)
    return full, others[:-1], others[-1]


def _positive(difference: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(difference > 0.0, difference, jnp.nan)


def _mean(
    differences: Float[Array, " r"],
    attributions: Attributions,
    removable: Removable | None,
    ratios: Ratios | None,
) -> Float[Array, ""]:
    """Average over ratios, or over every number of tokens that the text has; NaN for a text without tokens."""
    tokens = length(attributions, removable)
    if ratios is not None:
        return jnp.where(tokens > 0, jnp.mean(differences), jnp.nan)
    counted = jnp.arange(1, differences.size + 1, dtype=jnp.int32) <= tokens
    total = jnp.sum(jnp.where(counted, differences, 0.0))
    return jnp.where(tokens > 0, total / jnp.maximum(tokens, 1).astype(differences.dtype), jnp.nan)

"""Erasure: how the prediction changes when the tokens with the largest attributions are removed, or are kept alone."""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.faithfulness.masks import (
    RATIOS,
    Attributions,
    Predict,
    Where,
    length,
    rationale_kept,
    rationale_removed,
    top_tokens,
)


def comprehensiveness(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute how much the prediction falls when the tokens with the largest attributions are removed.

    comprehensiveness_r = f(x) − f(x without the ⌈r n⌉ tokens with the largest attributions)

    The higher the better. Not clipped at 0, unlike that of Carton et al. (`normalized_comprehensiveness`).

    Args:
        predict: see `masks.Predict`.
        attributions: of each token.
        where: True for tokens that may be removed; None if all may.
        ratios: shares of the tokens; None for every number of tokens, 1 … n.
    Returns: the difference at each ratio, in [−1, 1] for probabilities; 0 if there is nothing to remove.
    Numerics: in the dtype of `predict`. Padding is never removed.
    Reference: DeYoung et al. 2020 (ERASER), eq. 1.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> comprehensiveness(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1, 0.5)).tolist()
    [0.5, 0.75]
    """
    full, without = _predictions(predict, attributions.size, rationale_removed(attributions, where, ratios))
    return full - without


def sufficiency(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute how much the prediction falls when only the tokens with the largest attributions are kept.

    sufficiency_r = f(x) − f(the ⌈r n⌉ tokens with the largest attributions)

    The lower the better: 0 if these tokens suffice. The sufficiency of Carton et al. is 1 − max(0, that), so higher is
    better there (`normalized_sufficiency`).

    Args: as in `comprehensiveness`.
    Returns: the difference at each ratio, in [−1, 1] for probabilities.
    Numerics: in the dtype of `predict`. Special tokens and padding are kept.
    Reference: DeYoung et al. 2020 (ERASER), eq. 2.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> sufficiency(additive, jnp.array([3.0, 2.0, 1.0]), ratios=(0.1, 0.5)).tolist()
    [0.375, 0.125]
    """
    full, kept = _predictions(predict, attributions.size, rationale_kept(attributions, where, ratios))
    return full - kept


def aopc_compr(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
) -> Float[Array, ""]:
    """Average comprehensiveness over shares of the tokens: the area over the perturbation curve.

    aopc_compr = (1/|R|) Σ_{r ∈ R} comprehensiveness_r

    The higher the better. Two shares that are the same number of tokens both count, as in ERASER. `ratios=None` is the
    mean over every number of tokens, ferret's `based_on="k"`; its default is 10, 20, … 100% of them, rounded down,
    without shares of the same tokens, and without tokens of negative attribution (`only_pos`).

    Args: as in `comprehensiveness`.
    Returns: in [−1, 1] for probabilities; NaN for `ratios=None` and no tokens.
    Reference: DeYoung et al. 2020, section 4.2; Samek et al. 2017; Attanasio et al. 2023 (ferret).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> float(aopc_compr(additive, jnp.array([3.0, 2.0, 1.0]), ratios=None))
    0.75
    """
    return _mean(comprehensiveness(predict, attributions, where, ratios=ratios), attributions, where, ratios)


def aopc_suff(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
) -> Float[Array, ""]:
    """Average sufficiency over shares of the tokens.

    aopc_suff = (1/|R|) Σ_{r ∈ R} sufficiency_r

    The lower the better. Shares as in `aopc_compr`.

    Args: as in `comprehensiveness`.
    Returns: in [−1, 1] for probabilities; NaN for `ratios=None` and no tokens.
    Reference: DeYoung et al. 2020, section 4.2; Attanasio et al. 2023 (ferret).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> float(aopc_suff(additive, jnp.array([3.0, 2.0, 1.0]), ratios=None))
    0.25
    """
    return _mean(sufficiency(predict, attributions, where, ratios=ratios), attributions, where, ratios)


def normalized_comprehensiveness(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
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
    full, without, null = _with_null(predict, attributions, where, rationale_removed(attributions, where, ratios))
    return jnp.clip(jnp.maximum(full - without, 0.0) / _positive(full - null), 0.0, 1.0)


def normalized_sufficiency(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
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
    full, kept, null = _with_null(predict, attributions, where, rationale_kept(attributions, where, ratios))
    return jnp.clip(1.0 - jnp.maximum(full - kept, 0.0) / _positive(full - null), 0.0, 1.0)


def log_odds(
    predict: Predict,
    attributions: Attributions,
    where: Where | None = None,
    *,
    ratios: Sequence[float] | None = RATIOS,
) -> Float[Array, " r"]:
    """Compute the logarithm of the ratio of probabilities without and with the tokens with the largest attributions.

    log_odds_r = log f(x without the ⌈r n⌉ tokens with the largest attributions) − log f(x)

    The lower (more negative) the better. Despite its name it is a difference of log-probabilities, not of logits. It
    tells apart falls that differences of probabilities do not: from 0.01 to 0.001 as much as from 1 to 0.1.

    Args: as in `comprehensiveness`; `predict` returns probabilities.
    Returns: in nats; 0 if nothing changes, −inf if the probability falls to 0.
    Reference: Shrikumar et al. 2017 (DeepLIFT); Chen et al. 2019 (L-Shapley and C-Shapley).

    >>> predict = lambda removed: jnp.where(removed[:, 0], 0.25, 0.5)
    >>> round(float(log_odds(predict, jnp.array([3.0, 2.0]), ratios=(0.1,))[0]), 4)
    -0.6931
    """
    full, without = _predictions(predict, attributions.size, rationale_removed(attributions, where, ratios))
    return jnp.log(without) - jnp.log(full)


def decision_flip_fraction(
    classify: Callable[[Bool[Array, "m n"]], Float[Array, "m c"]],
    attributions: Attributions,
    where: Where | None = None,
) -> Float[Array, ""]:
    """Compute the share of tokens that must be removed, the largest attributions first, until the decision changes.

    min {k : argmax f(x without k tokens) ≠ argmax f(x)} / n

    The lower the better. It runs the model on n + 1 versions of the text.

    Args:
        classify: (removed [m n]) -> scores of all classes [m c] of each version of the text.
        attributions: of each token.
        where: True for tokens that may be removed; None if all may.
    Returns: in (0, 1]; NaN if the decision is the same even without any token, and for a text without tokens. A mean
        over texts (`jnp.nanmean`) should say how many are left out.
    Reference: Serrano & Smith 2019, section 5.

    >>> classify = lambda removed: jnp.stack([jnp.where(removed[:, 1], 0.0, 1.0), jnp.full(len(removed), 0.5)], axis=1)
    >>> float(decision_flip_fraction(classify, jnp.array([3.0, 2.0, 1.0, 0.0])))
    0.5
    """
    counts = jnp.arange(attributions.size + 1, dtype=jnp.int32)
    scores = classify(top_tokens(attributions, counts, where))
    decisions, tokens = jnp.argmax(scores, axis=1), length(attributions, where)
    flipped = (decisions != decisions[0]) & (counts <= tokens)
    first = jnp.argmax(flipped).astype(scores.dtype) / jnp.maximum(tokens, 1).astype(scores.dtype)
    return jnp.where(jnp.any(flipped), first, jnp.nan)


def _predictions(
    predict: Predict, tokens: int, removed: Bool[Array, "r n"]
) -> tuple[Float[Array, ""], Float[Array, " r"]]:
    """Return the prediction for the whole text and for each mask, from one call of the model."""
    predictions = predict(jnp.concatenate([jnp.zeros((1, tokens), bool), removed]))
    if predictions.shape != (len(removed) + 1,):
        raise ValueError(
            f"predict: must return an array of shape {(len(removed) + 1,)} for masks of shape "
            f"{(len(removed) + 1, tokens)}, not {predictions.shape}"
        )
    return predictions[0], predictions[1:]


def _with_null(
    predict: Predict, attributions: Attributions, where: Where | None, removed: Bool[Array, "r n"]
) -> tuple[Float[Array, ""], Float[Array, " r"], Float[Array, ""]]:
    """Return the predictions for the whole text, for each mask, and for the text without any token."""
    everything = jnp.ones(attributions.shape, bool) if where is None else where
    full, others = _predictions(predict, attributions.size, jnp.concatenate([removed, everything[None, :]]))
    return full, others[:-1], others[-1]


def _positive(difference: Float[Array, ""]) -> Float[Array, ""]:
    return jnp.where(difference > 0.0, difference, jnp.nan)


def _mean(
    differences: Float[Array, " r"], attributions: Attributions, where: Where | None, ratios: Sequence[float] | None
) -> Float[Array, ""]:
    """Average over ratios, or over every number of tokens that the text has."""
    if ratios is not None:
        return jnp.mean(differences)
    tokens = length(attributions, where)
    counted = jnp.arange(1, attributions.size + 1) <= tokens
    return jnp.sum(jnp.where(counted, differences, 0.0)) / tokens.astype(differences.dtype)

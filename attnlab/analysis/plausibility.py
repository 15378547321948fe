"""Plausibility: whether the tokens with large attributions are those that people, or the data, mark as the reason.

Functions see one example; `jax.vmap` adds a batch. `gold` is True for marked tokens, `valid` for real tokens (None if
all are). A text without a marked token has nothing to compare with: all metrics are NaN for it (ERASER counts it as 0).
They are also NaN if the attribution of a real token is. Attributions are an array [n], or the `Attribution` of a method
with one number a token.
"""

import operator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.checks import check_attributions, check_valid, has_nan
from attnlab.analysis.faithfulness.removal import Attributions, token_order, top_tokens

Gold = Bool[Array, " n"]
"""True for the tokens of the human or gold rationale."""
Valid = Bool[Array, " n"]
Count = int | np.integer | Int[Array, ""]


def auprc_plau(attributions: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the area under the precision–recall curve of attributions as scores of the gold tokens.

    auprc = Σ_t (R_t − R_{t−1}) (P_t + P_{t−1}) / 2,    R₀ = 0, P₀ = 1

    over the distinct attributions t, the largest first, with P and R the precision and recall of the tokens whose
    attribution is at least t. This is scikit-learn's `auc(recall, precision)` of `precision_recall_curve`, by the
    trapezoidal rule, as in ferret and ERASER. Not `average_precision`, which has no interpolation and may be larger.

    Args:
        attributions: of each token.
        gold: True for the marked tokens.
        valid: True for real tokens; None if all are.
    Returns: in [0, 1], the higher the better; NaN without a marked token. For random attributions about the share of
        marked tokens.
    Numerics: float32 at least, as all metrics here; n² comparisons; attributions that are equal enter together. No
        gradient.
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `auprc_plau`).

    >>> float(auprc_plau(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, True, False])))
    1.0
    """
    values, valid = _checked("auprc_plau", attributions, gold, valid)
    precision, recall = _precision_recall(values, gold, valid)
    return _defined(jnp.sum((recall[1:] - recall[:-1]) * (precision[1:] + precision[:-1]) / 2.0), values, gold, valid)


def average_precision(attributions: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the average precision of attributions as scores of the gold tokens.

    ap = Σ_t (R_t − R_{t−1}) P_t

    over the distinct attributions, the largest first: scikit-learn's `average_precision_score`. ERASER reports it too,
    beside `auprc_plau`, which interpolates.

    Args: as in `auprc_plau`.
    Returns: in [0, 1], the higher the better; NaN without a marked token.
    Reference: DeYoung et al. 2020 (the published metrics).

    >>> round(float(average_precision(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, True]))), 4)
    0.8333
    """
    values, valid = _checked("average_precision", attributions, gold, valid)
    precision, recall = _precision_recall(values, gold, valid)
    return _defined(jnp.sum((recall[1:] - recall[:-1]) * precision[1:]), values, gold, valid)


def token_f1(predicted: Bool[Array, " n"], gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the F1 score of predicted tokens against the gold tokens of one text.

    F1 = 2 |P ∩ G| / (|P| + |G|)

    ERASER and ferret average it over texts (macro).

    Args:
        predicted: True for tokens of the predicted rationale.
        gold: True for the marked tokens.
        valid: True for real tokens; None if all are.
    Returns: in [0, 1]; 0 if nothing is predicted, NaN without a marked token.
    Reference: DeYoung et al. 2020, section 4.1.

    >>> round(float(token_f1(jnp.array([True, True, False]), jnp.array([False, True, False]))), 4)
    0.6667
    """
    both, predicted_size, gold_size = _overlap("token_f1", predicted, gold, valid)
    score = 2.0 * both / jnp.maximum(predicted_size + gold_size, 1.0)
    return jnp.where(gold_size > 0.0, score, jnp.nan)


def token_iou(predicted: Bool[Array, " n"], gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the intersection over union of predicted and gold tokens of one text.

    IoU = |P ∩ G| / |P ∪ G|

    Args: as in `token_f1`.
    Returns: in [0, 1]; 0 if nothing is predicted, NaN without a marked token.
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `token_iou_plau`).

    >>> float(token_iou(jnp.array([True, True, False]), jnp.array([False, True, False])))
    0.5
    """
    both, predicted_size, gold_size = _overlap("token_iou", predicted, gold, valid)
    score = both / jnp.maximum(predicted_size + gold_size - both, 1.0)
    return jnp.where(gold_size > 0.0, score, jnp.nan)


def token_f1_plau(attributions: Attributions, gold: Gold, count: Count, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the F1 score of the tokens with the largest attributions against the gold tokens.

    F1 = 2 |top_k ∩ G| / (k + |G|)

    Args:
        attributions: of each token.
        gold: True for the marked tokens.
        count: number k of tokens in the predicted rationale. ERASER and ferret take the mean number of marked tokens of
            the data, rounded, the same for all texts; a fraction is refused.
        valid: True for real tokens; None if all are.
    Returns: in [0, 1], the higher the better; NaN without a marked token.
    Numerics: of equal attributions the earlier token is taken. (ferret takes the later.)
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `token_f1_plau`).

    >>> float(token_f1_plau(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, True]), 2))
    0.5
    """
    name = "token_f1_plau"
    values, valid = _checked(name, attributions, gold, valid)
    predicted = top_tokens(values, _whole(name, count), valid)[0]
    return _defined(token_f1(predicted, gold, valid), values, gold, valid)


def token_iou_plau(
    attributions: Attributions, gold: Gold, count: Count, valid: Valid | None = None
) -> Float[Array, ""]:
    """Compute the intersection over union of the tokens with the largest attributions and the gold tokens.

    IoU = |top_k ∩ G| / |top_k ∪ G|

    For ERASER's IoU-F1, which counts predicted spans with an IoU of at least 0.5, see `rationale_spans.iou_f1`.

    Args: as in `token_f1_plau`.
    Returns: in [0, 1], the higher the better; NaN without a marked token.
    Reference: Attanasio et al. 2023 (ferret, `token_iou_plau`).

    >>> float(token_iou_plau(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, False]), 2))
    0.5
    """
    name = "token_iou_plau"
    values, valid = _checked(name, attributions, gold, valid)
    predicted = top_tokens(values, _whole(name, count), valid)[0]
    return _defined(token_iou(predicted, gold, valid), values, gold, valid)


def pointing_game(attributions: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Return whether the token with the largest attribution is a gold token.

    hit = 1 if argmax a ∈ G, else 0

    Average it over texts. The same as `rationale_hit` and the pointing game of the tasks. Quantus counts a hit if any
    of several equal largest attributions is gold.

    Args: as in `auprc_plau`.
    Returns: 0 or 1; 0 if all attributions are 0, NaN without a marked token. Of equal attributions the first counts.
    Reference: Zhang et al. 2016 (excitation backprop), the pointing game.

    >>> float(pointing_game(jnp.array([0.1, 0.7, 0.2]), jnp.array([False, True, False])))
    1.0
    """
    values, valid = _checked("pointing_game", attributions, gold, valid)
    if not values.size:
        return jnp.full((), jnp.nan, values.dtype)
    hit = gold[token_order(values, valid)[0]] & jnp.any(valid & (values != 0.0))
    return _defined(hit.astype(values.dtype), values, gold, valid)


def relevance_mass_accuracy(attributions: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the share of the positive attribution that lies on gold tokens.

    mass = Σ_{i ∈ G} max(a_i, 0) / Σ_i max(a_i, 0)

    For attributions with a sign, of which the positive part is evidence for the target. Quantus sums negative
    attributions as well, where the ratio can be any number; for attributions of at least 0 the two are equal, and equal
    to `attention_mass`.

    Args: as in `auprc_plau`.
    Returns: in [0, 1]; 0 if no attribution is positive, NaN without a marked token. For uniform attributions the share
        of marked tokens.
    Reference: Arras, Osman & Samek 2022 (CLEVR-XAI), relevance mass accuracy.

    >>> float(relevance_mass_accuracy(jnp.array([3.0, -2.0, 1.0]), jnp.array([True, True, False])))
    0.75
    """
    values, valid = _checked("relevance_mass_accuracy", attributions, gold, valid)
    return _mass(jnp.maximum(values, 0.0), gold, valid)


def attention_mass(weights: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute the share of the attention weight that lies on gold tokens.

    mass = Σ_{i ∈ G} |α_i| / Σ_i |α_i|

    The metrics `rationale_mass`, `region_mass` and `fact_mass` of the tasks are averages of it, in percent; as in the
    first, of negative weights (of a normalizer that is no softmax) the absolute value counts.

    Args:
        weights: attention weights over the tokens (cells, sentences) of one example.
        gold: True for the marked ones.
        valid: True for real ones; None if all are.
    Returns: in [0, 1]; 0 if all weights are 0, NaN without a marked token. For uniform weights the share of marked
        tokens.

    >>> float(attention_mass(jnp.array([0.5, 0.25, 0.25]), jnp.array([True, False, True])))
    0.75
    """
    values, valid = _checked("attention_mass", weights, gold, valid)
    return _mass(jnp.abs(values), gold, valid)


def relevance_rank_accuracy(attributions: Attributions, gold: Gold, valid: Valid | None = None) -> Float[Array, ""]:
    """Compute which share of the gold tokens is among as many tokens with the largest attributions.

    accuracy = |top_K ∩ G| / K,    K = |G|

    The precision and the recall of the top K, which are equal (R-precision).

    Args: as in `auprc_plau`.
    Returns: in [0, 1]; NaN without a marked token.
    Reference: Arras, Osman & Samek 2022 (CLEVR-XAI), relevance rank accuracy.

    >>> float(relevance_rank_accuracy(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, True])))
    0.5
    """
    values, valid = _checked("relevance_rank_accuracy", attributions, gold, valid)
    size = jnp.sum(gold & valid, dtype=jnp.int32)
    both = jnp.sum(top_tokens(values, size.reshape(1), valid)[0] & gold, dtype=jnp.int32)
    share = both.astype(values.dtype) / jnp.maximum(size, 1).astype(values.dtype)
    return _defined(share, values, gold, valid)


def _precision_recall(
    values: Float[Array, " n"], gold: Gold, valid: Valid
) -> tuple[Float[Array, " n_plus_1"], Float[Array, " n_plus_1"]]:
    """Return precision and recall after each token in the order of the attributions, equal ones together."""
    at_least = (values[None, :] >= values[:, None]) & valid[None, :]
    found = jnp.sum(at_least & gold[None, :], axis=1, dtype=jnp.int32).astype(values.dtype)
    taken = jnp.sum(at_least, axis=1, dtype=jnp.int32).astype(values.dtype)
    marked = jnp.sum(gold & valid, dtype=jnp.int32).astype(values.dtype)
    order = token_order(values, valid)
    share = marked / jnp.maximum(jnp.sum(valid, dtype=jnp.int32), 1).astype(values.dtype)
    precision = jnp.where(valid, found / jnp.maximum(taken, 1.0), share)[order]
    recall = jnp.where(valid, found / jnp.maximum(marked, 1.0), 1.0)[order]
    start = jnp.ones(1, values.dtype)
    return jnp.concatenate([start, precision]), jnp.concatenate([0.0 * start, recall])


def _checked(metric: str, attributions: Any, gold: Any, valid: Any) -> tuple[Float[Array, " n"], Valid]:
    """Return one number a token, in float32 at least, and which tokens are real."""
    values, mask = check_attributions(metric, attributions, valid)
    check_valid(metric, gold, values.size, "gold")
    return values, mask


def _whole(metric: str, count: Any) -> Int[Array, " 1"]:
    """Return a number of tokens as an array of one; raise unless it is a whole number."""
    if jnp.issubdtype(jnp.result_type(count), jnp.integer):
        return jnp.asarray(count, jnp.int32).reshape(1)
    try:
        return jnp.full(1, operator.index(count), jnp.int32)
    except TypeError:
        near = f"; round the mean number of marked tokens, as in count={round(float(count))}"
        raise ValueError(f"{metric}: count must be a whole number of tokens, not {count}{near}") from None


def _overlap(
    metric: str, predicted: Bool[Array, " n"], gold: Gold, valid: Valid | None
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return the numbers of tokens in both, in the predicted and in the gold rationale."""
    check_valid(metric, predicted, gold.size, "predicted")
    check_valid(metric, valid, gold.size)
    real = jnp.ones(gold.shape, bool) if valid is None else valid
    sets = (predicted & gold, predicted, gold)
    both, first, second = (jnp.sum(marked & real, dtype=jnp.int32).astype(jnp.float32) for marked in sets)
    return both, first, second


def _mass(values: Float[Array, " n"], gold: Gold, valid: Valid) -> Float[Array, ""]:
    kept = jnp.where(valid, values, 0.0)
    total = jnp.sum(kept)
    share = jnp.sum(jnp.where(gold, kept, 0.0)) / jnp.where(total > 0.0, total, 1.0)
    return _defined(share, values, gold, valid)


def _defined(value: Float[Array, ""], values: Float[Array, " n"], gold: Gold, valid: Valid) -> Float[Array, ""]:
    """Return NaN for a text without gold tokens, and if the attribution of a real token is NaN."""
    return jnp.where(jnp.any(gold & valid) & ~has_nan(values, valid), value, jnp.nan)

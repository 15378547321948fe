"""Plausibility: whether the tokens with large attributions are those that people, or the data, mark as the reason.

Functions see one example; `jax.vmap` adds a batch. `gold` is True for marked tokens, `where` for real tokens (None if
all are). A text without a marked token has nothing to compare with: all metrics are NaN for it (ERASER counts it as 0).
"""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.faithfulness.masks import Attributions, token_order, top_tokens

Gold = Bool[Array, " n"]
"""True for the tokens of the human or gold rationale."""
Where = Bool[Array, " n"]


def auprc_plau(attributions: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
    """Compute the area under the precision–recall curve of attributions as scores of the gold tokens.

    auprc = Σ_t (R_t − R_{t−1}) (P_t + P_{t−1}) / 2,    R₀ = 0, P₀ = 1

    over the distinct attributions t, the largest first, with P and R the precision and recall of the tokens whose
    attribution is at least t. This is scikit-learn's `auc(recall, precision)` of `precision_recall_curve`, by the
    trapezoidal rule, as in ferret and ERASER. Not `average_precision`, which has no interpolation and may be larger.

    Args:
        attributions: of each token.
        gold: True for the marked tokens.
        where: True for real tokens; None if all are.
    Returns: in [0, 1], the higher the better; NaN without a marked token. For random attributions about the share of
        marked tokens.
    Numerics: n² comparisons; attributions that are equal enter together, NaN as −∞. No gradient.
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `auprc_plau`).

    >>> float(auprc_plau(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, True, False])))
    1.0
    """
    precision, recall = _precision_recall(attributions, gold, where)
    return _defined(jnp.sum((recall[1:] - recall[:-1]) * (precision[1:] + precision[:-1]) / 2.0), gold, where)


def average_precision(attributions: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
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
    precision, recall = _precision_recall(attributions, gold, where)
    return _defined(jnp.sum((recall[1:] - recall[:-1]) * precision[1:]), gold, where)


def token_f1(predicted: Bool[Array, " n"], gold: Gold, where: Where | None = None) -> Float[Array, ""]:
    """Compute the F1 score of predicted tokens against the gold tokens of one text.

    F1 = 2 |P ∩ G| / (|P| + |G|)

    ERASER and ferret average it over texts (macro).

    Args:
        predicted: True for tokens of the predicted rationale.
        gold: True for the marked tokens.
        where: True for real tokens; None if all are.
    Returns: in [0, 1]; 0 if nothing is predicted, NaN without a marked token.
    Reference: DeYoung et al. 2020, section 4.1.

    >>> round(float(token_f1(jnp.array([True, True, False]), jnp.array([False, True, False]))), 4)
    0.6667
    """
    both, predicted_size, gold_size = _overlap(predicted, gold, where)
    return _defined(2.0 * both / jnp.maximum(predicted_size + gold_size, 1.0), gold, where)


def token_iou(predicted: Bool[Array, " n"], gold: Gold, where: Where | None = None) -> Float[Array, ""]:
    """Compute the intersection over union of predicted and gold tokens of one text.

    IoU = |P ∩ G| / |P ∪ G|

    Args: as in `token_f1`.
    Returns: in [0, 1]; 0 if nothing is predicted, NaN without a marked token.
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `token_iou_plau`).

    >>> float(token_iou(jnp.array([True, True, False]), jnp.array([False, True, False])))
    0.5
    """
    both, predicted_size, gold_size = _overlap(predicted, gold, where)
    return _defined(both / jnp.maximum(predicted_size + gold_size - both, 1.0), gold, where)


def token_f1_plau(
    attributions: Attributions, gold: Gold, count: int | Int[Array, ""], where: Where | None = None
) -> Float[Array, ""]:
    """Compute the F1 score of the tokens with the largest attributions against the gold tokens.

    F1 = 2 |top_k ∩ G| / (k + |G|)

    Args:
        attributions: of each token.
        gold: True for the marked tokens.
        count: number k of tokens in the predicted rationale. ERASER and ferret take the mean number of marked tokens of
            the data, rounded, the same for all texts.
        where: True for real tokens; None if all are.
    Returns: in [0, 1], the higher the better; NaN without a marked token.
    Numerics: of equal attributions the earlier token is taken. (ferret takes the later.)
    Reference: DeYoung et al. 2020, section 4.1; Attanasio et al. 2023 (ferret, `token_f1_plau`).

    >>> float(token_f1_plau(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, True]), 2))
    0.5
    """
    return token_f1(_top(attributions, count, where), gold, where)


def token_iou_plau(
    attributions: Attributions, gold: Gold, count: int | Int[Array, ""], where: Where | None = None
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
    return token_iou(_top(attributions, count, where), gold, where)


def pointing_game(attributions: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
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
    if not attributions.size:
        return jnp.full((), jnp.nan, attributions.dtype)
    valid = jnp.ones(gold.shape, bool) if where is None else where
    hit = gold[token_order(attributions, where)[0]] & jnp.any(valid & (attributions != 0.0))
    return _defined(hit.astype(attributions.dtype), gold, where)


def relevance_mass_accuracy(attributions: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
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
    return _mass(jnp.maximum(attributions, 0.0), gold, where)


def attention_mass(weights: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
    """Compute the share of the attention weight that lies on gold tokens.

    mass = Σ_{i ∈ G} |α_i| / Σ_i |α_i|

    The metrics `rationale_mass`, `region_mass` and `fact_mass` of the tasks are averages of it, in percent; as in the
    first, of negative weights (of a normalizer that is no softmax) the absolute value counts.

    Args:
        weights: attention weights over the tokens (cells, sentences) of one example.
        gold: True for the marked ones.
        where: True for real ones; None if all are.
    Returns: in [0, 1]; 0 if all weights are 0, NaN without a marked token. For uniform weights the share of marked
        tokens.

    >>> float(attention_mass(jnp.array([0.5, 0.25, 0.25]), jnp.array([True, False, True])))
    0.75
    """
    return _mass(jnp.abs(weights), gold, where)


def relevance_rank_accuracy(attributions: Attributions, gold: Gold, where: Where | None = None) -> Float[Array, ""]:
    """Compute which share of the gold tokens is among as many tokens with the largest attributions.

    accuracy = |top_K ∩ G| / K,    K = |G|

    The precision and the recall of the top K, which are equal (R-precision).

    Args: as in `auprc_plau`.
    Returns: in [0, 1]; NaN without a marked token.
    Reference: Arras, Osman & Samek 2022 (CLEVR-XAI), relevance rank accuracy.

    >>> float(relevance_rank_accuracy(jnp.array([0.9, 0.5, 0.1]), jnp.array([True, False, True])))
    0.5
    """
    valid = jnp.ones(gold.shape, bool) if where is None else where
    size = jnp.sum(gold & valid)
    both = jnp.sum(_top(attributions, size, where) & gold)
    return _defined(both.astype(attributions.dtype) / jnp.maximum(size, 1).astype(attributions.dtype), gold, where)


def _precision_recall(
    attributions: Attributions, gold: Gold, where: Where | None
) -> tuple[Float[Array, " n_plus_1"], Float[Array, " n_plus_1"]]:
    """Return precision and recall after each token in the order of the attributions, equal ones together."""
    valid = jnp.ones(gold.shape, bool) if where is None else where
    attributions = jnp.where(jnp.isnan(attributions), -jnp.inf, attributions)
    at_least = (attributions[None, :] >= attributions[:, None]) & valid[None, :]
    found = jnp.sum(at_least & gold[None, :], axis=1).astype(attributions.dtype)
    taken = jnp.sum(at_least, axis=1).astype(attributions.dtype)
    marked = jnp.sum(gold & valid).astype(attributions.dtype)
    order = token_order(attributions, where)
    share = marked / jnp.maximum(jnp.sum(valid), 1).astype(attributions.dtype)
    precision = jnp.where(valid, found / jnp.maximum(taken, 1.0), share)[order]
    recall = jnp.where(valid, found / jnp.maximum(marked, 1.0), 1.0)[order]
    start = jnp.ones(1, attributions.dtype)
    return jnp.concatenate([start, precision]), jnp.concatenate([0.0 * start, recall])


def _top(attributions: Attributions, count: int | Int[Array, ""], where: Where | None) -> Bool[Array, " n"]:
    return top_tokens(attributions, jnp.asarray(count, jnp.int32).reshape(1), where)[0]


def _overlap(
    predicted: Bool[Array, " n"], gold: Gold, where: Where | None
) -> tuple[Float[Array, ""], Float[Array, ""], Float[Array, ""]]:
    """Return the numbers of tokens in both, in the predicted and in the gold rationale, in jax's default float."""
    valid = jnp.ones(gold.shape, bool) if where is None else where
    both, first, second = (jnp.sum(marked & valid).astype(float) for marked in (predicted & gold, predicted, gold))
    return both, first, second


def _mass(values: Float[Array, " n"], gold: Gold, where: Where | None) -> Float[Array, ""]:
    values = values if where is None else jnp.where(where, values, 0.0)
    total = jnp.sum(values)
    return _defined(jnp.sum(jnp.where(gold, values, 0.0)) / jnp.where(total > 0.0, total, 1.0), gold, where)


def _defined(value: Float[Array, ""], gold: Gold, where: Where | None) -> Float[Array, ""]:
    """Return NaN for a text without gold tokens."""
    return jnp.where(jnp.any(gold if where is None else gold & where), value, jnp.nan)

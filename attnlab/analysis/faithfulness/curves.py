"""Deletion and insertion: the prediction as tokens are removed from a text, or added to the empty text, one by one."""

import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from attnlab.analysis.checks import call_predict, check_attributions, has_nan
from attnlab.analysis.faithfulness.removal import Attributions, Removable, length, top_tokens
from attnlab.analysis.functions import Predict


def deletion_curve(
    predict: Predict, attributions: Attributions, removable: Removable | None = None
) -> Float[Array, " n_plus_1"]:
    """Compute the prediction as tokens are removed one after another, the largest attributions first.

    curve_k = f(x without the k tokens with the largest attributions),    k = 0 … n

    The faster it falls, the better: of all orders, look for a small area (`deletion_auc`).

    Args:
        predict: see `functions.Predict`; it is called once, with n + 1 masks.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
    Returns: the predictions; entries beyond the length of the text repeat the last. All are NaN if an attribution is.
    Reference: Petsiuk et al. 2018 (RISE); Samek et al. 2017.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> deletion_curve(additive, jnp.array([3.0, 2.0, 1.0])).tolist()
    [1.0, 0.5, 0.25, 0.0]
    """
    return _curve("deletion_curve", predict, attributions, removable, keeps=False)


def insertion_curve(
    predict: Predict, attributions: Attributions, removable: Removable | None = None
) -> Float[Array, " n_plus_1"]:
    """Compute the prediction as tokens are added to the empty text, the largest attributions first.

    curve_k = f(the k tokens with the largest attributions),    k = 0 … n

    The faster it rises, the better: of all orders, look for a large area (`insertion_auc`).

    Args: as in `deletion_curve`.
    Returns: the predictions; entries beyond the length of the text repeat the last. All are NaN if an attribution is.
    Reference: Petsiuk et al. 2018 (RISE).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> insertion_curve(additive, jnp.array([3.0, 2.0, 1.0])).tolist()
    [0.0, 0.5, 0.75, 1.0]
    """
    return _curve("insertion_curve", predict, attributions, removable, keeps=True)


def auc(curve: Float[Array, " n_plus_1"], tokens: Int[Array, ""]) -> Float[Array, ""]:
    """Compute the area under a curve over the share of removed (or added) tokens, by the trapezoidal rule.

    auc = (1/n) Σ_{k < n} (curve_k + curve_{k+1}) / 2

    Args:
        curve: the prediction after 0, 1, … tokens.
        tokens: number n of tokens of the text; later entries of the curve are ignored.
    Returns: in [0, 1] for probabilities; the value of the curve for a text without tokens.
    Reference: Petsiuk et al. 2018 (RISE).

    >>> float(auc(jnp.array([1.0, 0.5, 0.0, 0.0]), jnp.int32(2)))
    0.5
    """
    steps = jnp.arange(curve.size - 1, dtype=jnp.int32) < tokens.astype(jnp.int32)
    area = jnp.sum(jnp.where(steps, (curve[:-1] + curve[1:]) / 2.0, 0.0))
    return jnp.where(tokens > 0, area / jnp.maximum(tokens, 1).astype(curve.dtype), curve[0])


def deletion_auc(predict: Predict, attributions: Attributions, removable: Removable | None = None) -> Float[Array, ""]:
    """Compute the area under the deletion curve; the lower the better. See `deletion_curve` and `auc`.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.5])).sum(axis=1)
    >>> float(deletion_auc(additive, jnp.array([2.0, 1.0])))
    0.5
    """
    return auc(deletion_curve(predict, attributions, removable), length(attributions, removable))


def insertion_auc(predict: Predict, attributions: Attributions, removable: Removable | None = None) -> Float[Array, ""]:
    """Compute the area under the insertion curve; the higher the better. See `insertion_curve` and `auc`.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.5])).sum(axis=1)
    >>> float(insertion_auc(additive, jnp.array([2.0, 1.0])))
    0.5
    """
    return auc(insertion_curve(predict, attributions, removable), length(attributions, removable))


def _curve(
    name: str, predict: Predict, attributions: Attributions, removable: Removable | None, *, keeps: bool
) -> Float[Array, " n_plus_1"]:
    """Return the predictions as the 0, 1, … n tokens with the largest attributions are removed, or kept alone."""
    values, allowed = check_attributions(name, attributions, removable, "removable")
    top = top_tokens(values, jnp.arange(values.size + 1, dtype=jnp.int32), allowed)
    predictions = call_predict(name, predict, ~top & allowed[None, :] if keeps else top)
    return jnp.where(has_nan(values, allowed), jnp.nan, predictions)

"""Checks of the arguments of attribution methods and metrics."""

from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.analysis.functions import Predict
from attnlab.analysis.record import Attribution
from attnlab.functional.types import widen


def check_positive(method: str, **numbers: int | None) -> None:
    """Raise unless every number is at least 1, or None."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{method}: {name} must be at least 1, not {number}")


def check_valid(method: str, valid: Any, n: int, name: str = "valid") -> None:
    """Raise unless `valid` is None or one boolean for each of n positions."""
    if valid is not None and (valid.shape != (n,) or valid.dtype != jnp.bool_):
        raise ValueError(
            f"{method}: {name} must be booleans [{n}], True for a real token, not {valid.dtype}{list(valid.shape)}; "
            f"from a length write jnp.arange({n}) < length"
        )


def check_attributions(
    metric: str, attributions: Any, mask: Any = None, name: str = "valid"
) -> tuple[Float[Array, " n"], Bool[Array, " n"]]:
    """Return one number a token, in float32 at least, and which tokens count.

    Args:
        metric: whose argument it is, for the error.
        attributions: an array [n], or an `Attribution` whose attributions are one.
        mask: True for tokens that count; None if all do.
        name: of the mask, for the error.
    Raises: ValueError for attributions of another shape, or a mask that does not fit.
    """
    values = attributions.attributions if isinstance(attributions, Attribution) else attributions
    if values.ndim != 1:
        hint = "; sum over the features: aggregate_features(result.attributions)" if values.ndim == 2 else ""
        raise ValueError(f"{metric}: attributions must be one number a token, [n], not {list(values.shape)}{hint}")
    if not jnp.issubdtype(values.dtype, jnp.floating):
        raise ValueError(f"{metric}: attributions must be floating-point, not {values.dtype}")
    check_valid(metric, mask, values.size, name)
    return widen(values), jnp.ones(values.shape, bool) if mask is None else mask


def has_nan(values: Float[Array, " n"], mask: Bool[Array, " n"]) -> Bool[Array, ""]:
    """Return whether a token that counts has NaN."""
    return jnp.any(mask & jnp.isnan(values))


def call_predict(metric: str, predict: Predict, removed: Bool[Array, "m n"]) -> Float[Array, " m"]:
    """Return the predictions for m versions of a text, in float32 at least.

    Raises: ValueError if they are not one floating-point number a version.
    """
    predictions = jnp.asarray(predict(removed))
    if predictions.shape != (len(removed),):
        raise ValueError(
            f"{metric}: predict must return an array of shape {(len(removed),)} for masks of shape {removed.shape}, "
            f"not {predictions.shape}; select the target, as in lambda removed: probabilities(removed)[:, label]"
        )
    if not jnp.issubdtype(predictions.dtype, jnp.floating):
        raise ValueError(f"{metric}: predict must return floating-point numbers, not {predictions.dtype}")
    return widen(predictions)

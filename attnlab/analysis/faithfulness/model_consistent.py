"""The curve of model-consistent adversaries (Wiegreffe & Pinter 2019) that were trained with several strengths.

They predict alike and attend differently: `attnlab.training.objective.model_consistent_loss` is their loss.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import widen


class DivergenceCurve(NamedTuple):
    """How much the predictions must change for the weights to change: one point a model, in the order of the JSD."""

    strengths: Float[Array, " points"]
    """λ of each model."""
    weight_jsd: Float[Array, " points"]
    """Mean divergence of the attention weights, in [0, ln 2]."""
    prediction_tvd: Float[Array, " points"]
    """Mean distance of the predictions, in [0, 1]."""
    area: Float[Array, ""]
    """Area under the curve from the base model, (0, 0), to the last point, by the trapezoidal rule."""


def divergence_curve(
    strengths: Float[Array, " points"], weight_jsd: Float[Array, " points"], prediction_tvd: Float[Array, " points"]
) -> DivergenceCurve:
    """Arrange models by the divergence of their weights from the base model, and compute the area under the curve.

    area = Σ_i (jsd_{i+1} − jsd_i) (tvd_i + tvd_{i+1}) / 2    from (0, 0) on

    Each point is an adversary trained with its own λ. The larger the distance of the predictions at a given divergence
    of the weights, the more the model depends on its weights. Areas are comparable only up to the same divergence.

    Args:
        strengths: λ of each adversary, see `training.objective.model_consistent_loss`.
        weight_jsd: mean over the test texts of the JSD of an adversary's attention weights from the base model's.
        prediction_tvd: mean over the test texts of the TVD of its predictions.
    Returns: a `DivergenceCurve`, without the point of the base model itself; the area is NaN if a point is.
    Numerics: float32 at least.
    Reference: Wiegreffe & Pinter 2019, figure 5; they have no area.

    >>> curve = divergence_curve(jnp.array([2.0, 1.0]), jnp.array([0.5, 0.25]), jnp.array([0.25, 0.0]))
    >>> curve.strengths.tolist(), curve.weight_jsd.tolist(), curve.prediction_tvd.tolist(), float(curve.area)
    ([1.0, 2.0], [0.25, 0.5], [0.0, 0.25], 0.03125)
    """
    for name, values in (("weight_jsd", weight_jsd), ("prediction_tvd", prediction_tvd)):
        if values.shape != strengths.shape:
            raise ValueError(f"divergence_curve: {len(strengths)} strengths for {name} {list(values.shape)}")
    order = jnp.argsort(weight_jsd, stable=True)
    strengths, jsds, tvds = (widen(values[order]) for values in (strengths, weight_jsd, prediction_tvd))
    x, y = (jnp.concatenate([jnp.zeros(1, values.dtype), values]) for values in (jsds, tvds))
    return DivergenceCurve(strengths, jsds, tvds, jnp.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1]) / 2.0))

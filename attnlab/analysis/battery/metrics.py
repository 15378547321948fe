"""The metrics of all methods for one example: erasure, soft erasure, rank correlations, violations and plausibility."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import map_over
from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.analysis.battery.erasure_curves import erasure_metrics, undefined_for_nan, versions, with_ends
from attnlab.analysis.battery.predictions import reader, real_rows
from attnlab.analysis.battery.settings import BatterySettings
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.explain.methods import AT_ONCE
from attnlab.analysis.faithfulness import gradient_magnitudes, kendall_tau, soft_comprehensiveness, soft_sufficiency
from attnlab.analysis.faithfulness.removal import token_ranks
from attnlab.analysis.faithfulness.soft import min_max
from attnlab.analysis.interventions import given
from attnlab.analysis.plausibility import auprc_plau, pointing_game, relevance_mass_accuracy

LEVEL = 0.05
"""Significance level of a rank correlation."""


def metrics_of(
    call: ModelCall,
    static: Static,
    one: Arrays,
    attributions: Float[Array, "m n"],
    ceiling: Float[Array, " n"],
    rng: Array,
    settings: BatterySettings,
) -> dict[str, Array]:
    """Return every metric of every method, [m] or for curves [m s], and for ranks of tokens [m n].

    Args:
        call: of the model with the example.
        static: of its chunk.
        one: the example.
        attributions: of every method.
        ceiling: those of leave-one-out.
        rng: for soft masks.
        settings: of the battery.
    """
    read = reader(static, one)
    removed_readings = call.without(settings.removal, read)
    removable = one.removable
    full, null = (
        jax.tree.map(lambda field: field[0], removed_readings(mask[None]))
        for mask in (jnp.zeros_like(removable), removable)
    )
    real = real_rows(static, one, full.decisions.size)
    magnitudes = gradient_magnitudes(_score_with_fixed_weights(call), call.embedded, one.valid)

    def soft_predict(embedded: Float[Array, "v n d"]) -> Float[Array, " v"]:
        return map_over(lambda some: jnp.exp(read(call.logits(some)).log_probability), embedded, AT_ONCE)

    def of_method(values: Float[Array, " n"]) -> dict[str, Any]:
        removed, counts = versions(values, removable, settings.shares)
        deletion, insertion = with_ends(full, null, removed_readings(removed))
        soft = rng, soft_predict, call.embedded, min_max(values, removable), removable
        found = erasure_metrics(deletion, insertion, counts, real, settings.shares)
        found |= {
            "soft_comprehensiveness": soft_comprehensiveness(*soft, n_samples=settings.soft_samples),
            "soft_sufficiency": soft_sufficiency(*soft, n_samples=settings.soft_samples),
            "violation": violation(values, ceiling, removable),
        }
        for name, other in (("loo", ceiling), ("gradient", magnitudes)):
            tau = kendall_tau(values, other, removable)
            significant = (tau.pvalue <= LEVEL).astype(tau.statistic.dtype)
            found[f"taucorr_{name}"] = tau.statistic
            found[f"taucorr_{name}_significant"] = jnp.where(jnp.isnan(tau.pvalue), jnp.nan, significant)
        found = undefined_for_nan(found, values, removable)
        found |= {
            "auprc_plau": auprc_plau(values, one.gold, one.comparable),
            "pointing_game": pointing_game(values, one.gold, one.comparable),
            "relevance_mass_accuracy": relevance_mass_accuracy(values, one.gold, one.comparable),
        }
        curves = {
            "deletion_curve": jnp.exp(deletion.log_probability),
            "insertion_curve": jnp.exp(insertion.log_probability),
        }
        return found | curves | {"ranks": token_ranks(values, one.comparable)}

    return jax.lax.map(of_method, attributions)


def violation(
    values: Float[Array, " n"], ceiling: Float[Array, " n"], removable: Bool[Array, " n"]
) -> Float[Array, ""]:
    """Return whether the most important token is given the wrong sign.

    violation = 1 if a_i Δf_i < 0, else 0,    i = argmax |a|

    An attribution that has only one sign (attention) violates where the prediction gains by the removal of its token.

    Args:
        values: the attributions a.
        ceiling: Δf, the drop of the target without each token.
        removable: which tokens count.
    Returns: 0 or 1; NaN if the attribution or the drop is 0, so that it has no sign.
    Reference: Liu et al. 2022 ("Rethinking attention-model explainability through faithfulness violation test").

    >>> float(violation(jnp.array([-2.0, 1.0]), jnp.array([0.5, 0.25]), jnp.array([True, True])))
    1.0
    """
    top = jnp.argmax(jnp.where(removable, jnp.abs(values), -1.0))
    product = values[top] * ceiling[top]
    return jnp.where((product == 0.0) | jnp.isnan(product), jnp.nan, (product < 0.0).astype(product.dtype))


def _score_with_fixed_weights(call: ModelCall) -> Any:
    """Return the target as a function of embeddings with all attention weights held fixed (Jain & Wallace 2019)."""
    fixed = {layer.name: Partial(given, weights=layer.weights) for layer in call.layers if _fixable(layer)}
    if not fixed:
        return call.score

    def score(embedded: Float[Array, "n d"]) -> Float[Array, ""]:
        inputs = call.layout.split(embedded, 1, call.inputs)
        output = call.adapter.forward(call.params, call.batch, embedded=inputs, intervene=fixed)
        return call.target(output.logits, call.batch)

    return score


def _fixable(layer: Any) -> bool:
    return layer.pooled is not None and layer.replaceable

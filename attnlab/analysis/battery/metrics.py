"""The metrics of all methods for one example: erasure, soft erasure, rank correlations, violations and plausibility."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float

from attnlab.analysis.attribution.batches import map_over
from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.analysis.battery.erasure_curves import erasure_metrics, undefined_for_nan, versions, with_ends
from attnlab.analysis.battery.predictions import distributions, mean_over_rows, reader, real_rows
from attnlab.analysis.battery.settings import SOFT, BatterySettings, left_out_metrics
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.explain.methods import AT_ONCE
from attnlab.analysis.faithfulness import gradient_magnitudes, kendall_tau, soft_comprehensiveness, soft_sufficiency
from attnlab.analysis.faithfulness.polarity import violation_of_drops
from attnlab.analysis.faithfulness.removal import token_ranks
from attnlab.analysis.faithfulness.soft import min_max
from attnlab.analysis.interventions import given
from attnlab.analysis.plausibility import auprc_plau, pointing_game, relevance_mass_accuracy
from attnlab.functional.divergence import tvd

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
    """Return every metric of every method: [m], curves and numbers of tokens at each share [m s], ranks [m n].

    The gradients of Jain & Wallace and their leave-one-out (total variation distances) have no sign, so that the sizes
    |a| of attributions are correlated with them; attention weights are their own sizes.

    Args:
        call: of the model with the example.
        static: of its chunk.
        one: the example.
        attributions: of every method.
        ceiling: those of leave-one-out.
        rng: for soft masks.
        settings: of the battery.
    """
    read = reader(call.adapter, static, one)
    removed_readings = call.without(settings.removal, read)
    removable, left_out = one.removable, left_out_metrics(settings.removal, call.adapter)
    full, null = (
        jax.tree.map(lambda field: field[0], removed_readings(mask[None]))
        for mask in (jnp.zeros_like(removable), removable)
    )
    real = real_rows(static, one, full.decisions.size)
    moved = _distances(call, static, one, settings)
    magnitudes = gradient_magnitudes(_score_with_fixed_weights(call), call.embedded, one.valid)

    def soft_predict(embedded: Float[Array, "v n d"]) -> Float[Array, " v"]:
        return map_over(lambda some: jnp.exp(read(call.logits(some)).log_probability), embedded, AT_ONCE)

    def of_method(values: Float[Array, " n"]) -> dict[str, Any]:
        removed, counts = versions(values, removable, settings.shares)
        deletion, insertion = with_ends(full, null, removed_readings(removed))
        found = erasure_metrics(deletion, insertion, counts, real, settings.shares)
        found["violation"] = violation_of_drops(values, ceiling, removable)
        if SOFT[0] not in left_out:
            soft = rng, soft_predict, call.embedded, min_max(values, removable), removable
            versions_of = soft_comprehensiveness, soft_sufficiency
            found |= {n: f(*soft, n_samples=settings.soft_samples) for n, f in zip(SOFT, versions_of, strict=True)}
        for name, ours, other in (
            ("loo", values, ceiling),
            ("loo_tvd", jnp.abs(values), moved),
            ("gradient", jnp.abs(values), magnitudes),
        ):
            tau = kendall_tau(ours, other, removable)
            significant = (tau.pvalue <= LEVEL).astype(tau.statistic.dtype)
            found[f"taucorr_{name}"] = tau.statistic
            found[f"taucorr_{name}_significant"] = jnp.where(jnp.isnan(tau.pvalue), jnp.nan, significant)
        found |= {
            "deletion_curve": jnp.exp(deletion.log_probability),
            "insertion_curve": jnp.exp(insertion.log_probability),
        }
        found = undefined_for_nan(found, values, removable)
        found = {name: value for name, value in found.items() if name not in left_out}
        found |= {
            "auprc_plau": auprc_plau(values, one.gold, one.comparable),
            "pointing_game": pointing_game(values, one.gold, one.comparable),
            "relevance_mass_accuracy": relevance_mass_accuracy(values, one.gold, one.comparable),
        }
        return found | {"ranks": token_ranks(values, one.comparable), "counts": counts}

    return jax.lax.map(of_method, attributions)


def _distances(call: ModelCall, static: Static, one: Arrays, settings: BatterySettings) -> Float[Array, " n"]:
    """Return how far the distributions move when each token is removed, as `taucorr_loo_tvd` has it."""
    original = distributions(call.adapter.forward(call.params, call.batch, attention=False).logits)
    real = real_rows(static, one, len(original))
    distance = call.without(settings.removal, lambda logits: mean_over_rows(tvd(distributions(logits), original), real))
    alone = jnp.eye(len(one.removable), dtype=bool)
    return jax.lax.map(lambda removed: distance(removed[None])[0], alone, batch_size=min(AT_ONCE, len(alone)))


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

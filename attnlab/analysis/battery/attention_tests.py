"""Tests of a model's attention: permuted, uniform and adversarial weights in its place, for one example."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float

from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.analysis.battery.hoisting import hoisted
from attnlab.analysis.battery.predictions import distributions, mean_over_rows, real_rows
from attnlab.analysis.battery.settings import BatterySettings
from attnlab.analysis.explain.attention_methods import query_weights, reading_layers
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.explain.methods import AT_ONCE
from attnlab.analysis.faithfulness import adversarial_attention
from attnlab.analysis.interventions import allowed, given, permuted, uniform
from attnlab.functional.divergence import tvd
from attnlab.layers.capture import Intervention
from attnlab.layers.layer_attention import LayerAttention

LARGE_JSD = 0.5
"""The divergence from which adversarial attention counts as different (the largest possible is ln 2 = 0.69)."""
PERMUTATION = ("permutation_median_tvd", "permutation_max_weight")
UNIFORM = ("uniform_tvd", "uniform_same_decision", "uniform_probability_change")
ADVERSARIAL = ("adversarial_jsd", "adversarial_tvd", "adversarial_found")


def main_layers(layers: Sequence[LayerAttention]) -> list[LayerAttention]:
    """Return the attention to the input from outside it; nothing for a model with self-attention alone."""
    return [layer for layer in reading_layers(layers) if layer.kind != "self" and layer.replaceable]


def left_out_tests(layers: Sequence[LayerAttention], decisions: int) -> dict[str, str]:
    """Return the tests that a model cannot have, each with its reason.

    Args:
        layers: shapes of the records of all layers, with details.
        decisions: number of distributions of a prediction.
    """
    main = main_layers(layers)
    if not main:
        several = len([layer for layer in layers if layer.kind == "self"])
        reason = (
            f"the input is taken up by {several} layers of self-attention; no map alone pools it"
            if several
            else "the model has no attention that averages over its input"
        )
        return dict.fromkeys(("permutation_test", "uniform_attention", "adversarial_attention"), reason)
    if reason := _not_one_row(main, decisions):
        return {"adversarial_attention": reason}
    return {}


def _not_one_row(main: Sequence[LayerAttention], decisions: int) -> str:
    """Return why the search for adversarial attention is not defined; "" if there is one row and one decision."""
    if decisions > 1:
        return (
            "defined for one decision with one row of weights (Jain & Wallace 2019); "
            f"here every decision has rows of its own ({decisions} places)"
        )
    rows = sum(layer.weights.shape[1] * layer.weights.shape[2] for layer in main)
    if rows > 1:
        return f"defined for one row of weights (Jain & Wallace 2019); here a prediction has {rows} (heads × queries)"
    return ""


def attention_tests(
    call: ModelCall, static: Static, one: Arrays, rng: Array, settings: BatterySettings
) -> dict[str, Array]:
    """Return the results of the tests that the model can have.

    The distance of two predictions is the total variation distance of their distributions; of a generated text, whose
    own tokens are the decoder's input, it is the mean over its tokens, and of a span that of first and last word.

    Args:
        call: of the model with the example.
        static: of its chunk.
        one: the example.
        rng: for permutations and restarts.
        settings: of the battery.
    """
    main = main_layers(call.layers)
    if not main:
        return {}

    def logits(intervene: Mapping[str, Intervention]) -> Array:
        return call.adapter.forward(call.params, call.batch, intervene=intervene).logits

    plain = logits({})
    original = distributions(plain)
    real = real_rows(static, one, len(original))

    def distance(changed: Array) -> Float[Array, ""]:
        return mean_over_rows(tvd(distributions(changed), original), real)

    def of_permutation(rng: Array) -> Float[Array, ""]:
        return distance(logits({layer.name: Partial(permuted, rng=rng) for layer in main}))

    permutation_rng, restart_rng = jax.random.split(rng)
    rngs = jax.random.split(permutation_rng, settings.permutations)
    tvds = jax.lax.map(of_permutation, rngs, batch_size=min(AT_ONCE, settings.permutations))
    with_uniform = logits({layer.name: uniform for layer in main})
    decisions = call.adapter.decisions(plain[0])
    same = (call.adapter.decisions(with_uniform[0]) == decisions).astype(jnp.float32)
    before, after = (jnp.exp(one.target(some, one.batch) / one.tokens) for some in (plain, with_uniform))
    results = {
        "permutation_median_tvd": jnp.median(tvds),
        "permutation_max_weight": sum(_largest(call, layer) for layer in main) / len(main),
        "uniform_tvd": distance(with_uniform),
        "uniform_same_decision": mean_over_rows(same, real_rows(static, one, len(decisions))),
        "uniform_probability_change": after - before,
    }
    if not _not_one_row(main, len(original)):
        results |= _adversarial(call, main[0], restart_rng, settings)
    return {name: jnp.asarray(value) for name, value in results.items()}


def _largest(call: ModelCall, layer: LayerAttention) -> Float[Array, ""]:
    """Return the largest weight of a row, the mean over heads and the queries that lead to the target."""
    return query_weights(call, layer) @ jnp.mean(jnp.max(layer.weights[0], axis=-1), axis=0)


def _adversarial(call: ModelCall, layer: LayerAttention, rng: Array, settings: BatterySettings) -> dict[str, Array]:
    weights = layer.weights[0, 0, 0]

    def predict(weights: Float[Array, " k"]) -> Float[Array, " c"]:
        replaced = {layer.name: Partial(given, weights=weights[None, None, None])}
        return distributions(call.adapter.forward(call.params, call.batch, intervene=replaced).logits)[0]

    found = adversarial_attention(
        rng, hoisted(predict, weights), weights, allowed(layer)[0, 0, 0],
        epsilon=settings.epsilon, n_restarts=settings.restarts, n_steps=settings.steps,
    )  # fmt: skip
    success = (found.best_jsd >= LARGE_JSD) & (found.best_tvd <= settings.epsilon)
    values = found.best_jsd, found.best_tvd, jnp.where(jnp.isnan(found.best_jsd), jnp.nan, success.astype(jnp.float32))
    return dict(zip(ADVERSARIAL, values, strict=True))

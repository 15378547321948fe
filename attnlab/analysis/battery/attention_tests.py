"""Tests of a model's attention: permuted, uniform and adversarial weights in its place, for one example."""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Float

from attnlab.analysis.battery.adversarial import search
from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.analysis.battery.predictions import distributions, mean_over_rows, real_rows
from attnlab.analysis.battery.settings import BatterySettings
from attnlab.analysis.explain.attention_methods import query_weights, reading_layers
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.explain.methods import AT_ONCE
from attnlab.analysis.interventions import permuted, uniform
from attnlab.functional.divergence import tvd
from attnlab.layers.capture import Intervention
from attnlab.layers.layer_attention import LayerAttention


def main_layers(layers: Sequence[LayerAttention]) -> list[LayerAttention]:
    """Return the attention to the input from outside it; nothing for a model with self-attention alone."""
    return [layer for layer in reading_layers(layers) if layer.kind != "self" and layer.replaceable]


def left_out_tests(layers: Sequence[LayerAttention]) -> dict[str, str]:
    """Return the tests that a model cannot have, each with its reason.

    Args:
        layers: shapes of the records of all layers, with details.
    """
    if main_layers(layers):
        return {}
    several = len([layer for layer in layers if layer.kind == "self"])
    reason = (
        f"the input is taken up by {several} layers of self-attention; no map alone pools it"
        if several
        else "the model has no attention that averages over its input"
    )
    return dict.fromkeys(("permutation_test", "uniform_attention", "adversarial_attention"), reason)


def attention_tests(
    call: ModelCall, static: Static, one: Arrays, rng: Array, settings: BatterySettings
) -> dict[str, Array]:
    """Return the results of the tests that the model can have, but for the search for adversarial attention.

    The distance of two predictions is the total variation distance of their distributions; of a generated text, whose
    own tokens are the decoder's input, it is the mean over its tokens, and of a span that of first and last word.

    Args:
        call: of the model with the example.
        static: of its chunk.
        one: the example.
        rng: for permutations; another part of it is for restarts.
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

    permutation_rng, _ = jax.random.split(rng)
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
    return {name: jnp.asarray(value) for name, value in results.items()}


def _largest(call: ModelCall, layer: LayerAttention) -> Float[Array, ""]:
    """Return the largest weight of a row, the mean over heads and the queries that lead to the target."""
    return query_weights(call, layer) @ jnp.mean(jnp.max(layer.weights[0], axis=-1), axis=0)


def adversarial_test(
    call: ModelCall, static: Static, one: Arrays, rng: Array, settings: BatterySettings
) -> dict[str, Array]:
    """Return the results of the search for adversarial attention, if the model can have it; arguments as above."""
    main = main_layers(call.layers)
    return search(call, static, one, main, jax.random.split(rng)[1], settings) if main else {}

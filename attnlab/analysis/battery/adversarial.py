"""The search for adversarial attention in the place of all rows of weights by which a model attends to its input."""

from collections.abc import Sequence
from dataclasses import dataclass

import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float

from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.analysis.battery.hoisting import hoisted
from attnlab.analysis.battery.predictions import distributions, real_rows
from attnlab.analysis.battery.settings import BatterySettings
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.faithfulness.adversarial_rows import adversarial_rows
from attnlab.analysis.interventions import allowed, given
from attnlab.layers.layer_attention import LayerAttention

LARGE_JSD = 0.5
"""The divergence from which adversarial attention counts as different (the largest possible is ln 2 = 0.69)."""
ADVERSARIAL = ("adversarial_jsd", "adversarial_tvd", "adversarial_found")
LARGEST = "adversarial_largest_tvd"
"""The largest change of a single decision; only for predictions of several."""
QUERIES = {"context_to_query": 0, "cross": 1}
"""Kinds of attention whose queries are positions of an embedded array, and which; all queries of others are real, or
they are those of a decoder."""


def has_one_row(layers: Sequence[LayerAttention], generated: bool) -> bool:
    """Return whether a prediction is of one decision with one row of weights, as Jain & Wallace have it.

    Args:
        layers: the records of the attention to the input, of an input of any length.
        generated: whether the output is a text.
    """
    rows = sum(layer.weights.shape[1] * layer.weights.shape[2] for layer in layers)
    return not generated and rows == 1 and layers[0].kind not in QUERIES


@dataclass(frozen=True)
class Rows:
    """The rows of several layers in one array [r n], whose columns are padded to the largest number of keys."""

    layers: Sequence[LayerAttention]

    def join(self, arrays: Sequence[Array]) -> Array:
        """Return arrays [h q k], one for each layer, as one [r n]; padding is 0, or False."""
        width = max(layer.weights.shape[-1] for layer in self.layers)
        rows = [array.reshape(-1, array.shape[-1]) for array in arrays]
        return jnp.concatenate([jnp.pad(array, ((0, 0), (0, width - array.shape[1]))) for array in rows])

    def split(self, joined: Float[Array, "r n"]) -> dict[str, Float[Array, "1 h q k"]]:
        """Return the weights of each layer by its name."""
        start, found = 0, {}
        for layer in self.layers:
            _, heads, queries, keys = layer.weights.shape
            rows = joined[start : start + heads * queries, :keys]
            found[layer.name] = rows.reshape(1, heads, queries, keys)
            start += heads * queries
        return found


def search(
    call: ModelCall,
    static: Static,
    one: Arrays,
    layers: Sequence[LayerAttention],
    rng: Array,
    settings: BatterySettings,
) -> dict[str, Array]:
    """Return divergence and change of the adversarial attention of an example, and whether there is any.

    The prediction is that of all its decisions, whose changes are averaged; the rows are those of all layers and heads
    by which it attends to the input, without padding. An output text stays the decoder's input.

    Args:
        call: of the model with the example.
        static: of its chunk.
        one: the example.
        layers: the records of the attention to the input.
        rng: of the restarts.
        settings: of the battery.
    """
    rows = Rows(layers)
    weights = rows.join([layer.weights[0] for layer in layers])
    where = rows.join([allowed(layer)[0] & _real_queries(call, static, layer)[None, :, None] for layer in layers])

    def predict(weights: Float[Array, "r n"]) -> Float[Array, "d c"]:
        replaced = {name: Partial(given, weights=of_layer) for name, of_layer in rows.split(weights).items()}
        return distributions(call.adapter.forward(call.params, call.batch, intervene=replaced).logits)

    decisions = real_rows(static, one, len(distributions(call.adapter.forward(call.params, call.batch).logits)))
    found = adversarial_rows(
        rng, hoisted(predict, weights), weights, where, decisions,
        epsilon=settings.epsilon, n_restarts=settings.restarts, n_steps=settings.steps,
    )  # fmt: skip
    success = (found.best_jsd >= LARGE_JSD) & (found.best_tvd <= settings.epsilon)
    values = found.best_jsd, found.best_tvd, jnp.where(jnp.isnan(found.best_jsd), jnp.nan, success.astype(jnp.float32))
    results: dict[str, Array] = dict(zip(ADVERSARIAL, values, strict=True))
    return results if len(decisions) == 1 else results | {LARGEST: found.best_largest_tvd}


def _real_queries(call: ModelCall, static: Static, layer: LayerAttention) -> Bool[Array, " q"]:
    """Return the queries of a layer that are not padding."""
    queries = layer.weights.shape[2]
    if static.generated:
        return call.rows[:queries]
    if layer.kind not in QUERIES:
        return jnp.ones(queries, bool)
    return call.valid[call.layout.slices[QUERIES[layer.kind]]]

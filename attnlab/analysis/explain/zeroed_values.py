"""Value zeroing of all encoder layers of a model, as a function of a `ModelCall`."""

import jax.numpy as jnp
from jax import Array, lax
from jax.tree_util import Partial
from jaxtyping import Bool, Float

from attnlab.analysis.attribution import rollout, value_zeroing
from attnlab.analysis.explain.attention_methods import encoder_layers, last_rows
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.interventions import value_zeroed
from attnlab.layers.layer_attention import LayerAttention, Residual


def recomputable(layer: LayerAttention) -> bool:
    """Return whether the layer's output can be computed with other weights: it is recorded and they are replaceable."""
    return layer.feed_forward is not None and layer.pooled is not None and layer.replaceable


def of_value_zeroing(call: ModelCall, internal_batch_size: int | None = None) -> Float[Array, " n"]:
    """Return value zeroing of every layer, rolled out.

    The last layer's output of a pre-norm encoder is taken before the norm behind the stack.

    Args:
        call: the call of the model.
        internal_batch_size: number of keys that are zeroed at a time; None for all.
    """
    layers = encoder_layers(call.layers)

    def matrix(name: str) -> Float[Array, "n n"]:
        def output(zeroed: Bool[Array, " n"]) -> Float[Array, "n d"]:
            intervene = {name: Partial(value_zeroed, zeroed=zeroed)}
            records = call.adapter.forward(call.params, call.batch, details=True, intervene=intervene).attention
            (record,) = (record for record in records if record.name == name)
            assert record.feed_forward is not None
            return layer_output(record.feed_forward)[0]

        return value_zeroing(
            output, len(call.valid), internal_batch_size=internal_batch_size,
            query_valid=call.valid, key_valid=call.valid,
        )  # fmt: skip

    return last_rows(call, rollout(jnp.stack([matrix(layer.name) for layer in layers])))


def layer_output(residual: Residual) -> Float[Array, "b q d"]:
    """Return what a residual connection with its norm passes on: the sum, behind a norm if it is post-norm."""
    if residual.position == "pre":
        return residual.total
    total = residual.total
    centered = total if residual.norm == "rms_norm" else total - jnp.mean(total, axis=-1, keepdims=True)
    scaled = centered * lax.rsqrt(jnp.mean(centered**2, axis=-1, keepdims=True) + residual.epsilon) * residual.scale
    return scaled if residual.bias is None else scaled + residual.bias

"""Methods of attribution on the attention of a model, as functions of a `ModelCall`: a number for each position [n].

A method returns a matrix [q k]; the attributions are the mean of the rows of the queries that lead to the target. For a
model that pools its states they are weighted as the states are pooled.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.analysis.attribution import (
    EncoderBlock,
    NormParameters,
    alti,
    alti_plus,
    attention_block,
    attention_norms,
    attention_relevance,
    attention_rollout,
    block_norms,
    encoder_decoder_relevance,
    globenc,
    gradient_x_attention,
    pooled_values,
    positive_gradient_x_attention,
    raw_attention,
)
from attnlab.analysis.explain.call import KEYS, ModelCall
from attnlab.config.errors import UserError
from attnlab.layers.layer_attention import LayerAttention

TO_THE_TARGET = ("self", "cross", "decoder", "context_to_query")
"""Kinds of attention of which only some queries lead to the target; all queries of the others do."""


def encoder_layers(layers: Sequence[LayerAttention]) -> list[LayerAttention]:
    """Return the layers of self-attention over the input."""
    return [layer for layer in layers if layer.kind == "self" and layer.stack != "decoder"]


def reading_layers(layers: Sequence[LayerAttention]) -> list[LayerAttention]:
    """Return the layers through which a prediction attends to the input.

    They are the last ones with learned weights: attention to the input from outside it or, where there is none, its
    self-attention.
    """
    outside = [layer for layer in layers if layer.kind != "self" and layer.pooled is not None]
    return outside or encoder_layers(layers)


def query_weights(call: ModelCall, layer: LayerAttention) -> Float[Array, " q"]:
    """Return the share of each query of a layer in the prediction."""
    queries = layer.weights.shape[2]
    if layer.kind not in TO_THE_TARGET:
        return jnp.full(queries, 1 / queries)
    pooling = [record for record in call.layers if record.kind == "pooling"]
    if call.pools and pooling:
        return jnp.mean(pooling[0].weights[0, 0], axis=0)
    rows = call.rows[:queries]
    return rows / jnp.maximum(jnp.sum(rows), 1)


def by_layer(
    call: ModelCall, of_layer: Callable[[LayerAttention], Float[Array, " k"]], layer: int | None
) -> Float[Array, " n"]:
    """Return the mean over layers of each kind, at the positions of its keys.

    Args:
        call: the call of the model.
        of_layer: attributions of a layer to its keys.
        layer: number of a layer, from 1; None for all.
    """
    total, layers = jnp.zeros(call.valid.shape), reading_layers(call.layers)
    for kind in dict.fromkeys(record.kind for record in layers):
        records = [record for record in layers if record.kind == kind]
        if layer is not None:
            records = [record for record in records if (record.layer or 1) == layer]
        if not records:
            raise UserError(f"layer {layer}: this attention has layers 1 to {max(r.layer or 1 for r in layers)}")
        mean = sum(map(of_layer, records[1:]), of_layer(records[0])) / len(records)
        total = total.at[call.layout.slices[KEYS.get(kind, 0)]].add(mean)
    return jnp.where(call.valid, total, 0)


def of_raw_attention(call: ModelCall, *, layer: int | None = None, head: int | None = None) -> Float[Array, " n"]:
    """Return the weights of the attention to the input: of a layer and head, both from 1, or their mean."""

    def weights(record: LayerAttention) -> Array:
        heads = record.weights.shape[1]
        if head is not None and not 1 <= head <= heads:
            raise UserError(f"head {head}: this attention has heads 1 to {heads}")
        matrix = raw_attention(record.weights[:1], head=None if head is None else head - 1)
        return query_weights(call, record) @ matrix

    return by_layer(call, weights, layer)


def of_gradient_x_attention(call: ModelCall, *, layer: int | None = None) -> Float[Array, " n"]:
    """Return gradient times attention, summed over queries, of a layer or the mean of all."""

    def summed(record: LayerAttention) -> Array:
        products = jax.vmap(gradient_x_attention)(record.weights, call.gradients[record.name])
        return jnp.sum(products, axis=(0, 1))

    return by_layer(call, summed, layer)


def of_attention_norms(call: ModelCall, *, layer: int | None = None) -> Float[Array, " n"]:
    """Return the norms of what keys add to the attention's output, of a layer or the mean of all."""

    def norms(record: LayerAttention) -> Array:
        return query_weights(call, record) @ attention_norms(*pooled_values(record))

    return by_layer(call, norms, layer)


def of_block_norms(call: ModelCall, *, layer: int | None = None) -> Float[Array, " n"]:
    """Return the norms with residual connection and norm, of a layer or the mean of all."""
    norms = lambda record: query_weights(call, record) @ block_norms(attention_block(record, 0))  # noqa: E731
    return by_layer(call, norms, layer)


def of_attention_rollout(call: ModelCall) -> Float[Array, " n"]:
    """Return attention rollout."""
    layers = encoder_layers(call.layers)
    return last_rows(call, attention_rollout(_stacked(layers), valid=call.valid))


def of_alti(call: ModelCall) -> Float[Array, " n"]:
    """Return ALTI."""
    blocks = [attention_block(layer, 0) for layer in encoder_layers(call.layers)]
    return last_rows(call, alti(blocks, valid=call.valid))


def of_globenc(call: ModelCall) -> Float[Array, " n"]:
    """Return GlobEnc."""
    layers = [encoder_block(record) for record in encoder_layers(call.layers)]
    return last_rows(call, globenc(layers, valid=call.valid))


def encoder_block(record: LayerAttention) -> EncoderBlock:
    """Return the first example of a captured layer, with the norm behind the feed-forward network of post-norm."""
    block, network = attention_block(record, 0), record.feed_forward
    if network is None or network.position == "pre":
        return EncoderBlock(block)
    norm = NormParameters(network.scale, network.bias, network.epsilon, network.norm)
    return EncoderBlock(block, norm, network.total[0])


def of_attention_relevance(call: ModelCall) -> Float[Array, " n"]:
    """Return Chefer et al.'s relevance, without the 1 of each query to itself."""
    layers = encoder_layers(call.layers)
    gradients = jnp.stack([call.gradients[record.name][0] for record in layers])
    relevance = attention_relevance(_stacked(layers), gradients, valid=call.valid)
    identity = jnp.diag(call.valid.astype(relevance.dtype))
    return last_rows(call, relevance - identity)


def of_encoder_decoder_relevance(call: ModelCall) -> Float[Array, " n"]:
    """Return Chefer et al.'s relevance of the source through encoder and decoder."""

    def positive(record: LayerAttention) -> Array:
        return positive_gradient_x_attention(record.weights[0], call.gradients[record.name][0])

    encoder, decoder, cross = _stacks(call)
    matrices = [jnp.stack(list(map(positive, layers))) for layers in (decoder, cross)]
    source = matrices[1].shape[-1]
    first = jnp.stack(list(map(positive, encoder))) if encoder else jnp.zeros((0, source, source))
    relevance = encoder_decoder_relevance(first, *matrices).ab
    return jnp.where(call.valid, query_weights(call, cross[0]) @ relevance, 0)


def of_alti_plus(call: ModelCall) -> Float[Array, " n"]:
    """Return the source's part of ALTI+."""
    blocks = [[attention_block(layer, 0) for layer in layers] for layers in _stacks(call)]
    cross = _stacks(call)[2]
    target_valid = jnp.arange(cross[0].weights.shape[2]) < call.batch["target_lengths"][0]
    shares = alti_plus(*blocks, source_valid=call.valid, target_valid=target_valid).source
    return query_weights(call, cross[0]) @ shares


def flow_inputs(call: ModelCall) -> tuple[Float[Array, "l h n n"], Float[Array, " n"]]:
    """Return the weights of self-attention and the share of each query, for attention flow, which NumPy computes."""
    layers = encoder_layers(call.layers)
    return _stacked(layers), query_weights(call, layers[-1])


def _stacks(call: ModelCall) -> tuple[list[LayerAttention], list[LayerAttention], list[LayerAttention]]:
    decoder = [record for record in call.layers if record.kind == "self" and record.stack == "decoder"]
    return encoder_layers(call.layers), decoder, [record for record in call.layers if record.kind == "cross"]


def last_rows(call: ModelCall, matrix: Float[Array, "n n"]) -> Float[Array, " n"]:
    """Return the mean of the rows of the last encoder states that lead to the target."""
    return query_weights(call, encoder_layers(call.layers)[-1]) @ matrix


def _stacked(layers: Sequence[LayerAttention]) -> Float[Array, "l h q k"]:
    return jnp.stack([record.weights[0] for record in layers])

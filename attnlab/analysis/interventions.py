"""Interventions: weights that replace those of attention layers, as pure functions for `capture.apply_with_attention`.

    _, layers = apply_with_attention(model, variables, *inputs, train=False)
    output, _ = apply_with_attention(model, variables, *inputs, train=False, intervene=everywhere(uniform, layers))

Each takes the attention of one layer and says which of its queries are computed, and returns weights of the same shape.
Arrays are bound with `jax.tree_util.Partial`, so that a compiled function takes them as ordinary arguments:

    intervene = {"encoder/layer_1/self_attention": Partial(gated, gates=jnp.array([1.0, 0.0]))}
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.weights import permute, uniform_weights
from attnlab.functional.attention import pool
from attnlab.layers.capture import Intervention, Queries, Replacement
from attnlab.layers.layer_attention import LayerAttention, PoolingInputs


def everywhere(intervention: Intervention, layers: Iterable[LayerAttention]) -> dict[str, Intervention]:
    """Return the same intervention for all layers whose weights can be replaced.

    Args:
        intervention: a function of this file, or one like them.
        layers: what `capture.apply_with_attention` recorded. Layers that do not average values (pooling by maximum,
            first or last state) are left out.

    >>> from attnlab.layers.layer_attention import layer_attention
    >>> sorted(everywhere(uniform, [layer_attention("self", "encoder", n, None) for n in (1, 2)]))
    ['encoder/layer_1/self_attention', 'encoder/layer_2/self_attention']
    """
    return {layer.name: intervention for layer in layers if layer.replaceable}


def uniform(layer: LayerAttention, queries: Queries) -> Float[Array, "b h q k"]:
    """Return equal weights for all keys that a query may attend to.

    weights[i, j] = 1 / n_i,    n_i = the number of keys that query i may attend to

    Args:
        layer: the attention of the layer.
        queries: not used.
    Returns: weights whose rows sum to 1, or to 0 for a query that may attend to nothing.
    Reference: Wiegreffe & Pinter 2019, section 3.2, where uniform weights are also trained with.
    """
    return uniform_weights(allowed(layer)).astype(layer.weights.dtype)


def permuted(layer: LayerAttention, queries: Queries, *, rng: Array) -> Float[Array, "b h q k"]:
    """Return the weights of each query in a random order of the keys that it may attend to.

    Args:
        layer: the attention of the layer.
        queries: a decoder that computes one query at a time draws another order for each.
        rng: a key of `jax.random`; each layer, example, head and query draws its own order.
    Returns: weights with the same values in every row, and 0 for masked keys.
    Reference: Jain & Wallace 2019, section 4.2.1.
    """
    seed = sum(ord(letter) * 31**n for n, letter in enumerate(layer.name)) % 2**31
    rng = jax.random.fold_in(jax.random.fold_in(rng, seed), queries.start)
    return permute(rng, layer.weights, allowed(layer))


def given(layer: LayerAttention, queries: Queries, *, weights: Float[Array, "b h t k"]) -> Float[Array, "b h q k"]:
    """Return the given weights, such as those of another model.

    Args:
        layer: the attention of the layer.
        queries: their rows are taken.
        weights: of all queries. A decoder that goes token by token takes its rows in turn, one array for all steps.
    Raises: ValueError for weights that do not fit the layer, or have fewer rows than the call has queries.
    Numerics: a decoder that goes on after the last row gets NaN.
    Reference: Wiegreffe & Pinter 2019, section 3.4 (frozen weights).
    """
    return _rows("weights", weights, layer, queries).astype(layer.weights.dtype)


def shifted(layer: LayerAttention, queries: Queries, *, by: Float[Array, "b h t k"]) -> Float[Array, "b h q k"]:
    """Return the weights plus an array, whose gradient at 0 is the gradient with respect to the weights.

    Unlike a gradient with respect to `given` weights it includes the influence of a layer's weights on those of later
    layers.

    Args:
        layer: the attention of the layer.
        queries: their rows are taken.
        by: for all queries, see `given`.
    Raises: ValueError for an array that does not fit the layer, or has fewer rows than the call has queries.
    """
    return layer.weights + _rows("by", by, layer, queries)


def gated(layer: LayerAttention, queries: Queries, *, gates: Float[Array, " h"]) -> Float[Array, "b h q k"]:
    """Return the weights of each head multiplied by its gate ξ_h: 0 switches the head off, 1 leaves it unchanged.

    head_h = ξ_h Σ_j weights[h, i, j] value_j

    Args:
        layer: the attention of the layer.
        queries: not used.
        gates: ξ, one number a head.
    Raises: ValueError for another number of gates than heads.
    Numerics: with gates of exactly 1 the weights are unchanged, bit for bit; a NaN of a head that is off remains.
    Reference: Michel, Levy & Neubig 2019, section 2.3.
    """
    return layer.weights * _of_heads("gates", gates, layer)[None, :, None, None]


def masked(layer: LayerAttention, queries: Queries, *, removed: Bool[Array, " k"]) -> Float[Array, "b h q k"]:
    """Return weights without removed keys; each row keeps its sum, as if these keys had been masked.

    weights'[i, j] = 0 for a removed key,    weights[i, j] Σ_k weights[i, k] / Σ_{k not removed} weights[i, k] else

    For softmax this is the weights of the logits without these keys. Not `gated`, which removes heads.

    Args:
        layer: the attention of the layer.
        queries: not used.
        removed: True for removed keys.
    Returns: weights; 0 for a query all of whose keys are removed.
    Reference: Serrano & Smith 2019, who remove single weights and sets of weights like this.
    """
    kept = jnp.where(removed[None, None, None, :], 0.0, layer.weights)
    rest = kept.sum(axis=-1, keepdims=True)
    return kept * layer.weights.sum(axis=-1, keepdims=True) / jnp.where(rest == 0, 1.0, rest)


def value_zeroed(layer: LayerAttention, queries: Queries, *, zeroed: Bool[Array, " k"]) -> Float[Array, "b h q k"]:
    """Return weights that leave out keys without a change of the others: as if the values of these keys were 0.

    weights'[i, j] = 0 for a zeroed key,    weights[i, j] else

    Rows do not keep their sum, unlike those of `masked`.

    Args:
        layer: the attention of the layer.
        queries: not used.
        zeroed: True for keys whose values are zeroed in all heads.
    Reference: Mohebbi et al. 2023, section 3 (value zeroing).
    """
    return jnp.where(zeroed[None, None, None, :], 0.0, layer.weights)


def replaced_by_mean(
    layer: LayerAttention, queries: Queries, *, gates: Float[Array, " h"], mean: Float[Array, "h v"]
) -> Replacement:
    """Replace heads by their mean output: mean ablation, which keeps what a head adds to every token alike.

    head_h = ξ_h Σ_j weights[h, i, j] value_j + (1 − ξ_h) mean_h

    Weights cannot do this, as a mean over the queries of the same text would let a causal decoder see later tokens, and
    would count padding. The mean is one vector for a head, from a data set.

    Args:
        layer: the attention of the layer.
        queries: not used.
        gates: ξ, one number a head: 0 replaces the head, 1 leaves it unchanged.
        mean: `heads.mean_output` of `head_outputs` over the real tokens of a data set.
    Returns: the gated weights, and the outputs.
    Raises: ValueError for another number of gates than heads, or means of another shape.
    Reference: Michel, Levy & Neubig 2019, section 2.3, for the gates; Wang et al. 2023, "Interpretability in the wild",
        section 2.2, for the mean.
    """
    value = _pooled(layer).value
    if jnp.shape(mean) != (layer.weights.shape[1], value.shape[-1]):
        raise ValueError(
            f"mean of {layer.name}: [h v] must be {(layer.weights.shape[1], value.shape[-1])}, not {jnp.shape(mean)}"
        )
    weights = gated(layer, queries, gates=gates)
    off = (1.0 - _of_heads("gates", gates, layer))[:, None] * jnp.asarray(mean, value.dtype)
    return Replacement(weights, pool(weights, value) + off[None, None])


def head_outputs(layer: LayerAttention) -> Float[Array, "b q h v"]:
    """Return the output of each head, before the output projection, from a record with details.

    head_h = Σ_j weights_after_dropout[h, i, j] value_j
    """
    pooled = _pooled(layer)
    return pool(pooled.weights_after_dropout, pooled.value)


def allowed(layer: LayerAttention, query_lengths: Array | None = None) -> Bool[Array, "b h q k"]:
    """Return which query may attend to which key, from a record with details.

    Args:
        layer: the attention of the layer.
        query_lengths: [b], queries of each example that are not padding, which the attention itself does not know:
            later ones get rows of False; None leaves them.
    Returns: the mask, of the shape of the weights; `where` of the functions of `analysis.heads`.
    """
    where = jnp.broadcast_to(_pooled(layer).where, layer.weights.shape)
    if query_lengths is None:
        return where
    real = jnp.arange(where.shape[2])[None, :] < jnp.asarray(query_lengths)[:, None]
    return where & real[:, None, :, None]


def _pooled(layer: LayerAttention) -> PoolingInputs:
    if layer.pooled is None:
        raise ValueError(f"{layer.name} has no record of what it pools; record it with details=True")
    return layer.pooled


def _of_heads(name: str, array: Array, layer: LayerAttention) -> Float[Array, " h"]:
    heads = layer.weights.shape[1]
    if jnp.shape(array) != (heads,):
        raise ValueError(f"{name} of {layer.name}: one number for each of {heads} heads, not {jnp.shape(array)}")
    return jnp.asarray(array, layer.weights.dtype)


def _rows(name: str, array: Array, layer: LayerAttention, queries: Queries) -> Float[Array, "b h q k"]:
    """Return the rows of the queries; NaN after the last row."""
    array, (examples, heads, count, keys) = jnp.asarray(array), layer.weights.shape
    fits = array.ndim == 4 and array.shape[:2] + array.shape[3:] == (examples, heads, keys)
    if not fits or array.shape[2] < queries.total:
        expected = (examples, heads, queries.total, keys)
        raise ValueError(
            f"{name} of {layer.name}: [b h q k] must be {expected}, or have more rows for a decoder that goes on; "
            f"not {array.shape}"
        )
    return jnp.take(array, queries.start + jnp.arange(count), axis=2, mode="fill", fill_value=jnp.nan)

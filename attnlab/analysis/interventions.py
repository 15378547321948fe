"""Interventions: weights that replace those of attention layers, as pure functions for `capture.apply_with_attention`.

    output, layers = apply_with_attention(model, variables, *inputs, train=False, intervene=uniform)

Each takes a layer's attention and the index of its first query, and returns weights of the same shape. Arrays are bound
with `jax.tree_util.Partial`, so that a compiled function takes them as ordinary arguments.
"""

import functools
from collections.abc import Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.tree_util import Partial
from jaxtyping import Bool, Float

from attnlab.layers.capture import Intervention, LayerAttention


def uniform(layer: LayerAttention, start: Any) -> Float[Array, "b h q k"]:
    """Return equal weights for all keys that a query may attend to.

    weights[i, j] = 1 / n_i,    n_i = the number of keys that query i may attend to

    Args:
        layer: the attention of the layer.
        start: index of the first query; not used.
    Returns: weights whose rows sum to 1, or to 0 for a query that may attend to nothing.
    Reference: Wiegreffe & Pinter 2019, section 3.2, where uniform weights are also trained with.
    """
    where = _where(layer)
    return (where / jnp.maximum(where.sum(axis=-1, keepdims=True), 1)).astype(layer.weights.dtype)


def permuted(layer: LayerAttention, start: Any, *, rng: Array) -> Float[Array, "b h q k"]:
    """Return the weights of each query in a random order of the keys that it may attend to.

    Args:
        layer: the attention of the layer.
        start: index of the first query, so that a decoder draws another order for each query.
        rng: a key of `jax.random`; each layer, example, head and query draws its own order.
    Returns: weights with the same values in every row, and 0 for masked keys.
    Reference: Jain & Wallace 2019, section 4.2.1.
    """
    seed = sum(ord(letter) * 31**n for n, letter in enumerate(layer.name)) % 2**31
    rng = jax.random.fold_in(jax.random.fold_in(rng, seed), start)
    where = _where(layer)
    drawn = jnp.where(where, jax.random.uniform(rng, layer.weights.shape), 2.0)
    source = jnp.argsort(drawn, axis=-1)  # the allowed keys in a random order, then the others
    target = jnp.argsort(~where, axis=-1, stable=True)  # the allowed keys in their order, then the others
    shuffled = jnp.take_along_axis(layer.weights, source, axis=-1)
    return jnp.take_along_axis(shuffled, jnp.argsort(target, axis=-1), axis=-1)


def given(layer: LayerAttention, start: Any, *, weights: Mapping[str, Array]) -> Float[Array, "b h q k"]:
    """Return the given weights of a layer, such as those of another model, or its own if none are given.

    Args:
        layer: the attention of the layer.
        start: index of the first query.
        weights: [b h t k] by the layers' names (`LayerAttention.name`), for all queries.
    Raises: ValueError for weights that do not fit the layer.
    Reference: Wiegreffe & Pinter 2019, section 3.4 (frozen weights).
    """
    if layer.name not in weights:
        return layer.weights
    chosen, own = jnp.asarray(weights[layer.name]), layer.weights.shape
    if chosen.shape[:2] + chosen.shape[3:] != own[:2] + own[3:] or chosen.ndim != 4 or chosen.shape[2] < own[2]:
        raise ValueError(
            f"weights of {layer.name}: [b h q k] must fit the layer's {own}, with all its queries, not {chosen.shape}"
        )
    return _rows(chosen, start, own[2]).astype(layer.weights.dtype)


def shifted(layer: LayerAttention, start: Any, *, by: Mapping[str, Array]) -> Float[Array, "b h q k"]:
    """Return the weights plus an array, whose gradient at 0 is the gradient with respect to the weights.

    Unlike a gradient with respect to `given` weights it includes the influence of a layer's weights on those of later
    layers.

    Args:
        layer: the attention of the layer.
        start: index of the first query.
        by: [b h t k] by the layers' names; other layers are left unchanged.
    """
    if layer.name not in by:
        return layer.weights
    return layer.weights + _rows(by[layer.name], start, layer.weights.shape[2])


def gated(layer: LayerAttention, start: Any, *, gates: Mapping[str, Array]) -> Float[Array, "b h q k"]:
    """Return the weights of each head multiplied by its gate ξ_h: 0 switches the head off, 1 leaves it unchanged.

    head_h = ξ_h Σ_j weights[h, i, j] value_j

    Args:
        layer: the attention of the layer.
        start: index of the first query; not used.
        gates: [h] by the layers' names; other layers are left unchanged.
    Reference: Michel, Levy & Neubig 2019, section 2.3.
    """
    if layer.name not in gates:
        return layer.weights
    return layer.weights * jnp.asarray(gates[layer.name], layer.weights.dtype)[None, :, None, None]


def masked(layer: LayerAttention, start: Any, *, removed: Mapping[str, Bool[Array, " k"]]) -> Float[Array, "b h q k"]:
    """Return weights without removed keys; each row keeps its sum, as if these keys had been masked.

    weights'[i, j] = 0 for a removed key,    weights[i, j] Σ_k weights[i, k] / Σ_{k not removed} weights[i, k] else

    For softmax this is the weights of the logits without these keys. Not `gated`, which removes heads.

    Args:
        layer: the attention of the layer.
        start: index of the first query; not used.
        removed: True for removed keys, by the layers' names; other layers are left unchanged.
    Returns: weights; 0 for a query all of whose keys are removed.
    Reference: Serrano & Smith 2019, section 3.
    """
    if layer.name not in removed:
        return layer.weights
    kept = jnp.where(removed[layer.name][None, None, None, :], 0.0, layer.weights)
    rest = kept.sum(axis=-1, keepdims=True)
    return kept * layer.weights.sum(axis=-1, keepdims=True) / jnp.where(rest == 0, 1.0, rest)


def averaged(layer: LayerAttention, start: Any, *, heads: Mapping[str, Bool[Array, " h"]]) -> Float[Array, "b h q k"]:
    """Return weights with which the chosen heads have the same output for all queries: its mean over the queries.

    The output is linear in the weights, so that the mean of a head's outputs is the output of its mean weights.

    Args:
        layer: the attention of the layer.
        start: index of the first query; not used.
        heads: which heads to average, by the layers' names; other layers are left unchanged.
    Raises: ValueError for a recurrent decoder, which does not know its later queries.
    """
    if layer.name not in heads:
        return layer.weights
    if layer.kind == "decoder":
        raise ValueError(
            f"{layer.name} computes one query at a time, so that a mean over queries is unknown; use gated to switch "
            "its head off"
        )
    attends = _where(layer).any(axis=-1, keepdims=True)
    total = jnp.sum(jnp.where(attends, layer.weights, 0.0), axis=2, keepdims=True)
    mean = total / jnp.maximum(attends.sum(axis=2, keepdims=True), 1)
    chosen = jnp.asarray(heads[layer.name])[None, :, None, None] & attends
    return jnp.where(chosen, mean, layer.weights)


def only(intervention: Intervention, names: Collection[str]) -> Intervention:
    """Restrict an intervention to the layers with these names (`LayerAttention.name`).

    Returns: an intervention that leaves all other layers unchanged; a pytree, if the intervention is one.

    >>> only(uniform, ["decoder/layer_1/cross_attention"]).func.keywords["names"]
    ('decoder/layer_1/cross_attention',)
    """
    chosen = intervention if isinstance(intervention, Partial) else Partial(intervention)
    return Partial(functools.partial(_only, names=tuple(names)), chosen)


def _only(intervention: Intervention, layer: LayerAttention, start: Any, *, names: tuple[str, ...]) -> Array:
    return intervention(layer, start) if layer.name in names else layer.weights


def _where(layer: LayerAttention) -> Bool[Array, "b h q k"]:
    assert layer.pooled is not None
    return jnp.broadcast_to(layer.pooled.where, layer.weights.shape)


def _rows(weights: Array, start: Any, count: int) -> Array:
    return lax.dynamic_slice_in_dim(weights, start, count, axis=2)

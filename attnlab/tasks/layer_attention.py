"""The attention of every layer and head of a Transformer, of which a person asks to see one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import PyTree

from attnlab.config.errors import UserError
from attnlab.layers import capture
from attnlab.layers.capture import apply_with_attention

NAMES = {"cross": "cross-attention", "encoder": "encoder self-attention", "decoder": "decoder self-attention"}
"""Kinds of attention, as options of `attnlab show` and in words."""


@dataclass(frozen=True)
class Selection:
    """Which attention to show; None is what the task shows of itself (of heads, their mean).

    Attributes:
        attention: one of `NAMES`.
        layer: counted from 1.
        head: counted from 1.
    """

    attention: str | None = None
    layer: int | None = None
    head: int | None = None

    def __bool__(self) -> bool:
        return self != DEFAULT


DEFAULT = Selection()


@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The weights of all heads of one layer for one example."""

    kind: str
    """One of `NAMES`."""
    layer: int
    """Counted from 1."""
    weights: np.ndarray
    """[h t s], padding included."""


class Selected(NamedTuple):
    """What was selected."""

    kind: str
    title: str
    weights: np.ndarray
    """[t s], padding included."""


def layers_of(model: nn.Module, params: PyTree, *inputs: Any) -> list[LayerAttention]:
    """Run a model on a batch, and return the attention of all its Transformer layers to the batch's first row."""

    def attention(params: PyTree, *inputs: Any) -> list[capture.LayerAttention]:
        return apply_with_attention(model, {"params": params}, *inputs, train=False)[1]

    found = jax.device_get(jax.jit(attention)(params, *inputs))
    layers = [
        LayerAttention("cross" if layer.kind == "cross" else layer.stack, layer.layer, np.asarray(layer.weights)[0])
        for layer in found
        if layer.kind in ("self", "cross")
    ]
    return sorted(layers, key=lambda one: (list(NAMES).index(one.kind), one.layer))


def title(kind: str, layer: int, layers: int, heads: int, head: int | None = None) -> str:
    """Say in words which attention is shown.

    >>> title("cross", 2, 6, 8)
    'cross-attention, layer 2 of 6, mean of its 8 heads'
    """
    one, mean = f"head {head} of {heads}", "its only head" if heads == 1 else f"mean of its {heads} heads"
    return f"{NAMES[kind]}, layer {layer} of {layers}, {mean if head is None else one}"


def select(found: Sequence[LayerAttention], wanted: Selection, kind: str, layer: int | None = None) -> Selected:
    """Select one matrix.

    Args:
        found: all layers of a model.
        wanted: by whom the example is shown.
        kind: what is shown where no kind is wanted.
        layer: which layer of this kind is shown where none is wanted; None is the last.

    Raises: `UserError` naming the option whose value the model does not have, and those that it has.
    """
    kinds = list(dict.fromkeys(one.kind for one in found))
    chosen = wanted.attention or kind
    if chosen not in kinds:
        there = ", ".join(f"{one} ({NAMES[one]})" for one in kinds)
        raise UserError(f"--attention {chosen}: this model has {there}")
    layers = {one.layer: one.weights for one in found if one.kind == chosen}
    default = layer if layer is not None and chosen == kind else max(layers)
    number = default if wanted.layer is None else wanted.layer
    if number not in layers:
        raise UserError(f"--layer {number}: the {NAMES[chosen]} of this model has layers 1 to {max(layers)}")
    weights = layers[number]
    heads = len(weights)
    if wanted.head is not None and not 1 <= wanted.head <= heads:
        raise UserError(f"--head {wanted.head}: layer {number} of the {NAMES[chosen]} has heads 1 to {heads}")
    matrix = np.mean(weights, axis=0) if wanted.head is None else weights[wanted.head - 1]
    return Selected(chosen, title(chosen, number, max(layers), heads, wanted.head), matrix)

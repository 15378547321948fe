"""Selecting the attention of one layer and head among all that a model records."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch
from attnlab.layers.capture import LayerAttention as Record
from attnlab.tasks.adapter import ModelAdapter

NAMES = {
    "cross": "cross-attention", "encoder": "encoder self-attention", "decoder": "decoder self-attention",
    "pooling": "pooling attention", "hop": "attention of the hops",
    "context_to_query": "context-to-query attention", "query_to_context": "query-to-context attention",
    "question_to_image": "question-to-image attention", "image_to_question": "image-to-question attention",
}  # fmt: skip
"""Kinds of attention, as options of `attnlab show` and in words."""


@dataclass(frozen=True)
class Selection:
    """Which attention to show; None is what the task shows by default (of heads, their mean).

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
    """The weights of all heads of one layer for one example.

    Attributes:
        kind: one of `NAMES`.
        layer: counted from 1.
        weights: [h q k], padding included.
    """

    kind: str
    layer: int
    weights: np.ndarray


class Selected(NamedTuple):
    """The attention that was selected; weights [q k], padding included."""

    kind: str
    title: str
    weights: np.ndarray


def layers_of(adapter: ModelAdapter, params: PyTree, batch: Batch) -> list[LayerAttention]:
    """Return the attention of all layers to the first row of a batch."""
    records = jax.jit(lambda params, batch: adapter.forward(params, batch).attention)(params, batch)
    layers = [
        LayerAttention(_option(record), record.layer or 1, np.asarray(record.weights)[0])
        for record in jax.device_get(records)
    ]
    return sorted(layers, key=lambda layer: (list(NAMES).index(layer.kind), layer.layer))


def _option(record: Record) -> str:
    """Return the option of `attnlab show` for a record: a recurrent decoder's attention is cross-attention."""
    if record.kind == "self":
        return record.stack
    return "cross" if record.kind == "decoder" else record.kind


def title(kind: str, layer: int, layers: int, heads: int, head: int | None = None) -> str:
    """Return which attention is shown, in words.

    >>> title("cross", 2, 6, 8)
    'cross-attention, layer 2 of 6, mean of its 8 heads'
    """
    mean = "its only head" if heads == 1 else f"mean of its {heads} heads"
    return f"{NAMES[kind]}, layer {layer} of {layers}, {mean if head is None else f'head {head} of {heads}'}"


def select(layers: Sequence[LayerAttention], wanted: Selection, kind: str, layer: int | None = None) -> Selected:
    """Select one matrix.

    Args:
        layers: all layers of a model.
        wanted: the options of `attnlab show`.
        kind: the kind to show if none is wanted; if the model lacks it, its first.
        layer: the layer of this kind to show if none is wanted; None is the last.

    Raises: `UserError` with the option whose value the model does not have, and the values that it has.
    """
    if not layers:
        raise UserError("--attention, --layer and --head: this model has no attention")
    kinds = list(dict.fromkeys(attention.kind for attention in layers))
    default_kind = kind if kind in kinds else kinds[0]
    chosen = wanted.attention or default_kind
    if chosen not in kinds:
        valid = ", ".join(f"{name} ({NAMES[name]})" for name in kinds)
        raise UserError(f"--attention {chosen}: this model has {valid}")
    numbered = {attention.layer: attention.weights for attention in layers if attention.kind == chosen}
    default = layer if layer is not None and chosen == kind else max(numbered)
    number = default if wanted.layer is None else wanted.layer
    if number not in numbered:
        raise UserError(f"--layer {number}: the {NAMES[chosen]} of this model has layers 1 to {max(numbered)}")
    weights = numbered[number]
    heads = len(weights)
    if wanted.head is not None and not 1 <= wanted.head <= heads:
        raise UserError(f"--head {wanted.head}: layer {number} of the {NAMES[chosen]} has heads 1 to {heads}")
    matrix = np.mean(weights, axis=0) if wanted.head is None else weights[wanted.head - 1]
    return Selected(chosen, title(chosen, number, max(numbered), heads, wanted.head), matrix)

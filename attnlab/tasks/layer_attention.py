"""Selection of the attention of one layer and head from the records of a model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree

from attnlab.config.errors import UserError
from attnlab.data.text.batching import Batch
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.attention_map import AttentionMap, RowGroup

NAMES = {
    "cross": "cross-attention", "encoder": "encoder self-attention", "decoder": "decoder self-attention",
    "pooling": "pooling attention", "hop": "attention of the hops",
    "context_to_query": "context-to-query attention", "query_to_context": "query-to-context attention",
    "question_to_image": "question-to-image attention", "image_to_question": "image-to-question attention",
}  # fmt: skip
"""Value of `attnlab show --attention` -> the name of this kind of attention."""


@dataclass(frozen=True)
class Selection:
    """Which attention to show; None is the default of the task, and for heads their mean.

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


class SelectedAttention(NamedTuple):
    """The weights [q k] of the selected head, or the mean of all heads; padding included."""

    kind: str
    title: str
    weights: np.ndarray


def layers_of_first_example(adapter: ModelAdapter, params: PyTree, batch: Batch) -> list[LayerAttention]:
    """Return the records of all layers for the first example of a batch, weights [h q k] with padding."""
    records = jax.jit(lambda params, batch: adapter.forward(params, batch).attention)(params, batch)
    layers = [replace(record, weights=np.asarray(record.weights)[0]) for record in jax.device_get(records)]
    return sorted(layers, key=lambda layer: (list(NAMES).index(option(layer)), layer.layer or 1))


def option(layer: LayerAttention) -> str:
    """Return the value of `attnlab show --attention` for a record; that of a recurrent decoder is cross-attention."""
    if layer.kind == "self":
        return layer.stack
    return "cross" if layer.kind == "decoder" else layer.kind


def title(kind: str, layer: int, layers: int, heads: int, head: int | None = None) -> str:
    """Return the title of an attention map: kind, layer and head.

    >>> title("cross", 2, 6, 8)
    'cross-attention, layer 2 of 6, mean of its 8 heads'
    """
    mean = "its only head" if heads == 1 else f"mean of its {heads} heads"
    return f"{NAMES[kind]}, layer {layer} of {layers}, {mean if head is None else f'head {head} of {heads}'}"


def select(
    layers: Sequence[LayerAttention], selection: Selection, kind: str, layer: int | None = None
) -> SelectedAttention:
    """Return the weights of one head of one layer, or the mean of its heads.

    Args:
        layers: the records of all layers of a model, weights [h q k].
        selection: the options of `attnlab show`.
        kind: the kind that is selected by default; the model's first kind if it lacks this one.
        layer: the layer of this kind that is selected by default; None is the last.

    Raises:
        UserError: the model lacks the selected kind, layer or head; names the option, its value and the valid values.
    """
    if not layers:
        raise UserError("--attention, --layer and --head: this model has no attention")
    kinds = list(dict.fromkeys(map(option, layers)))
    selected = selection.attention or (kind if kind in kinds else kinds[0])
    if selected not in kinds:
        valid = ", ".join(f"{name} ({NAMES[name]})" for name in kinds)
        raise UserError(f"--attention {selected}: this model has {valid}")
    numbered = {record.layer or 1: record.weights for record in layers if option(record) == selected}
    default = layer if layer is not None and selected == kind else max(numbered)
    number = default if selection.layer is None else selection.layer
    if number not in numbered:
        raise UserError(f"--layer {number}: the {NAMES[selected]} of this model has layers 1 to {max(numbered)}")
    weights, head = numbered[number], selection.head
    heads = len(weights)
    if head is not None and not 1 <= head <= heads:
        raise UserError(f"--head {head}: layer {number} of the {NAMES[selected]} has heads 1 to {heads}")
    matrix = np.mean(weights, axis=0) if head is None else np.asarray(weights[head - 1])
    return SelectedAttention(selected, title(selected, number, max(numbered), heads, head), matrix)


def self_attention_map(
    best: AttentionMap, tokens: list[str], selected: SelectedAttention, evidence: tuple[int, ...] = ()
) -> AttentionMap:
    """Return the attention map of a selected layer and head of a self-attention over the input.

    Args:
        best: the attention map of the best prediction.
        tokens: a label for each position, padding not counted.
        selected: the weights.
        evidence: indices of tokens that the data mark as evidence.
    """
    count = len(tokens)
    return replace(
        best,
        column_labels=tokens,
        row_labels=tokens,
        weights=selected.weights[:count, :count],
        column_label="attended to",
        row_label="attending",
        column_format="tokens",
        row_groups=(RowGroup(count, selected.title, "attending", from_input=True),),
        evidence=evidence,
    )

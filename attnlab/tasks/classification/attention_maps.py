"""Attention maps of a classified text: the hops of the pooling, or the heads of a Transformer."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from attnlab.config.models.classifier import TransformerClassifier
from attnlab.data.classification.records import LabeledText
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.attention_map import AttentionMap, RowGroup
from attnlab.tasks.input_parts import CLS, SEP
from attnlab.tasks.layer_attention import SelectedAttention, self_attention_map

ATTENTION_POOLINGS = ("attention", "structured")
"""Kinds of pooling with learned attention weights."""


class ClassifiedText(NamedTuple):
    """The prediction of a text and the attention behind it."""

    probabilities: np.ndarray
    """[c] of each class."""
    weights: np.ndarray
    """[r s] over the tokens, special tokens included."""
    row_labels: list[str]
    """Label of each row of the weights."""


def special_tokens(model: Any) -> tuple[int, int]:
    """Return the number of special tokens before and after a text in the input of a model (its config)."""
    if isinstance(model, TransformerClassifier):
        return model.special_tokens_before, model.special_tokens_after
    return 0, 0


def attention_rows(layers: Sequence[LayerAttention], model: Any, lengths: Int[Array, " b"]) -> Float[Array, "b r s"]:
    """Return the attention behind the predictions, from the records of all layers.

    A row is a hop of the pooling. If a Transformer pools without attention, it is a head of a layer: the attention of
    [CLS] if the class is predicted from it, else the mean over all tokens, special tokens included.

    Args:
        layers: the records of all layers.
        model: the config of the model.
        lengths: tokens of each text, special tokens not counted.
    """
    heads = [layer.weights for layer in layers if layer.kind == "self"]
    if not heads or model.pooling.kind in ATTENTION_POOLINGS:
        return next(layer.weights[:, 0] for layer in layers if layer.kind == "pooling")
    if model.pooling.kind == "first":
        return jnp.concatenate([weights[:, :, 0] for weights in heads], axis=1)
    queries = lengths + sum(special_tokens(model))
    real = (jnp.arange(heads[0].shape[2])[None, :] < queries[:, None]).astype(jnp.float32)
    mean = real / jnp.maximum(queries, 1)[:, None]
    return jnp.concatenate([jnp.einsum("bhts,bt->bhs", weights, mean) for weights in heads], axis=1)


def attention_to_text(classified: Sequence[ClassifiedText], model: Any) -> list[np.ndarray]:
    """Return the attention of each text to its own tokens, [r s] without the special ones."""
    before, after = special_tokens(model)
    return [text.weights[:, before : text.weights.shape[1] - after] for text in classified]


def row_labels(model: Any, rows: int) -> list[str]:
    """Return a label for each row of `attention_rows`."""
    heads = model.encoder.heads if isinstance(model, TransformerClassifier) else 0
    if not heads or model.pooling.kind in ATTENTION_POOLINGS:
        return [f"hop-{number}" for number in range(1, rows + 1)]
    return [f"layer-{row // heads + 1}/head-{row % heads + 1}" for row in range(rows)]


def class_map(
    example: LabeledText,
    tokens: list[str],
    classified: ClassifiedText,
    labels: Sequence[str],
    model: Any,
    rationale: np.ndarray | None = None,
    unknown_words: tuple[str, ...] = (),
) -> AttentionMap:
    """Return the attention map of the most probable class.

    Args:
        example: the text.
        tokens: its tokens, after truncation.
        classified: its prediction and attention.
        labels: names of the classes.
        model: the config of the model.
        rationale: [s] whether each token belongs to the rationale; None without one.
        unknown_words: words of the text that the vocabulary lacks.
    """
    before, after = special_tokens(model)
    probabilities, weights, names = classified
    best = int(probabilities.argmax())
    title, single = "", len(weights) == 1
    if not names[0].startswith("hop"):
        queries = CLS if model.pooling.kind == "first" else "all tokens, their mean,"
        title = f"Attention of {queries} in each layer and head"
    marked = () if rationale is None else np.flatnonzero(rationale[: len(tokens)])
    return AttentionMap(
        column_labels=[CLS] * before + tokens + [SEP] * after,
        row_labels=[labels[best]] if single else names,
        weights=weights,
        prediction=f"{labels[best]} ({probabilities[best]:.3f})",
        score=float(probabilities[best]),
        reference=example.label,
        input=example.text,
        column_label="text",
        row_label="class" if single else "hop or head",
        column_format="text",
        row_groups=(RowGroup(len(weights), title, "hop or head"),) if title else (),
        evidence=tuple(int(token) + before for token in marked),
        unknown_words=unknown_words,
    )


def selected_map(best: AttentionMap, selected: SelectedAttention) -> AttentionMap:
    """Return the attention map of a selected layer and head: of the pooling, or of each token to each token."""
    tokens = best.column_labels
    if selected.kind == "pooling":
        hops = [f"hop-{number}" for number in range(1, len(selected.weights) + 1)]
        return replace(
            best,
            row_labels=hops,
            weights=selected.weights[:, : len(tokens)],
            row_label="hop",
            row_groups=(RowGroup(len(hops), selected.title, "hop"),),
        )
    return self_attention_map(best, tokens, selected, best.evidence)

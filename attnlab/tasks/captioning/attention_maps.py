"""Attention maps of a caption: of each word to the image, or to the previous words."""

from dataclasses import replace
from typing import Any

import numpy as np

from attnlab.config.models.captioner import TransformerCaptioner
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.text.tokenizer import Tokenizer
from attnlab.tasks.attention_map import AttentionMap, ImageAttentionMap, RowGroup
from attnlab.tasks.hypotheses import END, START, Hypothesis
from attnlab.tasks.layer_attention import SelectedAttention, title


def hypothesis_map(
    example: CaptionedImage, hypothesis: Hypothesis, image: np.ndarray, tokenizer: Tokenizer, model: Any
) -> ImageAttentionMap:
    """Return the attention of each word of a caption to the image.

    Args:
        example: the image with its captions.
        hypothesis: a caption with its attention over a square grid of cells.
        image: [height width 3] pixels.
        tokenizer: the tokenizer of the captions.
        model: the config of the model.
    """
    layer = ""
    if isinstance(model, TransformerCaptioner):
        layer = title("cross", model.decoder.reported_layer + 1, model.decoder.layers, model.decoder.heads)
    side = round(hypothesis.weights.shape[1] ** 0.5)
    return ImageAttentionMap(
        image=image,
        row_labels=[tokenizer.token(token) for token in hypothesis.tokens],
        weights=hypothesis.weights[:-1].reshape(-1, side, side),
        prediction=hypothesis.text,
        score=hypothesis.score,
        reference="".join(example.captions[:1]),
        title=layer,
    )


def selected_image_map(best: ImageAttentionMap, selected: SelectedAttention) -> ImageAttentionMap:
    """Return the attention of a selected layer and head to the image while the model decodes the best caption."""
    words, rows, columns = best.weights.shape
    weights = selected.weights[:words, : rows * columns].reshape(words, rows, columns)
    return replace(best, weights=weights, title=selected.title)


def selected_word_map(best: ImageAttentionMap, selected: SelectedAttention, name: str) -> AttentionMap:
    """Return the decoder self-attention of a selected layer and head while the model decodes the best caption.

    Args:
        best: the attention map of the caption.
        selected: the weights.
        name: name of the image.
    """
    words = best.row_labels
    rows = [*words, END]
    return AttentionMap(
        column_labels=[START, *words],
        row_labels=rows,
        weights=selected.weights[: len(rows), : len(rows)],
        prediction=best.prediction,
        score=best.score,
        reference=best.reference,
        input=name,
        column_label="previous tokens",
        row_label="next token",
        row_groups=(RowGroup(len(rows), selected.title, "next token"),),
    )

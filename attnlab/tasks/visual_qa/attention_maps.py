"""Attention maps of an answer to a question about an image."""

from dataclasses import replace
from typing import Any

import numpy as np

from attnlab.config.models.visual_qa import CrossAttention, GatedCrossAttention
from attnlab.data.visual_qa.records import ImageQuestion
from attnlab.tasks.attention_map import AnyAttentionMap, AttentionMap, ImageAttentionMap, RowGroup
from attnlab.tasks.layer_attention import SelectedAttention, title


def answer_map(
    example: ImageQuestion,
    answer: str,
    probability: float,
    weights: np.ndarray,
    image: np.ndarray,
    words: list[str],
    fusion: Any,
    unknown_words: tuple[str, ...] = (),
) -> ImageAttentionMap:
    """Return the attention of each word of the question to the image.

    Args:
        example: the question about an image.
        answer: the predicted answer.
        probability: of the answer.
        weights: [words cells] over a square grid of cells; further rows are ignored.
        image: [height width 3] pixels.
        words: the words of the question.
        fusion: the config of the model's fusion.
        unknown_words: words of the question that the vocabulary lacks.
    """
    layer = ""
    if isinstance(fusion, CrossAttention | GatedCrossAttention):
        layer = title("cross", fusion.layers, fusion.layers, fusion.heads)
    side = round(weights.shape[1] ** 0.5)
    return ImageAttentionMap(
        image=image,
        row_labels=words,
        weights=weights[: len(words)].reshape(-1, side, side),
        prediction=answer,
        score=probability,
        reference=example.answer,
        question=example.question,
        title=layer,
        unknown_words=unknown_words,
    )


def selected_map(best: ImageAttentionMap, selected: SelectedAttention, tokens: int) -> AnyAttentionMap:
    """Return the attention map of a selected layer and head: of words to the image, or of the image to words.

    Args:
        best: the attention map of the answer.
        selected: the weights.
        tokens: number of tokens of the question.
    """
    words = best.row_labels
    if selected.kind == "image_to_question":
        return AttentionMap(
            row_labels=["image as a whole"],
            column_labels=words,
            weights=selected.weights[:, : len(words)],
            prediction=best.prediction,
            score=best.score,
            reference=best.reference,
            input=best.question,
            question=best.question,
            row_label="image",
            column_label="question",
            row_groups=(RowGroup(1, selected.title, "image"),),
            unknown_words=best.unknown_words,
        )
    _, rows, columns = best.weights.shape
    weights = selected.weights[:tokens, : rows * columns].reshape(-1, rows, columns)
    labels = words if selected.kind == "cross" else ["question as a whole"]
    return replace(best, row_labels=labels, weights=weights, title=selected.title)

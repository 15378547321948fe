"""The attention behind a prediction, with a label for every row and column: one record for all tasks."""

from dataclasses import dataclass
from typing import Literal

import numpy as np


@dataclass(frozen=True)
class RowGroup:
    """Consecutive rows of an attention map that share a title and a color scale.

    Attributes:
        rows: number of rows.
        title: description of their weights.
        label: name of the rows, in a word.
        value_label: name of the values; rows may also hold probabilities.
        from_input: whether the rows are tokens of the input rather than of the prediction.
    """

    rows: int
    title: str = ""
    label: str = ""
    value_label: str = "attention weight"
    from_input: bool = False


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """Attention weights of a prediction as a matrix with labels.

    Attributes:
        row_labels: a label for each row, which attends.
        column_labels: a label for each column, which is attended to.
        weights: [rows columns].
        prediction: in words.
        score: of the prediction, as the model ranks it; higher is better.
        reference: the correct prediction; empty if it is not known.
        input: the whole input as text.
        question: the question that the prediction answers; empty for a task without questions.
        row_label: name of the rows.
        column_label: name of the columns.
        column_format: whether the columns are tokens, whole sentences, or the tokens of a continuous text.
        row_groups: groups of rows, each with a title and a scale; empty if all rows are one group.
        evidence: indices of columns that the data mark as evidence for the reference (a rationale, supporting facts).
        unknown_words: words of the input that the vocabulary of the model lacks.
    """

    row_labels: list[str]
    column_labels: list[str]
    weights: np.ndarray
    prediction: str
    score: float
    reference: str = ""
    input: str = ""
    question: str = ""
    row_label: str = "query"
    column_label: str = "key"
    column_format: Literal["tokens", "sentences", "text"] = "tokens"
    row_groups: tuple[RowGroup, ...] = ()
    evidence: tuple[int, ...] = ()
    unknown_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        expected = (len(self.row_labels), len(self.column_labels))
        if self.weights.shape != expected:
            raise ValueError(f"weights have the shape {self.weights.shape}; the labels need {expected}")
        if self.row_groups and sum(group.rows for group in self.row_groups) != expected[0]:
            raise ValueError(f"the groups {self.row_groups} do not add up to {expected[0]} rows")
        if any(not 0 <= column < expected[1] for column in self.evidence):
            raise ValueError(f"evidence {self.evidence} is not among {expected[1]} columns")
        _check_finite(self.weights)


@dataclass(frozen=True, eq=False)
class ImageAttentionMap:
    """Attention weights of a prediction over the cells of an image.

    Attributes:
        image: [height width 3], uint8.
        row_labels: a label for each grid of weights.
        weights: [row_labels rows columns] on the grid of the image's features.
        prediction: in words.
        score: of the prediction, as the model ranks it; higher is better.
        reference: the correct prediction; empty if it is not known.
        question: the question that the prediction answers; empty for a task without questions.
        title: description of the weights, if the model has several attention layers or heads.
        unknown_words: words of the input that the vocabulary of the model lacks.
    """

    image: np.ndarray
    row_labels: list[str]
    weights: np.ndarray
    prediction: str
    score: float
    reference: str = ""
    question: str = ""
    title: str = ""
    unknown_words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or len(self.weights) != len(self.row_labels):
            raise ValueError(f"{len(self.row_labels)} rows need weights [r rows columns], not {self.weights.shape}")
        _check_finite(self.weights)


AnyAttentionMap = AttentionMap | ImageAttentionMap


def _check_finite(weights: np.ndarray) -> None:
    if not np.isfinite(weights).all():
        raise ValueError("weights must be finite")

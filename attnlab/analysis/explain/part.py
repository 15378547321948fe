"""The attributions of a part of the input."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from attnlab.tasks.input_parts import Label


@dataclass(frozen=True, eq=False)
class PartAttributions:
    """The attributions of a part of the input, without padding.

    Attributes:
        name: name of the part, such as "text", "passage" or "image".
        unit: what the labels are.
        labels: words as the user wrote them, sentences, names of special tokens, or row and column of cells.
        attributions: [n] a number for each label.
        special: [n] whether it is a special token.
    """

    name: str
    unit: Literal["token", "word", "sentence", "cell"]
    labels: tuple[Label, ...]
    attributions: np.ndarray
    special: np.ndarray

    def grid(self) -> np.ndarray:
        """Return the attributions of an image as [rows columns]."""
        if self.unit != "cell":
            raise ValueError(f"{self.name}: a {self.unit} has no place in an image; only cells form a grid")
        rows, columns = (max(place) + 1 for place in zip(*self.labels, strict=True))  # pyright: ignore
        return self.attributions.reshape(rows, columns)

"""What there is to look at in an answer: where the model attended, with names for the rows and columns."""

from dataclasses import dataclass

import numpy as np

FAINT = 0.25
"""Where no weight reaches this, colours are scaled to the largest one: a long text has small weights everywhere."""


@dataclass(frozen=True, eq=False)
class Attended:
    """An answer and where the model looked for each of its parts: what `plots` and `report` show."""

    source_tokens: list[str]
    target_tokens: list[str]
    weights: np.ndarray
    """[t s]; row i tells where the model looked for part i (when it wrote target token i)."""
    translation: str
    """The answer in words."""
    score: float
    """Of the answer, as the model ranks it; higher is better."""
    source: str = ""
    """What was asked, as it was given."""
    across: str = "source"
    """What the columns are."""
    down: str = "target"
    """What the rows are."""

    def __post_init__(self) -> None:
        expected = (len(self.target_tokens), len(self.source_tokens))
        if self.weights.shape != expected:
            raise ValueError(f"weights have the shape {self.weights.shape}, the tokens need [t s] = {expected}")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")

    @property
    def top(self) -> float:
        """The weight that is shown in the strongest colour."""
        largest = float(self.weights.max(initial=0.0))
        return largest if 0.0 < largest < FAINT else 1.0


@dataclass(frozen=True, eq=False)
class Regarded:
    """An answer about an image, and where on it the model looked for each word."""

    image: np.ndarray
    """[height width 3], uint8."""
    words: list[str]
    weights: np.ndarray
    """[word rows columns] on the grid of the image's features."""
    answer: str
    score: float

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or len(self.weights) != len(self.words):
            raise ValueError(f"{len(self.words)} words need weights [word rows columns], not {self.weights.shape}")
        if not (np.isfinite(self.weights).all() and (self.weights >= 0).all()):
            raise ValueError("weights must be finite and not negative")


View = Attended | Regarded

"""What there is to look at in an answer: where the model attended, with names for the rows and columns."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

FAINT = 0.5
"""Where no weight reaches this, colors are scaled to the largest one: a long text has small weights everywhere."""
DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Marks of Unicode that turn the direction of the text after them, or end that."""
PALE = 32
"""Where weights spread evenly would have less than one in so many of the strongest color, colors follow the root."""


class Part(NamedTuple):
    """Rows of a view that belong together and are drawn by themselves."""

    rows: int
    title: str
    """What they tell."""
    down: str = ""
    """What the rows are, in a word."""
    unit: str = "attention weight"
    """What the weights are."""
    given: bool = False
    """Whether the rows are words that were given, as the columns are, rather than written by the model."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Weights that are drawn on one scale."""

    part: Part
    tokens: list[str]
    """Names of the rows."""
    weights: np.ndarray
    """[t s]"""
    top: float
    """The weight, and if any is negative its opposite too, that is shown in the strongest color."""

    @property
    def signed(self) -> bool:
        """Whether any weight is negative, as some normalizers make them."""
        return bool((self.weights < 0).any())

    @property
    def adds_up(self) -> str:
        """What adds up to 1: every "row", every "column", or "" where neither does."""
        sums = {"row": self.weights.sum(axis=1), "column": self.weights.sum(axis=0)}
        return next((name for name, found in sums.items() if found.size and np.allclose(found, 1.0, atol=0.005)), "")

    @property
    def title(self) -> str:
        """What the weights tell and what adds up to 1; "" for rows that need no title."""
        return self.part.title and self.part.title + (f": every {self.adds_up} adds up to 1" if self.adds_up else "")

    @property
    def rooted(self) -> bool:
        """Whether colors follow the square root of the weights, so that small ones are seen beside a large one."""
        among = self.weights.shape[0 if self.adds_up == "column" else 1]
        return among * self.top > PALE


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
    heading: str = ""
    """What stands above a picture, in lines: what was asked and answered."""
    gold: str = ""
    """The answer that is right, where it is known."""
    parts: tuple[Part, ...] = ()
    """The rows in groups of different meaning; none: they are all alike."""
    sentences: bool = False
    """Whether the columns are sentences: a picture writes them as lines, one below the other."""
    unknown: tuple[str, ...] = ()
    """Words of what was asked that the model's vocabulary lacks."""

    def __post_init__(self) -> None:
        expected = (len(self.target_tokens), len(self.source_tokens))
        if self.weights.shape != expected:
            raise ValueError(f"weights have the shape {self.weights.shape}, the tokens need [t s] = {expected}")
        if self.parts and sum(part.rows for part in self.parts) != expected[0]:
            raise ValueError(f"the parts {self.parts} do not make {expected[0]} rows")
        _must_be_finite(self.weights)

    @property
    def panels(self) -> list[Panel]:
        """The rows, in groups that have a scale each."""
        found, start = [], 0
        for part in self.parts or (Part(len(self.target_tokens), "", self.down),):
            rows = slice(start, start + part.rows)
            found.append(Panel(part, self.target_tokens[rows], self.weights[rows], strongest(self.weights[rows])))
            start += part.rows
        return found


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
    heading: str = ""
    """What stands above the picture, in lines; nothing: the answer."""
    title: str = ""
    """Which of the model's attentions it is, where there are several."""
    unknown: tuple[str, ...] = ()
    """Words of the question that the model's vocabulary lacks."""

    def __post_init__(self) -> None:
        if self.weights.ndim != 3 or len(self.weights) != len(self.words):
            raise ValueError(f"{len(self.words)} words need weights [word rows columns], not {self.weights.shape}")
        _must_be_finite(self.weights)


View = Attended | Regarded


def heading(question: str, answer: str, gold: str | Sequence[str] = "") -> str:
    """Write what was asked and answered above a picture.

    Args:
        question: "" where none was asked.
        answer: the model's.
        gold: the answer that is right, or several that are; nothing where it is not known.

    >>> heading("Where is Boris?", "attic", "garage")
    'Q: Where is Boris?\\nA: attic    (gold: garage)'
    """
    known = [gold] if isinstance(gold, str) else list(dict.fromkeys(gold))
    told = f"    (gold: {' / '.join(known)})" if any(known) else ""
    return f"Q: {question}\nA: {answer}{told}" if question else f"{answer}{told}"


def holds(text: str, words: Collection[str]) -> bool:
    """Tell whether a token is one of some words, or a sentence has one of them.

    >>> holds("Amira went to the garden.", {"garden"}), holds("gardens", {"garden"})
    (True, False)
    """
    return text in words or any(word in words for word in re.findall(r"\w+", text))


def unknown_words(words: Sequence[str], most: int = 10) -> str:
    """Say which words a model does not know; "" for none.

    >>> unknown_words(["garden", "orchard"])
    'not in the vocabulary, read as unknown: garden, orchard'
    """
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"not in the vocabulary, read as unknown: {', '.join(words[:most])}{more}" if words else ""


def printable(text: str, keep: str = "") -> str:
    r"""Replace by a visible sign what cannot be shown or changes how other text is shown: control characters, lone
    surrogates, and the marks that turn the direction of writing.

    >>> printable("a\x00b\u202ec\n", keep="\n")
    'a�b�c\n'
    """
    return "".join("�" if _hidden(one) and one not in keep else one for one in text)


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS


def strongest(weights: np.ndarray) -> float:
    """The size of a weight that is shown in the strongest color: 1, so that pictures can be compared, or the largest
    one where all are below `FAINT` or one is above 1."""
    largest = float(np.abs(weights).max(initial=0.0))
    return largest if 0.0 < largest < FAINT or largest > 1.005 else 1.0


def _must_be_finite(weights: np.ndarray) -> None:
    if not np.isfinite(weights).all():
        raise ValueError("weights must be finite")

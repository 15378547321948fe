"""The positions of a model's embedded input, with a label for each: tokens of texts, sentences, cells of an image."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from attnlab.data.records import Span

Label = str | tuple[int, int]
"""A word as the user wrote it, a sentence, the name of a special token; or row and column of a cell."""
Granularity = Literal["token", "word", "sentence"]
CLS, SEP = "[CLS]", "[SEP]"


@dataclass(frozen=True)
class InputPart:
    """A text or an image of the input: consecutive positions of an embedded array.

    Attributes:
        name: name of the part, such as "text", "passage" or "image".
        unit: what a position is.
        labels: a label for each position, special tokens included.
        text: the text that `spans` refer to.
        spans: the span of each position in `text`, in characters; None for special tokens and cells.
        sentences: spans of the sentences in `text`.
    """

    name: str
    unit: Literal["token", "sentence", "cell"]
    labels: tuple[Label, ...]
    text: str
    spans: tuple[Span | None, ...]
    sentences: tuple[Span, ...] = ()

    @property
    def special(self) -> list[bool]:
        """Return whether each position is a special token."""
        return [span is None and self.unit != "cell" for span in self.spans]

    def segments(self, granularity: Granularity) -> tuple[list[Label], list[int]]:
        """Return the label of each word or sentence, and the number of the one that each position belongs to.

        A special token is a segment of its own. What a position is part of stays whole: words of a part whose positions
        are sentences, or cells, are the positions themselves.

        >>> part = text_part("text", "a-b c", [(0, 1), (1, 2), (2, 3), (4, 5)], before=(CLS,))
        >>> part.segments("word")
        (['[CLS]', 'a-b', 'c'], [0, 1, 1, 1, 2])
        """
        coarser = {"token": (), "word": ("token",), "sentence": ("token", "word")}[granularity]
        if self.unit not in coarser:
            return list(self.labels), list(range(len(self.labels)))
        spans = self.sentences if granularity == "sentence" else tuple(_spans(r"\S+", self.text))
        names: dict[Span | int, Label] = {}
        members = []
        for position, (label, span) in enumerate(zip(self.labels, self.spans, strict=True)):
            whole = None if span is None else next((s for s in spans if s[0] <= span[0] < s[1]), None)
            names.setdefault(position if whole is None else whole, label if whole is None else self.text[slice(*whole)])
            members.append(list(names).index(position if whole is None else whole))
        return list(names.values()), members


@dataclass(frozen=True)
class InputSequence:
    """The positions of an embedded array [b n ...]: its parts one after another; positions beyond them are padding."""

    parts: tuple[InputPart, ...]

    @property
    def length(self) -> int:
        """Return the number of positions that are not padding."""
        return sum(len(part.labels) for part in self.parts)


def text_part(
    name: str,
    text: str,
    spans: Sequence[Span],
    *,
    before: Sequence[str] = (),
    after: Sequence[str] = (),
    sentences: Sequence[Span] | None = None,
) -> InputPart:
    """Return the part of a text.

    Args:
        name: name of the part.
        text: as the user wrote it.
        spans: span of each token in the text.
        before: special tokens before the text.
        after: special tokens after the text.
        sentences: spans of the sentences; None splits after . ? or ! before a space.
    """
    found = tuple(sentences) if sentences is not None else tuple(_spans(r"\S.*?(?:[.?!](?=\s)|$)", text))
    nothing_before, nothing_after = (None,) * len(before), (None,) * len(after)
    labels = (*before, *(text[start:end] for start, end in spans), *after)
    return InputPart(name, "token", labels, text, (*nothing_before, *spans, *nothing_after), found)


def sentence_part(name: str, sentences: Sequence[str]) -> InputPart:
    """Return a part whose positions are whole sentences."""
    text, spans = joined(sentences)
    return InputPart(name, "sentence", tuple(sentences), text, spans, spans)


def image_part(name: str, rows: int, columns: int) -> InputPart:
    """Return the part of an image, row by row."""
    cells = tuple((row, column) for row in range(rows) for column in range(columns))
    return InputPart(name, "cell", cells, "", (None,) * len(cells))


def joined(sentences: Sequence[str]) -> tuple[str, tuple[Span, ...]]:
    """Return sentences as one text, with the span of each in it.

    >>> joined(["A b.", "C?"])
    ('A b. C?', ((0, 4), (5, 7)))
    """
    spans, start = [], 0
    for sentence in sentences:
        spans.append((start, start + len(sentence)))
        start += len(sentence) + 1
    return " ".join(sentences), tuple(spans)


def _spans(pattern: str, text: str) -> list[Span]:
    return [match.span() for match in re.finditer(pattern, text, re.DOTALL)]

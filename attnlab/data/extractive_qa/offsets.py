"""Convert offsets of answers to characters if a file counts them in another unit.

A program in Java or JavaScript counts UTF-16 code units, one in Go or C bytes; text may have been composed (NFC) or
decomposed (NFD) after its answers were located, and some programs count from 1. A unit is accepted for a file if it
locates nearly all answers that the offsets in the file locate, and more.
"""

import sys
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion
from attnlab.data.text.letters import attached

Widths = Callable[[str], list[int]]
"""Function from a text to the width of each of its characters in a unit."""


def _widths_in_form(form: Literal["NFC", "NFD"]) -> Widths:
    """Return the widths in another normalization form; the width of a letter is assigned to its last character."""

    def widths(text: str) -> list[int]:
        starts = [n for n, character in enumerate(text) if n == 0 or not attached(character)]
        result = [0] * len(text)
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            result[end - 1] = len(unicodedata.normalize(form, text[start:end]))
        return result

    return widths


UNITS: dict[str, tuple[Widths, int]] = {
    "UTF-16 units": (lambda text: [1 + (character > "\uffff") for character in text], 0),
    "bytes of UTF-8": (lambda text: [len(character.encode("utf-8", "surrogatepass")) for character in text], 0),
    "characters of the composed text (NFC)": (_widths_in_form("NFC"), 0),
    "characters of the decomposed text (NFD)": (_widths_in_form("NFD"), 0),
    "characters from 1 on": (lambda text: [1] * len(text), 1),
}
"""The widths of characters in each unit, and the offset of the first character."""
_MAX_WIDTH = 4
"""Largest width of a character in any unit."""
_GAIN = 100
"""Number of further answers that a unit must locate for each answer that it loses."""


@dataclass(eq=False)
class _Passage:
    """A passage, in which answers are located."""

    text: str

    def end(self, answer: str, start: int) -> int | None:
        """Return the end of an answer at `start`, in any normalization form; None if the answer is not there."""
        if self.text.startswith(answer, start):
            return start + len(answer)
        if answer.isascii() or not 0 <= start < len(self.text):
            return None
        decomposed = unicodedata.normalize("NFD", answer)
        lengths = self._decomposed
        end = int(np.searchsorted(lengths, lengths[start] + len(decomposed)))
        same = end < len(lengths) and unicodedata.normalize("NFD", self.text[start:end]) == decomposed
        return end if same else None

    @cached_property
    def _decomposed(self) -> np.ndarray:
        return np.cumsum([0, *(len(unicodedata.normalize("NFD", character)) for character in self.text)])

    def to_character(self, unit: str, start: int) -> int | None:
        """Convert an offset in a unit to characters; None if it is inside a character or outside the passage."""
        widths, first = UNITS[unit]
        if not 0 <= start - first <= _MAX_WIDTH * len(self.text):
            return None
        if self.text.isascii():
            return start - first
        if unit not in self._offsets:
            self._offsets[unit] = np.cumsum([0, *widths(self.text)])
        offsets = self._offsets[unit]
        place = int(np.searchsorted(offsets, start - first))
        return place if place < len(self.text) and offsets[place] == start - first else None

    @cached_property
    def _offsets(self) -> dict[str, np.ndarray]:
        return {}


def to_character_offsets(questions: Sequence[PassageQuestion], where: str) -> tuple[PassageQuestion, ...]:
    """Convert offsets of answers that are counted in another unit to characters, and print a note to stderr.

    An answer in another normalization form gets the text of the passage. Other answers stay unchanged.

    >>> question = PassageQuestion("q", "?", "\\N{CAT FACE} sat", (AnswerSpan("sat", 3),))
    >>> to_character_offsets([question], "here")[0].answers
    (AnswerSpan(text='sat', start=2, certain=True),)
    """
    passages = {question.passage: _Passage(question.passage) for question in questions}
    pairs = [(passages[question.passage], answer) for question in questions for answer in question.answers]
    plain = {n for n, (passage, answer) in enumerate(pairs) if passage.end(answer.text, answer.start) is not None}
    best, best_unit = {}, ""
    for unit in UNITS if len(plain) < len(pairs) else ():
        starts = _located(unit, pairs)
        if len(starts) > max(len(best), len(plain)) and _GAIN * len(plain - starts.keys()) <= len(starts) - len(plain):
            best, best_unit = starts, unit
    if best:
        print(
            f"attnlab: {where}: answer_start counts {best_unit}; converted to characters from 0 on "
            f"({len(best):,} of {len(pairs):,} answers match the passage, {len(plain):,} without conversion)",
            file=sys.stderr,
        )
    answers = iter(
        [
            _as_in_passage(passage, answer, best.get(number, answer.start))
            for number, (passage, answer) in enumerate(pairs)
        ]
    )
    return tuple(replace(question, answers=tuple(next(answers) for _ in question.answers)) for question in questions)


def _located(unit: str, pairs: Sequence[tuple[_Passage, AnswerSpan]]) -> dict[int, int]:
    """Return the starts of the answers that match the passage with offsets in a unit, by index."""
    starts = {}
    for number, (passage, answer) in enumerate(pairs):
        start = passage.to_character(unit, answer.start)
        if start is not None and passage.end(answer.text, start) is not None:
            starts[number] = start
    return starts


def _as_in_passage(passage: _Passage, answer: AnswerSpan, start: int) -> AnswerSpan:
    end = passage.end(answer.text, start)
    return answer if end is None else replace(answer, text=passage.text[start:end], start=start)

"""Places of answers that were counted in something else than characters: recognized by a whole file, and converted.

A program in Java or JavaScript counts UTF-16 units, one in Go or C bytes; a text may have been composed (NFC) or
decomposed (NFD) after its answers were counted, and some count from 1. One rule holds for a file if by it nearly every
answer stands that stands as it is given, and others besides.
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
"""A text -> how much each of its characters counts."""


def _of_letters(form: Literal["NFC", "NFD"]) -> Widths:
    """Count letters as they are in another spelling: all of a letter at its last character."""

    def widths(text: str) -> list[int]:
        starts = [n for n, character in enumerate(text) if n == 0 or not attached(character)]
        found = [0] * len(text)
        for start, end in zip(starts, [*starts[1:], len(text)], strict=True):
            found[end - 1] = len(unicodedata.normalize(form, text[start:end]))
        return found

    return widths


RULES: dict[str, tuple[Widths, int]] = {
    "UTF-16 units": (lambda text: [1 + (character > "\uffff") for character in text], 0),
    "bytes of UTF-8": (lambda text: [len(character.encode("utf-8", "surrogatepass")) for character in text], 0),
    "characters of the composed text (NFC)": (_of_letters("NFC"), 0),
    "characters of the decomposed text (NFD)": (_of_letters("NFD"), 0),
    "characters from 1 on": (lambda text: [1] * len(text), 1),
}
"""What is counted -> how much each character counts, and the number of the first."""
_MOST = 4
"""As how many a character counts, at most, by any rule."""
_LOST = 100
"""A rule may lose one answer, which stands by chance where it should not, for so many that it finds."""


@dataclass(eq=False)
class _Passage:
    """A passage, in which answers are looked up."""

    text: str

    def end(self, answer: str, start: int) -> int | None:
        """Say where an answer ends that stands at `start`, in this spelling of its letters or in another; else None."""
        if self.text.startswith(answer, start):
            return start + len(answer)
        if answer.isascii() or not 0 <= start < len(self.text):
            return None
        wanted = unicodedata.normalize("NFD", answer)
        lengths = self._decomposed
        end = int(np.searchsorted(lengths, lengths[start] + len(wanted)))
        same = end < len(lengths) and unicodedata.normalize("NFD", self.text[start:end]) == wanted
        return end if same else None

    @cached_property
    def _decomposed(self) -> np.ndarray:
        return np.cumsum([0, *(len(unicodedata.normalize("NFD", character)) for character in self.text)])

    def converted(self, name: str, start: int) -> int | None:
        """Say at which character a place is that was counted by a rule; None where it is inside of one, or none."""
        widths, first = RULES[name]
        if not 0 <= start - first <= _MOST * len(self.text):
            return None
        if self.text.isascii():
            return start - first
        if name not in self._counted:
            self._counted[name] = np.cumsum([0, *widths(self.text)])
        counted = self._counted[name]
        place = int(np.searchsorted(counted, start - first))
        return place if place < len(self.text) and counted[place] == start - first else None

    @cached_property
    def _counted(self) -> dict[str, np.ndarray]:
        return {}


def to_character_offsets(questions: Sequence[PassageQuestion], where: str) -> tuple[PassageQuestion, ...]:
    """Convert places that were counted in something else than characters, and say so on stderr.

    An answer that stands at its place in another spelling of its letters gets the passage's. All else stays as it is.

    >>> question = PassageQuestion("q", "?", "\\N{CAT FACE} sat", (AnswerSpan("sat", 3),))
    >>> to_character_offsets([question], "here")[0].answers
    (AnswerSpan(text='sat', start=2, certain=True),)
    """
    passages = {question.passage: _Passage(question.passage) for question in questions}
    given = [(passages[question.passage], answer) for question in questions for answer in question.answers]
    plain = {n for n, (passage, answer) in enumerate(given) if passage.end(answer.text, answer.start) is not None}
    best, name = {}, ""
    for rule in RULES if len(plain) < len(given) else ():
        found = _by(rule, given)
        if len(found) > max(len(best), len(plain)) and _LOST * len(plain - found.keys()) <= len(found) - len(plain):
            best, name = found, rule
    if best:
        print(
            f"attnlab: {where}: answer_start counts {name}; converted to characters from 0 on "
            f"({len(best):,} of {len(given):,} answers stand there, as given {len(plain):,})",
            file=sys.stderr,
        )
    answers = iter([_standing(*one, best.get(number, one[1].start)) for number, one in enumerate(given)])
    return tuple(replace(question, answers=tuple(next(answers) for _ in question.answers)) for question in questions)


def _by(rule: str, given: Sequence[tuple[_Passage, AnswerSpan]]) -> dict[int, int]:
    """Find which of the answers stand by a rule, and where."""
    found = {}
    for number, (passage, answer) in enumerate(given):
        start = passage.converted(rule, answer.start)
        if start is not None and passage.end(answer.text, start) is not None:
            found[number] = start
    return found


def _standing(passage: _Passage, answer: AnswerSpan, start: int) -> AnswerSpan:
    end = passage.end(answer.text, start)
    return answer if end is None else replace(answer, text=passage.text[start:end], start=start)

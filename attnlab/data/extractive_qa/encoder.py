"""From questions about passages to numbers: words, their letters, windows, and where in them the answer stands."""

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.json_text import read
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.extractive_qa.windows import tokens_of, windows
from attnlab.data.pretrained.source import vocabulary
from attnlab.data.records import Span
from attnlab.data.text.letters import composed
from attnlab.data.text.tokenizer import Encoding, Tokenizer

UNKNOWN_LETTER = 1
"""Number of a letter that training has not seen; 0 is padding."""
MOST_LETTERS = 200


class EncodedText(NamedTuple):
    """A text as numbers."""

    ids: np.ndarray
    """[t] words."""
    letters: np.ndarray
    """[t c] letters of each word; no column where none are read."""
    surface: list[str]
    """What stands there, composed and in lower case."""
    offsets: list[Span]
    """Where, in characters."""


class Window(NamedTuple):
    """A question with what is read at once of its passage."""

    number: int
    """Of the question, among those that were read together."""
    question: EncodedText
    passage: EncodedText
    """The whole passage."""
    first: int
    """The window's first word."""
    last: int
    """The word after its last."""
    match: np.ndarray
    """[t] 1 for the words of the window that the question has too."""
    target: Span
    """Place of the answer's first and last word: 0 is no answer in this window, n + 1 its word n."""

    @property
    def length(self) -> int:
        """Words of the passage in the window."""
        return self.last - self.first


@dataclass(frozen=True, eq=False)
class PassageEncoder:
    """A vocabulary of words and one of letters, with the settings of how texts are read by them."""

    config: ExtractiveQA
    tokenizer: Tokenizer
    letters: str
    """Letters in the order of their numbers, from `UNKNOWN_LETTER` + 1 on."""
    longest_word: int
    """Letters of a word that are read; 0 for none."""
    _passages: dict[str, EncodedText] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, config: ExtractiveQA, longest_word: int, questions: Iterable[PassageQuestion], data_dir: Path | None = None
    ) -> Self:
        """Learn both vocabularies of questions and their passages, each passage once.

        The words' may be that of pretrained weights, which may lie in the data directory.
        """
        texts = list(dict.fromkeys(text for one in questions for text in (one.passage, one.question)))
        counts = Counter(letter for text in texts for letter in composed(text))
        ordered = sorted(counts, key=lambda letter: (-counts[letter], letter))
        letters = "".join(letter for letter in ordered if not letter.isspace())[:MOST_LETTERS]
        return cls(config, vocabulary(config.tokenizer, texts, data_dir), letters, longest_word)

    def files(self) -> dict[str, str]:
        """Both vocabularies: name -> text."""
        letters = json.dumps(self.letters, ensure_ascii=False) + "\n"
        return {"tokenizer.json": self.tokenizer.to_json(), "letters.json": letters}

    @classmethod
    def load(cls, config: ExtractiveQA, longest_word: int, directory: Path) -> Self:
        """Read what `files` gave."""
        letters = read(directory / "letters.json", str, "letters")
        return cls(config, Tokenizer.load(directory / "tokenizer.json"), letters, longest_word)

    @property
    def letter_count(self) -> int:
        """Numbers of letters, padding and unknown counted."""
        return len(self.letters) + UNKNOWN_LETTER + 1

    def encode(self, questions: Sequence[PassageQuestion]) -> list[Window]:
        """Read questions with the windows of their passages, in order."""
        self._learn_passages(questions)
        encoded = [self._text(found) for found in self.tokenizer.encode_batch([one.question for one in questions])]
        return [
            window
            for number, (one, text) in enumerate(zip(questions, encoded, strict=True))
            for window in self._windows(number, one, text)
        ]

    def answer(self, question: PassageQuestion, window: Window, first: int, last: int) -> str:
        """The piece of the passage from one word of a window to another, as it is written there."""
        offsets = window.passage.offsets
        return question.passage[offsets[window.first + first][0] : offsets[window.first + last][1]]

    def _windows(self, number: int, one: PassageQuestion, encoded: EncodedText) -> list[Window]:
        passage, config = self._passages[one.passage], self.config
        most = config.max_question
        short = EncodedText(encoded.ids[:most], encoded.letters[:most], encoded.surface[:most], encoded.offsets[:most])
        words = set(short.surface)
        match = np.array([word in words for word in passage.surface], np.float32)
        target = one.target
        span = None if target is None else tokens_of(target.span, passage.offsets)
        found = []
        for first, last in windows(len(passage.ids), config.window, config.stride):
            inside = span is not None and first <= span[0] and span[1] < last
            place = (span[0] - first + 1, span[1] - first + 1) if span and inside else (0, 0)
            found.append(Window(number, short, passage, first, last, match[first:last], place))
        return found

    def _learn_passages(self, questions: Sequence[PassageQuestion]) -> None:
        new = [text for text in dict.fromkeys(one.passage for one in questions) if text not in self._passages]
        for text, found in zip(new, self.tokenizer.encode_batch(new), strict=True):
            self._passages[text] = self._text(found)

    def _text(self, found: Encoding) -> EncodedText:
        written = [composed(word) for word in found.surface]
        letters = np.zeros((len(found.ids), self.longest_word), np.int32)
        for row, word in enumerate(written if self.longest_word else ()):
            numbers = [self._numbers.get(letter, UNKNOWN_LETTER) for letter in word[: self.longest_word]]
            letters[row, : len(numbers)] = numbers
        return EncodedText(np.array(found.ids, np.int32), letters, [word.lower() for word in written], found.offsets)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {letter: number for number, letter in enumerate(self.letters, start=UNKNOWN_LETTER + 1)}

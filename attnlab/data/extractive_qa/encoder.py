"""Encode questions about passages: ids of tokens and characters, windows, and the position of the answer in them."""

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
"""Id of characters that are not in the vocabulary; 0 is padding."""
MAX_LETTERS = 200
"""Largest number of characters in the vocabulary."""


class EncodedText(NamedTuple):
    """The ids of a text."""

    ids: np.ndarray
    """[t] ids of tokens."""
    letters: np.ndarray
    """[t c] ids of the characters of each token; c is 0 for a model without character embeddings."""
    surface: list[str]
    """Text of each token, composed (NFC) and in lower case."""
    offsets: list[Span]
    """Span of each token, in characters."""


class Window(NamedTuple):
    """A question and a window of its passage, an input of the model."""

    number: int
    """Index of the question among those that were encoded together."""
    question: EncodedText
    passage: EncodedText
    """The whole passage."""
    first: int
    """Index of the first token of the window."""
    last: int
    """Index after its last token."""
    match: np.ndarray
    """[t] 1 for tokens of the window that occur in the question, else 0."""
    target: Span
    """First and last token of the answer: n + 1 for token n of the window, 0 if the window has no answer."""

    @property
    def length(self) -> int:
        """Return the number of tokens in the window."""
        return self.last - self.first


@dataclass(frozen=True, eq=False)
class PassageEncoder:
    """Encodes questions and passages with a vocabulary of tokens and one of characters."""

    config: ExtractiveQA
    tokenizer: Tokenizer
    letters: str
    """Characters in the order of their ids, which begin with `UNKNOWN_LETTER` + 1."""
    longest_word: int
    """Largest number of characters of a token; 0 for a model without character embeddings."""
    _passages: dict[str, EncodedText] = field(default_factory=dict)

    @classmethod
    def fit(
        cls, config: ExtractiveQA, longest_word: int, questions: Iterable[PassageQuestion], data_dir: Path | None = None
    ) -> Self:
        """Learn both vocabularies from training questions and their passages, counting each passage once.

        The vocabulary of tokens may be that of pretrained weights, whose path may be relative to `data_dir`.
        """
        texts = list(dict.fromkeys(text for example in questions for text in (example.passage, example.question)))
        counts = Counter(letter for text in texts for letter in composed(text))
        ordered = sorted(counts, key=lambda letter: (-counts[letter], letter))
        letters = "".join(letter for letter in ordered if not letter.isspace())[:MAX_LETTERS]
        return cls(config, vocabulary(config.tokenizer, texts, data_dir), letters, longest_word)

    def files(self) -> dict[str, str]:
        """Return both vocabularies as texts by the names of their files."""
        letters = json.dumps(self.letters, ensure_ascii=False) + "\n"
        return {"tokenizer.json": self.tokenizer.to_json(), "letters.json": letters}

    @classmethod
    def load(cls, config: ExtractiveQA, longest_word: int, directory: Path) -> Self:
        """Load the files that `files` describes."""
        letters = read(directory / "letters.json", str, "letters")
        return cls(config, Tokenizer.load(directory / "tokenizer.json"), letters, longest_word)

    @property
    def letter_count(self) -> int:
        """Return the number of ids of characters, including padding and unknown."""
        return len(self.letters) + UNKNOWN_LETTER + 1

    def encode(self, questions: Sequence[PassageQuestion]) -> list[Window]:
        """Return the windows of questions, in order."""
        self._encode_passages(questions)
        encodings = self.tokenizer.encode_batch([example.question for example in questions])
        return [
            window
            for number, (example, encoding) in enumerate(zip(questions, encodings, strict=True))
            for window in self._windows(number, example, self._text(encoding))
        ]

    def answer(self, question: PassageQuestion, window: Window, first: int, last: int) -> str:
        """Return the text of the passage from token `first` to token `last` of a window."""
        offsets = window.passage.offsets
        return question.passage[offsets[window.first + first][0] : offsets[window.first + last][1]]

    def _windows(self, number: int, example: PassageQuestion, text: EncodedText) -> list[Window]:
        passage, config = self._passages[example.passage], self.config
        limit = config.max_question
        question = EncodedText(text.ids[:limit], text.letters[:limit], text.surface[:limit], text.offsets[:limit])
        words = set(question.surface)
        match = np.array([word in words for word in passage.surface], np.float32)
        target = example.target
        span = None if target is None else tokens_of(target.span, passage.offsets)
        result = []
        for first, last in windows(len(passage.ids), config.window, config.stride):
            inside = span is not None and first <= span[0] and span[1] < last
            place = (span[0] - first + 1, span[1] - first + 1) if span and inside else (0, 0)
            result.append(Window(number, question, passage, first, last, match[first:last], place))
        return result

    def _encode_passages(self, questions: Sequence[PassageQuestion]) -> None:
        new = [text for text in dict.fromkeys(example.passage for example in questions) if text not in self._passages]
        for text, encoding in zip(new, self.tokenizer.encode_batch(new), strict=True):
            self._passages[text] = self._text(encoding)

    def _text(self, encoding: Encoding) -> EncodedText:
        words = [composed(word) for word in encoding.surface]
        letters = np.zeros((len(encoding.ids), self.longest_word), np.int32)
        for row, word in enumerate(words if self.longest_word else ()):
            numbers = [self._numbers.get(letter, UNKNOWN_LETTER) for letter in word[: self.longest_word]]
            letters[row, : len(numbers)] = numbers
        surface = [word.lower() for word in words]
        return EncodedText(np.array(encoding.ids, np.int32), letters, surface, encoding.offsets)

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {letter: number for number, letter in enumerate(self.letters, start=UNKNOWN_LETTER + 1)}

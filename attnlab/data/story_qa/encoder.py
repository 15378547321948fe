"""From a story to numbers: its words, and the two forms in which models read it."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from attnlab.config.json_text import read_texts
from attnlab.data.story_qa.generated import Story
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.letters import WORD, composed

PAD, UNKNOWN, START, BREAK = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "<sep>")
"""Words 0 to 3: no text is read as one of them but an unknown word."""
OF_STORY = 1
"""Token type of a story; the question's is 0."""


def cut(text: str) -> list[str]:
    """Cut a text into lower-case words; punctuation says nothing in these stories.

    >>> cut("Where is Mary?")
    ['where', 'is', 'mary']
    """
    return [word.lower() for word in cut_as_written(text)]


def cut_as_written(text: str) -> list[str]:
    """Cut a text into words, and leave capital letters as they are."""
    return re.findall(WORD, composed(text))


class Read(NamedTuple):
    """A story as numbers; `answer` is 0 where it is not known."""

    sentences: tuple[tuple[int, ...], ...]
    question: tuple[int, ...]
    answer: int
    facts: tuple[int, ...]
    """Gold facts among the sentences that are kept."""
    left_out: int
    """Sentences before them that are not kept."""

    @property
    def tokens(self) -> int:
        """Length as one sequence."""
        return len(self.question) + 2 + sum(map(len, self.sentences))


@dataclass(frozen=True)
class Vocabulary:
    """Words by number; an answer is one of them, whatever is in it."""

    words: tuple[str, ...]

    @classmethod
    def learned(cls, stories: Iterable[Story]) -> Self:
        """Collect the words and the answers of stories, in the order of the alphabet."""
        words: set[str] = set()
        for story in stories:
            words.update(word for text in (*story.sentences, story.question) for word in cut(text))
            words.add(composed(story.answer).lower())
        return cls((*SPECIALS, *sorted(words)))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Number of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def read(self, story: Story, memory: int) -> Read:
        """Read a story, of which the last `memory` sentences are kept."""
        left_out = max(len(story.sentences) - memory, 0)
        sentences = tuple(self._numbers(text) for text in story.sentences[left_out:])
        facts = tuple(fact - left_out for fact in story.facts if fact >= left_out)
        answer = self.numbers.get(composed(story.answer).lower(), UNKNOWN) if story.answer else PAD
        return Read(sentences, self._numbers(story.question), answer, facts, left_out)

    def unknown(self, text: str) -> list[str]:
        """Words of a text that are none of these, as they stand in it."""
        return [word for word in cut_as_written(text) if word.lower() not in self.numbers]

    def to_json(self) -> str:
        """The words as JSON."""
        return json.dumps(self.words, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `to_json` wrote."""
        return cls(tuple(read_texts(path, "words")))

    def _numbers(self, text: str) -> tuple[int, ...]:
        return tuple(self.numbers.get(word, UNKNOWN) for word in cut(text)) or (UNKNOWN,)


def memories(shape: Shape, members: Sequence[Read], words: int) -> Batch:
    """Fill a batch in which a story is a table of sentences: story [b n w], sentences [b], question [b w], answer [b].

    Args:
        shape: `source` sentences.
        members: the stories; rows beyond them have no sentence and are filler.
        words: places in a sentence.
    """
    story = np.zeros((shape.rows, shape.source, words), np.int32)
    question = np.zeros((shape.rows, words), np.int32)
    for row, read in enumerate(members):
        question[row, : len(read.question)] = read.question
        for place, sentence in enumerate(read.sentences):
            story[row, place, : len(sentence)] = sentence
    counts = [len(read.sentences) for read in members]
    return {
        "story": story,
        "sentences": _column(shape, counts),
        "question": question,
        "answer": _answers(shape, members),
    }


def sequences(shape: Shape, members: Sequence[Read]) -> Batch:
    """Fill a batch in which question and story are one sequence: tokens, types, sentence [b t], lengths, answer [b].

    `<s>` question `<sep>` sentence 1 sentence 2 …; `sentence` tells which one a token is of, −1 where of none.
    """
    tokens, types, sentence = (np.full((shape.rows, shape.source), fill, np.int32) for fill in (PAD, 0, -1))
    for row, read in enumerate(members):
        start = len(read.question) + 2
        tokens[row, :start] = (START, *read.question, BREAK)
        types[row, start : read.tokens] = OF_STORY
        for number, words in enumerate(read.sentences):
            tokens[row, start : start + len(words)] = words
            sentence[row, start : start + len(words)] = number
            start += len(words)
    lengths = _column(shape, [read.tokens for read in members])
    return {
        "tokens": tokens,
        "types": types,
        "sentence": sentence,
        "lengths": lengths,
        "answer": _answers(shape, members),
    }


def _answers(shape: Shape, members: Sequence[Read]) -> np.ndarray:
    return _column(shape, [read.answer for read in members])


def _column(shape: Shape, values: Sequence[int]) -> np.ndarray:
    column = np.zeros(shape.rows, np.int32)
    column[: len(values)] = values
    return column

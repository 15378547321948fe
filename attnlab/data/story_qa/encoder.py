"""Encode stories as word ids, and fill batches for the models: sentences as rows, or a single sequence."""

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from attnlab.config.json_text import read_texts
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.letters import WORD, composed

PAD, UNKNOWN, START, BREAK = range(4)
SPECIALS = ("<pad>", "<unk>", "<s>", "<sep>")
"""Words 0 to 3. Of these, text can only be encoded as the unknown word."""
OF_STORY = 1
"""Token type of the story; the question has type 0."""


def split_words(text: str) -> list[str]:
    """Split text into lower-case words without punctuation.

    >>> split_words("Where is Mary?")
    ['where', 'is', 'mary']
    """
    return [word.lower() for word in split_words_cased(text)]


def split_words_cased(text: str) -> list[str]:
    """Split text into words without punctuation; keep their case."""
    return re.findall(WORD, composed(text))


class EncodedStory(NamedTuple):
    """The word ids of a story, its question and its answer; `answer` is 0 if it is not known."""

    sentences: tuple[tuple[int, ...], ...]
    question: tuple[int, ...]
    answer: int
    facts: tuple[int, ...]
    """Indices of the supporting facts among the kept sentences."""
    left_out: int
    """Number of earlier sentences that are left out."""

    @property
    def tokens(self) -> int:
        """Return the length of question and story as a single sequence."""
        return len(self.question) + 2 + sum(map(len, self.sentences))


@dataclass(frozen=True)
class Vocabulary:
    """The words of stories, questions and answers by id; an answer is a single entry, even if it contains a space."""

    words: tuple[str, ...]

    @classmethod
    def fit(cls, stories: Iterable[StoryQuestion]) -> Self:
        """Return the vocabulary of the words and answers of training stories, in alphabetical order."""
        words: set[str] = set()
        for story in stories:
            words.update(word for text in (*story.sentences, story.question) for word in split_words(text))
            words.add(composed(story.answer).lower())
        return cls((*SPECIALS, *sorted(words)))

    @cached_property
    def numbers(self) -> dict[str, int]:
        """Return the id of each word."""
        return {word: number for number, word in enumerate(self.words)}

    def encode(self, story: StoryQuestion, memory: int) -> EncodedStory:
        """Encode the last `memory` sentences of a story, its question and its answer."""
        left_out = max(len(story.sentences) - memory, 0)
        sentences = tuple(self._numbers(text) for text in story.sentences[left_out:])
        facts = tuple(fact - left_out for fact in story.facts if fact >= left_out)
        answer = self.numbers.get(composed(story.answer).lower(), UNKNOWN) if story.answer else PAD
        return EncodedStory(sentences, self._numbers(story.question), answer, facts, left_out)

    def unknown(self, text: str) -> list[str]:
        """Return the words of text that are not in the vocabulary, in their original case."""
        return [word for word in split_words_cased(text) if word.lower() not in self.numbers]

    def to_json(self) -> str:
        """Return the vocabulary as JSON."""
        return json.dumps(self.words, ensure_ascii=False) + "\n"

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load a vocabulary that `to_json` wrote."""
        return cls(tuple(read_texts(path, "words")))

    def _numbers(self, text: str) -> tuple[int, ...]:
        return tuple(self.numbers.get(word, UNKNOWN) for word in split_words(text)) or (UNKNOWN,)


def memory_batch(shape: Shape, members: Sequence[EncodedStory], words: int) -> Batch:
    """Return a batch of stories as rows of sentences: story [b n w], sentences [b], question [b w], answer [b].

    Args:
        shape: shape of the batch; `source` is the number of sentences.
        members: the stories; further rows are padding.
        words: length of a sentence including padding.
    """
    story = np.zeros((shape.rows, shape.source, words), np.int32)
    question = np.zeros((shape.rows, words), np.int32)
    for row, member in enumerate(members):
        question[row, : len(member.question)] = member.question
        for place, sentence in enumerate(member.sentences):
            story[row, place, : len(sentence)] = sentence
    counts = [len(member.sentences) for member in members]
    return {
        "story": story,
        "sentences": _column(shape, counts),
        "question": question,
        "answer": _answers(shape, members),
    }


def sequence_batch(shape: Shape, members: Sequence[EncodedStory]) -> Batch:
    """Return a batch of questions and stories as single sequences: tokens, types, sentence [b t], lengths, answer [b].

    `<s>` question `<sep>` sentence 1 sentence 2 …; `sentence` is the index of each token's sentence, or −1.
    """
    tokens, types, sentence = (np.full((shape.rows, shape.source), fill, np.int32) for fill in (PAD, 0, -1))
    for row, member in enumerate(members):
        start = len(member.question) + 2
        tokens[row, :start] = (START, *member.question, BREAK)
        types[row, start : member.tokens] = OF_STORY
        for number, words in enumerate(member.sentences):
            tokens[row, start : start + len(words)] = words
            sentence[row, start : start + len(words)] = number
            start += len(words)
    lengths = _column(shape, [member.tokens for member in members])
    return {
        "tokens": tokens,
        "types": types,
        "sentence": sentence,
        "lengths": lengths,
        "answer": _answers(shape, members),
    }


def _answers(shape: Shape, members: Sequence[EncodedStory]) -> np.ndarray:
    return _column(shape, [member.answer for member in members])


def _column(shape: Shape, values: Sequence[int]) -> np.ndarray:
    column = np.zeros(shape.rows, np.int32)
    column[: len(values)] = values
    return column

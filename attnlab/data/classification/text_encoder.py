"""Encode texts for classification: split contractions, tokenize, and truncate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from attnlab.config.classification import Classification
from attnlab.data.classification.records import LabeledText
from attnlab.data.pretrained.source import vocabulary
from attnlab.data.records import Span
from attnlab.data.text import contractions
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Encoding, Tokenizer

_AT_ONCE = 1000
"""Number of texts tokenized at a time, which bounds memory."""


class EncodedText(NamedTuple):
    """The token ids of a text, and its length in tokens before truncation."""

    ids: np.ndarray
    length: int


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """Encodes texts with a vocabulary and the settings of the task's config."""

    config: Classification
    tokenizer: Tokenizer

    @classmethod
    def fit(cls, config: Classification, texts: Sequence[str], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary from training texts, or use that of pretrained weights (see `vocabulary`)."""
        return cls(
            config, vocabulary(config.tokenizer, [_with_split_contractions(config, text) for text in texts], data_dir)
        )

    def encode(self, texts: Sequence[str]) -> list[EncodedText]:
        """Return the ids of texts."""
        return [
            EncodedText(np.asarray(encoding.ids, np.int32)[self._kept(encoding)], len(encoding.ids))
            for encoding in self._encoded(texts)
        ]

    def surface(self, text: str) -> list[str]:
        """Return the part of the text that each of its tokens covers, after truncation."""
        (encoding,) = self._encoded([text])
        return [encoding.surface[place] for place in self._kept(encoding)]

    def spans(self, text: str) -> list[Span]:
        """Return the span of each of the tokens in the text as it is written, after truncation."""
        (encoding,) = self._encoded([text])
        spans = [encoding.offsets[place] for place in self._kept(encoding)]
        return contractions.restored(text, spans) if self.config.split_contractions else spans

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Return the words of texts that are not in the vocabulary, after truncation."""
        return [
            encoding.surface[place]
            for encoding in self._encoded(texts)
            for place in encoding.unknown
            if place in self._kept(encoding)
        ]

    def gold(self, example: LabeledText) -> np.ndarray:
        """Return which tokens of a text belong to a span that is marked as a reason for its label, after truncation."""
        return np.any(self._overlaps(example), axis=0)

    def unmatched(self, examples: Sequence[LabeledText]) -> tuple[int, int]:
        """Return the number of marked spans of all texts, and of those without a token, after truncation."""
        overlaps = [self._overlaps(example) for example in examples]
        return sum(map(len, overlaps)), sum(int(np.sum(~np.any(found, axis=1))) for found in overlaps)

    def _overlaps(self, example: LabeledText) -> np.ndarray:
        """Return which marked spans share a character with which tokens, [spans tokens], after truncation."""
        (encoding,) = self._encoded([example.text])
        spans = example.marked or ()
        spans = contractions.moved(example.text, spans) if self.config.split_contractions else spans
        starts, ends = np.array(spans, int).reshape(-1, 2).T
        first, last = np.array(encoding.offsets, int).reshape(-1, 2)[self._kept(encoding)].T
        return (first < ends[:, None]) & (starts[:, None] < last)

    def _encoded(self, texts: Sequence[str]) -> Iterator[Encoding]:
        for start in range(0, len(texts), _AT_ONCE):
            chunk = [_with_split_contractions(self.config, text) for text in texts[start : start + _AT_ONCE]]
            yield from self.tokenizer.encode_batch(chunk)

    def _kept(self, encoding: Encoding) -> np.ndarray:
        return kept_positions(len(encoding.ids), self.config.max_length, self.config.truncation)


def kept_positions(length: int, limit: int, keep: str) -> np.ndarray:
    """Return the positions of the tokens that truncation to `limit` tokens keeps.

    >>> kept_positions(10, 4, "both").tolist(), kept_positions(3, 4, "both").tolist()
    ([0, 7, 8, 9], [0, 1, 2])
    """
    if length <= limit:
        return np.arange(length)
    head = {"head": limit, "tail": 0, "both": limit // 4}[keep]
    return np.concatenate([np.arange(head), np.arange(length - (limit - head), length)])


def fill_batch(shape: Shape, members: Sequence[tuple[np.ndarray, int]]) -> Batch:
    """Return a batch of (ids, label) pairs: tokens [b s], lengths [b] (0 for padding rows), labels [b]."""
    tokens = np.zeros((shape.rows, shape.source), np.int32)
    lengths, labels = np.zeros(shape.rows, np.int32), np.zeros(shape.rows, np.int32)
    for row, (ids, label) in enumerate(members):
        tokens[row, : len(ids)] = ids
        lengths[row], labels[row] = len(ids), label
    return {"tokens": tokens, "lengths": lengths, "labels": labels}


def _with_split_contractions(config: Classification, text: str) -> str:
    return contractions.split(text) if config.split_contractions else text

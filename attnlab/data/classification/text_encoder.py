"""From a text to the tokens that a classifier reads: contractions split, cut where it is too long."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np

from attnlab.config.classification import Classification
from attnlab.data.classification.records import Labelled
from attnlab.data.pretrained.source import vocabulary
from attnlab.data.text import contractions
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Encoding, Tokenizer

_AT_ONCE = 1000
"""Texts that are cut into tokens at a time: the library's records of long ones are large."""


class Read(NamedTuple):
    """A text as token numbers, and how many it had before it was cut."""

    ids: np.ndarray
    length: int


@dataclass(frozen=True, eq=False)
class Reader:
    """A vocabulary with the settings of how texts are read by it."""

    settings: Classification
    tokenizer: Tokenizer

    @classmethod
    def learned(cls, settings: Classification, texts: Sequence[str], data_dir: Path | None = None) -> Self:
        """Learn the vocabulary of texts, or take that of pretrained weights (which may lie in the data directory)."""
        return cls(settings, vocabulary(settings.tokenizer, [_written(settings, text) for text in texts], data_dir))

    def read(self, texts: Sequence[str]) -> list[Read]:
        """Read many texts."""
        return [
            Read(np.asarray(found.ids, np.int32)[self._kept(found)], len(found.ids)) for found in self._encoded(texts)
        ]

    def surface(self, text: str) -> list[str]:
        """What stands in a text where each of the tokens that are read of it was found."""
        (found,) = self._encoded([text])
        return [found.surface[place] for place in self._kept(found)]

    def unknown(self, texts: Sequence[str]) -> list[str]:
        """Words of texts that the vocabulary lacks, in the parts of them that are read."""
        return [one.surface[place] for one in self._encoded(texts) for place in one.unknown if place in self._kept(one)]

    def gold(self, example: Labelled) -> np.ndarray:
        """Tell of each token that is read whether it belongs to the rationale."""
        (found,) = self._encoded([example.text])
        spans = example.rationale or ()
        spans = contractions.moved(example.text, spans) if self.settings.contractions else spans
        decides = [any(first < end and start < last for start, end in spans) for first, last in found.offsets]
        return np.array(decides, bool)[self._kept(found)]

    def _encoded(self, texts: Sequence[str]) -> Iterator[Encoding]:
        for start in range(0, len(texts), _AT_ONCE):
            chunk = [_written(self.settings, text) for text in texts[start : start + _AT_ONCE]]
            yield from self.tokenizer.encode_batch(chunk)

    def _kept(self, found: Encoding) -> np.ndarray:
        return kept_places(len(found.ids), self.settings.max_length, self.settings.keep)


def kept_places(length: int, most: int, keep: str) -> np.ndarray:
    """Say which tokens of a text of `length` are read.

    >>> kept_places(10, 4, "both").tolist(), kept_places(3, 4, "both").tolist()
    ([0, 7, 8, 9], [0, 1, 2])
    """
    if length <= most:
        return np.arange(length)
    head = {"head": most, "tail": 0, "both": most // 4}[keep]
    return np.concatenate([np.arange(head), np.arange(length - (most - head), length)])


def filled(shape: Shape, members: Sequence[tuple[np.ndarray, int]]) -> Batch:
    """Make a batch of (token numbers, label): tokens [b s], lengths [b] (0 for filler), labels [b]."""
    tokens = np.zeros((shape.rows, shape.source), np.int32)
    lengths, labels = np.zeros(shape.rows, np.int32), np.zeros(shape.rows, np.int32)
    for row, (ids, label) in enumerate(members):
        tokens[row, : len(ids)] = ids
        lengths[row], labels[row] = len(ids), label
    return {"tokens": tokens, "lengths": lengths, "labels": labels}


def _written(settings: Classification, text: str) -> str:
    return contractions.split(text) if settings.contractions else text

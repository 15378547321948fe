"""What a reader or a generator hands on: examples in splits; of translation, pairs with gold alignment if known."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Self, TypeVar

import numpy as np

Example = TypeVar("Example")

Span = tuple[int, int]
"""Start and end of a piece of text in characters, end exclusive."""


@dataclass(frozen=True)
class Link:
    """One gold link between a piece of the source and a piece of the target; not sure = possible (Och & Ney 2003)."""

    source: Span
    target: Span
    sure: bool = True


@dataclass(frozen=True)
class Pair:
    """A sentence and its translation; `alignment` is None where no gold alignment is known."""

    source: str
    target: str
    alignment: tuple[Link, ...] | None = None


@dataclass(frozen=True)
class Splits(Generic[Example]):
    """All examples of a task."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: dict[str, tuple[Example, ...]]

    def splits(self) -> dict[str, tuple[Example, ...]]:
        """Name every split: train, dev, and the test sets by their own names."""
        return {"train": self.train, "dev": self.dev, **self.test}

    def mapped(self, change: Callable[[Example], Example]) -> Self:
        """Change every example of every split."""
        parts = {name: tuple(map(change, examples)) for name, examples in self.splits().items()}
        return replace(self, train=parts.pop("train"), dev=parts.pop("dev"), test=parts)

    def fingerprint(self) -> str:
        """Hash all content with its order and splits (sha256): equal exactly when the data are the same."""
        return _hashed(self.splits())

    def fingerprint_of(self, split: str) -> str:
        """Hash one split alone: equal where two data sets share it."""
        return _hashed({"": self.splits()[split]})


@dataclass(frozen=True)
class Corpus(Splits[Pair]):
    """All splits of a translation. A `split` pattern, where given, cuts words into smaller tokens on that side."""

    source_language: str
    target_language: str
    source_split: str | None = None
    target_split: str | None = None


def _hashed(splits: Mapping[str, Sequence[Any]]) -> str:
    digest = hashlib.sha256()
    for name, examples in splits.items():
        digest.update(f"{len(name)} {name} {len(examples)}\n".encode())
        for example in examples:
            for part in _content(example):
                digest.update(part)
    return digest.hexdigest()


def _content(example: Any) -> Iterator[bytes]:
    """The fields of an example: text and arrays by their bytes, with their lengths; None not at all."""
    for field in fields(example):
        value = getattr(example, field.name)
        if isinstance(value, str):
            encoded = value.encode("utf-8", "surrogatepass")
            yield f"{len(encoded)} ".encode() + encoded
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape} ".encode() + np.ascontiguousarray(value).tobytes()
        elif value is not None:
            yield repr(value).encode()

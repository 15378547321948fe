"""The splits of a dataset, and fingerprints of their content."""

import gc
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, Self, TypeVar

import numpy as np

Example = TypeVar("Example")

Span = tuple[int, int]
"""Start and end (exclusive) of a part of a text, in characters."""
ANNOTATION: Mapping[str, bool] = {"annotation": True}
"""Metadata of a field of examples that no model is trained on and no prediction is scored by, such as human marks. The
fingerprint of the data leaves it out, so that runs do not depend on it."""


@dataclass(frozen=True)
class Splits(Generic[Example]):
    """The examples of a dataset: a training set, a validation set (`dev`), and at least one test set with a name."""

    train: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: dict[str, tuple[Example, ...]]

    def splits(self) -> dict[str, tuple[Example, ...]]:
        """Return all splits by name: train, dev, and the test sets."""
        return {"train": self.train, "dev": self.dev, **self.test}

    def map(self, function: Callable[[Example], Example]) -> Self:
        """Return splits with a function applied to every example."""
        parts = {name: tuple(map(function, examples)) for name, examples in self.splits().items()}
        return replace(self, train=parts.pop("train"), dev=parts.pop("dev"), test=parts)

    def fingerprint(self) -> str:
        """Return the sha256 of all examples, their order, and their splits."""
        return _sha256(self.splits())

    def fingerprint_of(self, split: str, *, annotations: bool = False) -> str:
        """Return the sha256 of the examples of a split, independent of the split's name.

        Args:
            split: its name.
            annotations: include the fields that are annotations.
        """
        return _sha256({"": self.splits()[split]}, annotations)


@dataclass(frozen=True)
class EvaluationSet(Generic[Example]):
    """Examples that no run is trained on.

    Attributes:
        examples: the examples.
        notes: lines on their annotations and on what is left out, with the reason.
    """

    examples: tuple[Example, ...]
    notes: tuple[str, ...] = ()


@contextmanager
def garbage_collection_paused() -> Iterator[None]:
    """Pause Python's garbage collector, which would visit many new examples again and again."""
    enabled, frozen = gc.isenabled(), gc.get_freeze_count()
    gc.disable()
    try:
        yield
    finally:
        if not frozen:
            gc.freeze()
            gc.unfreeze()  # both together move all new objects to the oldest generation without a visit
        if enabled:
            gc.enable()


def _sha256(splits: Mapping[str, Sequence[Any]], annotations: bool = False) -> str:
    digest = hashlib.sha256()
    for name, examples in splits.items():
        digest.update(f"{len(name)} {name} {len(examples)}\n".encode())
        known = fields(examples[0]) if examples else ()
        names = [field.name for field in known if annotations or "annotation" not in field.metadata]
        for example in examples:
            for part in _content(getattr(example, name) for name in names):
                digest.update(part)
    return digest.hexdigest()


def _content(values: Iterable[Any]) -> Iterator[bytes | memoryview]:
    """Yield the fields of an example as bytes; texts and arrays are preceded by their sizes, and None is skipped."""
    for value in values:
        if isinstance(value, str):
            encoded = value.encode("utf-8", "surrogatepass")
            yield f"{len(encoded)} ".encode() + encoded
        elif isinstance(value, np.ndarray):
            yield f"{value.dtype} {value.shape} ".encode()
            yield np.ascontiguousarray(value).data
        elif value is not None:
            yield repr(value).encode()

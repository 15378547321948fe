"""What a reader or a generator hands on: pairs of sentences, in splits, with gold alignment where it is known."""

import hashlib
from dataclasses import dataclass

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
class Corpus:
    """All splits of a task. A `split` pattern, where given, cuts words into smaller tokens on that side."""

    train: tuple[Pair, ...]
    dev: tuple[Pair, ...]
    test: dict[str, tuple[Pair, ...]]
    source_language: str
    target_language: str
    source_split: str | None = None
    target_split: str | None = None

    def splits(self) -> dict[str, tuple[Pair, ...]]:
        """Name every split: train, dev, and the test sets by their own names."""
        return {"train": self.train, "dev": self.dev, **self.test}

    def fingerprint(self) -> str:
        """Hash all text and gold with their order and splits (sha256): equal exactly when the data are the same."""
        digest = hashlib.sha256()
        for name, pairs in self.splits().items():
            digest.update(f"{len(name)} {name} {len(pairs)}\n".encode())
            for pair in pairs:
                for text in (pair.source, pair.target):
                    encoded = text.encode("utf-8", "surrogatepass")
                    digest.update(f"{len(encoded)} ".encode() + encoded)
                if pair.alignment is not None:
                    digest.update(repr(pair.alignment).encode())
        return digest.hexdigest()

"""Examples of translation: sentence pairs with their gold alignment, and the splits of a parallel corpus."""

from dataclasses import dataclass
from typing import NamedTuple

from attnlab.data.records import Span, Splits


class Link(NamedTuple):
    """A gold alignment link between a span of the source and a span of the target, in characters.

    A link is sure or only possible (Och & Ney 2003).
    """

    source: Span
    target: Span
    sure: bool = True

    def __repr__(self) -> str:
        (start, end), (target_start, target_end), sure = self
        return f"Link(source=({start}, {end}), target=({target_start}, {target_end}), sure={sure})"


@dataclass(frozen=True)
class SentencePair:
    """A sentence and its translation; `alignment` is None if there is no gold alignment."""

    source: str
    target: str
    alignment: tuple[Link, ...] | None = None


@dataclass(frozen=True)
class ParallelCorpus(Splits[SentencePair]):
    """The splits of a translation dataset with their languages."""

    source_language: str
    target_language: str
    source_split: str | None = None
    """Regular expression whose matches within a source word become separate tokens; None does not split words."""
    target_split: str | None = None
    """The same for target words."""

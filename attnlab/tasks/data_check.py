"""The report of `attnlab data check`: counts and lengths of the examples of every split."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

QUANTILES = (0.0, 0.5, 0.9, 0.99, 1.0)
"""Quantiles of the lengths in the report."""


@dataclass(frozen=True)
class PartStatistics:
    """Statistics of one part of the examples of a split, such as their sources or their questions.

    Attributes:
        lengths: lengths in tokens at `QUANTILES`.
        columns: further columns that a task adds: heading -> cell.
    """

    lengths: tuple[int, ...]
    columns: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SplitStatistics:
    """Statistics of a split.

    Attributes:
        examples: number of examples.
        parts: statistics of each part of the examples, by name.
    """

    examples: int
    parts: Mapping[str, PartStatistics]


@dataclass(frozen=True)
class DataReport:
    """Statistics of the data of an experiment; `str` formats them as a table with notes below it.

    Attributes:
        splits: statistics of each split, by name.
        notes: lines below the table.
        fingerprint: sha256 of all examples.
    """

    splits: Mapping[str, SplitStatistics]
    notes: tuple[str, ...]
    fingerprint: str

    def __str__(self) -> str:
        table = list(self._table())
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines = ["  ".join(map(str.ljust, cells, widths)).rstrip() for cells in table]
        return "\n".join([*lines, *self.notes, f"Fingerprint: sha256 {self.fingerprint}"])

    def _table(self) -> Iterator[list[str]]:
        """Yield the cells of the heading and of each part of each split."""
        parts = [part for split in self.splits.values() for part in split.parts.values()]
        headings = list(dict.fromkeys(heading for part in parts for heading in part.columns))
        yield ["split", "part", "examples", "min/50/90/99/max tokens", *headings]
        for split, statistics in self.splits.items():
            for name, part in statistics.parts.items():
                lengths = "/".join(map(str, part.lengths))
                columns = [part.columns.get(heading, "") for heading in headings]
                yield [split, name, f"{statistics.examples:,}", lengths, *columns]


def length_quantiles(lengths: Sequence[int]) -> tuple[int, ...]:
    """Return lengths at `QUANTILES`, each a length that occurs; zeros if there are none.

    >>> length_quantiles([1, 2, 3, 4]), length_quantiles([])
    ((1, 3, 4, 4, 4), (0, 0, 0, 0, 0))
    """
    if not lengths:
        return (0,) * len(QUANTILES)
    return tuple(int(length) for length in np.quantile(lengths, QUANTILES, method="higher"))

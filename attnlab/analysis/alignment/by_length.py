"""The alignment error rate of short, middle and long sentences."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from attnlab.tasks.translation.alignment import aer

PARTS = 3
"""Number of groups."""
FEWEST = 20
"""Smallest number of sentences of a group; with fewer there are no groups."""


@dataclass(frozen=True)
class LengthGroup:
    """Sentences of similar length.

    Attributes:
        words: smallest and largest number of source words.
        sentences: number of sentences.
        aer: AER of each row of the report, in percent.
    """

    words: tuple[int, int]
    sentences: int
    aer: tuple[float, ...]

    @property
    def label(self) -> str:
        """How a column of the group is titled, such as `8–15 words`."""
        return "–".join(map(str, dict.fromkeys(self.words))) + " words"


def by_length(counts: Sequence[Int[np.ndarray, "n 4"]], words: Int[np.ndarray, " n"]) -> tuple[LengthGroup, ...]:
    """Return the AER of the shortest, the middle and the longest third of the sentences; () if there are too few.

    Sentences of the same length are in the same group, so that groups are thirds only about.

    Args:
        counts: |A|, |S|, |A ∩ S| and |A ∩ P| of each sentence, for every row of a report.
        words: number of source words of each sentence.

    >>> counts = np.tile([1, 1, 1, 1], (60, 1))
    >>> [group.label for group in by_length([counts], np.arange(60) // 3 + 1)]
    ['1–7 words', '8–14 words', '15–20 words']
    """
    bounds = np.quantile(words, np.arange(1, PARTS) / PARTS, method="inverted_cdf") if len(words) else []
    group = np.searchsorted(bounds, words, side="left")
    members = [group == part for part in range(PARTS)]
    if min(int(member.sum()) for member in members) < FEWEST:
        return ()
    return tuple(
        LengthGroup(
            (int(words[member].min()), int(words[member].max())),
            int(member.sum()),
            tuple(aer(row[member]) for row in counts),
        )
        for member in members
    )

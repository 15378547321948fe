"""A row of a table of alignments: AER, precision, recall and F1, with an interval over sentences."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from attnlab.analysis.alignment.attention import Choice
from attnlab.data.translation.word_alignment import Gold
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.translation.alignment import AlignmentScore, aer, alignment_counts, pooled_score


@dataclass(frozen=True, eq=False)
class AlignmentRow:
    """An aligner's agreement with gold alignment.

    Attributes:
        name: the aligner.
        score: AER, precision, recall and F1 in percent, pooled over the sentences.
        aer_interval: 95% bootstrap interval of AER over sentences; None for fewer than 20.
        counts: |A|, |S|, |A ∩ S| and |A ∩ P| of each sentence, for a paired comparison of two rows
            (`tasks.bootstrap.paired_difference` with `tasks.translation.alignment.aer`).
        choice: which attention is read; None for what is not attention.
    """

    name: str
    score: AlignmentScore
    aer_interval: tuple[float, float] | None
    counts: Int[np.ndarray, "n 4"]
    choice: Choice | None = None


def alignment_row(
    name: str, predicted: Sequence[Collection[tuple[int, int]]], golds: Sequence[Gold], choice: Choice | None = None
) -> AlignmentRow:
    """Compare alignments with gold alignments (see `tasks.translation.alignment.alignment_score`).

    Args:
        name: the aligner.
        predicted: predicted links of each sentence.
        golds: gold alignment of the same sentences.
        choice: which attention is read; None for what is not attention.

    >>> gold = Gold(sure=frozenset({(0, 0)}), possible=frozenset({(0, 0)}))
    >>> alignment_row("diagonal", [{(0, 0)}], [gold]).score.aer
    0.0
    """
    return row_of_counts(name, alignment_counts(predicted, golds), choice)


def row_of_counts(name: str, counts: Int[np.ndarray, "n 4"], choice: Choice | None = None) -> AlignmentRow:
    """Return the row of an aligner from the counts of its sentences; `choice` as in `alignment_row`."""
    bounds = interval(counts, aer)
    return AlignmentRow(name, pooled_score(counts), (bounds[0], bounds[1]) if bounds else None, counts, choice)

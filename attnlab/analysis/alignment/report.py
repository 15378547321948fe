"""Agreement of a model's attention with gold alignment: chosen on one part of the sentences, reported for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attnlab.analysis.alignment.attention import (
    QUANTITIES,
    READINGS,
    AttendedSentence,
    Choice,
    Quantity,
    Reading,
    attention_counts,
    attention_links,
    choices,
)
from attnlab.analysis.alignment.baselines import diagonal
from attnlab.analysis.alignment.by_length import LengthGroup, by_length
from attnlab.analysis.alignment.sentences import SourceAttention
from attnlab.analysis.alignment.statistical import ALIGNERS, Bidirectional
from attnlab.analysis.alignment.symmetrization import symmetrize, transposed
from attnlab.analysis.alignment.table import AlignmentRow, alignment_row
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, Pairs, words_of
from attnlab.tasks.bootstrap import Difference, paired_difference
from attnlab.tasks.translation.alignment import AlignmentScore, aer, pooled_score

SYMMETRIZATIONS = ("intersection", "union", "grow-diag-final-and")
"""The heuristics of `symmetrization.METHODS` that a report has."""
ATTENTION, REVERSE = "attention", "attention, reverse"
"""Names of the rows of the chosen attention, and of that of the model of the other direction."""


@dataclass(frozen=True)
class ScoredChoice:
    """A layer, head, reading and quantity with its score on the sentences for development."""

    choice: Choice
    score: AlignmentScore


@dataclass(frozen=True, eq=False)
class AlignmentReport:
    """The agreement of attention and of baselines with gold alignment.

    Attributes:
        attention: the layers that the report is of.
        reverse_attention: those of the model of the other direction; None without one.
        dev: number of sentences for development, the first ones.
        test: number of the other sentences.
        choices: every layer, head, reading and quantity, scored on the sentences for development.
        chosen: that of the weights with the lowest AER there.
        reverse_chosen: that of the model of the other direction; None without one.
        rows: scores on the other sentences, the chosen attention first. Then what has the lowest AER of the other
            reading and of the norms on the sentences for development, and the baselines.
        differences: of the AER of each row and that of the first, paired over sentences; None for the first.
        by_length: AER of every row for short, middle and long sentences; () if there are too few.
    """

    attention: SourceAttention
    reverse_attention: SourceAttention | None
    dev: int
    test: int
    choices: tuple[ScoredChoice, ...]
    chosen: Choice
    reverse_chosen: Choice | None
    rows: tuple[AlignmentRow, ...]
    differences: tuple[Difference | None, ...]
    by_length: tuple[LengthGroup, ...]

    def attention_of(self, row: AlignmentRow) -> SourceAttention:
        """Return the layers that the choice of a row is of: those of one model, or of that of the other direction."""
        reverse = self.reverse_attention if row.name == REVERSE else None
        return reverse or self.attention

    def as_data(self) -> dict[str, Any]:
        """Return the report as JSON's types."""
        reverse, reverse_chosen = self.reverse_attention, self.reverse_chosen
        chosen = reverse.as_data(reverse_chosen) if reverse and reverse_chosen else None
        return {
            "dev_sentences": self.dev,
            "test_sentences": self.test,
            "chosen": self.attention.as_data(self.chosen),
            "reverse_chosen": chosen,
            "test": [self._row_as_data(*pair) for pair in zip(self.rows, self.differences, strict=True)],
            "by_length": [asdict(group) for group in self.by_length],
            "dev": [self.attention.as_data(scored.choice) | _score(scored.score) for scored in self.choices],
        }

    def _row_as_data(self, row: AlignmentRow, difference: Difference | None) -> dict[str, Any]:
        choice = None if row.choice is None else self.attention_of(row).as_data(row.choice)
        data = {"name": row.name, "choice": choice, **_score(row.score), "aer_ci95": row.aer_interval}
        if difference is None:
            return data
        interval = None if difference.low is None else (difference.low, difference.high)
        return data | {
            "minus_first": difference.difference,
            "minus_first_ci95": interval,
            "minus_first_p": difference.p,
        }


def alignment_report(
    sentences: Sequence[AlignedSentence],
    attention: Sequence[AttendedSentence],
    dev: int,
    *,
    reverse: Sequence[AttendedSentence] | None = None,
    aligners: Mapping[str, Bidirectional] | None = None,
) -> AlignmentReport:
    """Choose the layer, head and reading on the first sentences, and compare it with baselines on the others.

    Args:
        sentences: sentence pairs with gold alignment.
        attention: the model's attention to them.
        dev: number of sentences for development.
        reverse: the attention of a model of the other direction to the exchanged pairs, for symmetrization; its layer,
            head and reading are chosen likewise.
        aligners: links of statistical aligners by their key in `ALIGNERS`.

    Reference: Och & Ney 2003 (AER); the choice on development data: Kobayashi et al. 2020, section 5.
    """
    if not 0 < dev < len(sentences):
        raise ValueError(f"alignment_report: dev must be between 1 and {len(sentences) - 1}, not {dev}")
    golds = [sentence.gold for sentence in sentences]
    scored = _scored(attention[:dev])
    chosen, reverse_chosen, backward = _best(scored, "weights"), None, None
    if reverse is not None:
        reverse_chosen = _best(_scored(reverse[:dev]), "weights")
        backward = [transposed(attention_links(sentence, reverse_chosen)) for sentence in reverse]
    links = Bidirectional([attention_links(sentence, chosen) for sentence in attention], backward)
    rows = _rows(ATTENTION, links, golds, dev, (chosen, reverse_chosen))
    rows += [_contrast(attention[dev:], choice) for choice in _contrasts(scored, chosen)]
    for name, aligned in (aligners or {}).items():
        rows += _rows(ALIGNERS[name], aligned, golds, dev)
    lengths = [(len(words_of(sentence.source)), len(words_of(sentence.target))) for sentence in sentences[dev:]]
    rows.append(alignment_row("diagonal", [diagonal(*pair) for pair in lengths], golds[dev:]))
    first, *others = rows
    differences = [None, *(paired_difference(row.counts, first.counts, aer) for row in others)]
    return AlignmentReport(
        SourceAttention.of(attention[0].attention),
        None if reverse is None else SourceAttention.of(reverse[0].attention),
        dev, len(sentences) - dev, tuple(scored), chosen, reverse_chosen, tuple(rows), tuple(differences),
        by_length([row.counts for row in rows], np.array([source for source, _ in lengths])),
    )  # fmt: skip


def _scored(dev: Sequence[AttendedSentence]) -> list[ScoredChoice]:
    return [ScoredChoice(choice, pooled_score(attention_counts(dev, choice))) for choice in choices(dev[0].attention)]


def _best(scored: Sequence[ScoredChoice], quantity: Quantity, reading: Reading | None = None) -> Choice:
    """Return the choice with the lowest AER among those of a quantity, and of one reading or of any."""
    readings = READINGS if reading is None else (reading,)
    of_kind = [entry for entry in scored if entry.choice.quantity == quantity and entry.choice.reading in readings]
    return min(of_kind, key=lambda entry: entry.score.aer).choice


def _contrasts(scored: Sequence[ScoredChoice], chosen: Choice) -> list[Choice]:
    """Return the best choice of every other quantity and reading than the chosen one's, the chosen reading first."""
    found = {entry.choice.quantity for entry in scored}
    readings = sorted(READINGS, key=lambda reading: reading != chosen.reading)
    best = [_best(scored, quantity, reading) for quantity in QUANTITIES if quantity in found for reading in readings]
    return [choice for choice in best if choice != chosen]


def _contrast(test: Sequence[AttendedSentence], choice: Choice) -> AlignmentRow:
    """Return the row of a choice beside the chosen one."""
    quantity = ATTENTION if choice.quantity == "weights" else f"{ATTENTION} norms"
    links = [attention_links(sentence, choice) for sentence in test]
    golds = [sentence.gold for sentence in test]
    return alignment_row(f"{quantity}, {choice.reading.replace('_', ' ')}", links, golds, choice)


def _rows(
    name: str,
    links: Bidirectional,
    golds: Sequence[Gold],
    dev: int,
    read: tuple[Choice | None, Choice | None] = (None, None),
) -> list[AlignmentRow]:
    """Return the row of one direction, or those of both directions and of their symmetrizations.

    Args:
        name: the aligner.
        links: its links.
        golds: gold alignment of all sentences.
        dev: number of the first ones, which are left out.
        read: the attention that is read in each direction.
    """

    def row(name: str, predicted: Sequence[Pairs], choice: Choice | None = None) -> AlignmentRow:
        return alignment_row(name, predicted[dev:], golds[dev:], choice)

    if links.backward is None:
        return [row(name, links.forward, read[0])]
    both = links.forward, links.backward
    symmetrized = [row(f"{name}, {method}", symmetrize(method, *both)) for method in SYMMETRIZATIONS]
    return [row(name, links.forward, read[0]), row(f"{name}, reverse", links.backward, read[1]), *symmetrized]


def _score(score: AlignmentScore) -> dict[str, float]:
    return {"aer": score.aer, "precision": score.precision, "recall": score.recall, "f1": score.f1}

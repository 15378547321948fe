"""Agreement of a model's attention with gold alignment: chosen on one part of the sentences, reported for the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlab.analysis.alignment.attention import AttendedSentence, Choice, attention_counts, attention_links, choices
from attnlab.analysis.alignment.baselines import diagonal
from attnlab.analysis.alignment.statistical import ALIGNERS, Bidirectional
from attnlab.analysis.alignment.symmetrization import symmetrize, transposed
from attnlab.analysis.alignment.table import AlignmentRow, alignment_row
from attnlab.data.translation.word_alignment import AlignedSentence, Gold, Pairs, words_of
from attnlab.tasks.bootstrap import Difference, paired_difference
from attnlab.tasks.translation.alignment import AlignmentScore, aer, pooled_score

SYMMETRIZATIONS = ("intersection", "union", "grow-diag-final-and")
"""The heuristics of `symmetrization.METHODS` that a report has."""


@dataclass(frozen=True)
class ScoredChoice:
    """A layer, head and reading with its score on the sentences for development."""

    choice: Choice
    score: AlignmentScore


@dataclass(frozen=True, eq=False)
class AlignmentReport:
    """The agreement of attention and of baselines with gold alignment.

    Attributes:
        dev: number of sentences for development, the first ones.
        test: number of the other sentences.
        choices: every layer, head and reading, scored on the sentences for development.
        chosen: the one with the lowest AER there.
        reverse_chosen: that of the model of the other direction; None without one.
        rows: scores on the other sentences, the chosen attention first.
        differences: of the AER of each row and that of the first, paired over sentences; None for the first.
    """

    dev: int
    test: int
    choices: tuple[ScoredChoice, ...]
    chosen: Choice
    reverse_chosen: Choice | None
    rows: tuple[AlignmentRow, ...]
    differences: tuple[Difference | None, ...]

    def as_data(self, layers: Sequence[str]) -> dict[str, Any]:
        """Return the report as JSON's types; `layers` are the names of the model's layers that attend to the source."""
        return {
            "dev_sentences": self.dev,
            "test_sentences": self.test,
            "chosen": choice_as_data(self.chosen, layers),
            "test": [_row_as_data(*pair) for pair in zip(self.rows, self.differences, strict=True)],
            "dev": [choice_as_data(scored.choice, layers) | _score(scored.score) for scored in self.choices],
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

    Reference: Och & Ney 2003 (AER), section 4; the choice on development data: Kobayashi et al. 2020, section 5.
    """
    if not 0 < dev < len(sentences):
        raise ValueError(f"alignment_report: dev must be between 1 and {len(sentences) - 1}, not {dev}")
    golds = [sentence.gold for sentence in sentences]
    scored, chosen = _chosen(attention[:dev])
    directions = {"attention": Bidirectional([attention_links(sentence, chosen) for sentence in attention])}
    reverse_chosen = None
    if reverse is not None:
        _, reverse_chosen = _chosen(reverse[:dev])
        backward = [transposed(attention_links(sentence, reverse_chosen)) for sentence in reverse]
        directions["attention"] = Bidirectional(directions["attention"].forward, backward)
    directions |= {ALIGNERS[name]: links for name, links in (aligners or {}).items()}
    rows = [row for name, links in directions.items() for row in _rows(name, links, golds, dev)]
    lengths = [(len(words_of(sentence.source)), len(words_of(sentence.target))) for sentence in sentences[dev:]]
    rows.append(alignment_row("diagonal", [diagonal(*pair) for pair in lengths], golds[dev:]))
    first, *others = rows
    differences = [None, *(paired_difference(row.counts, first.counts, aer) for row in others)]
    return AlignmentReport(
        dev, len(sentences) - dev, tuple(scored), chosen, reverse_chosen, tuple(rows), tuple(differences)
    )


def choice_as_data(choice: Choice, layers: Sequence[str]) -> dict[str, Any]:
    """Return a choice as JSON's types: the number of its layer and its head, from 1, or null for the mean."""
    layer = None if choice.layer is None else 1 + list(layers).index(choice.layer)
    return {"layer": layer, "head": choice.head, "reading": choice.reading}


def _chosen(dev: Sequence[AttendedSentence]) -> tuple[list[ScoredChoice], Choice]:
    scored = [ScoredChoice(choice, pooled_score(attention_counts(dev, choice))) for choice in choices(dev[0].attention)]
    return scored, min(scored, key=lambda entry: entry.score.aer).choice


def _rows(name: str, links: Bidirectional, golds: Sequence[Gold], dev: int) -> list[AlignmentRow]:
    """Return the row of one direction, or those of both directions and of their symmetrizations."""

    def row(name: str, predicted: Sequence[Pairs]) -> AlignmentRow:
        return alignment_row(name, predicted[dev:], golds[dev:])

    if links.backward is None:
        return [row(name, links.forward)]
    both = links.forward, links.backward
    symmetrized = [row(f"{name}, {method}", symmetrize(method, *both)) for method in SYMMETRIZATIONS]
    return [row(name, links.forward), row(f"{name}, reverse", links.backward), *symmetrized]


def _row_as_data(row: AlignmentRow, difference: Difference | None) -> dict[str, Any]:
    data = {"name": row.name, **_score(row.score), "aer_ci95": row.aer_interval}
    if difference is None:
        return data
    interval = None if difference.low is None else (difference.low, difference.high)
    return data | {"minus_first": difference.difference, "minus_first_ci95": interval, "minus_first_p": difference.p}


def _score(score: AlignmentScore) -> dict[str, float]:
    return {"aer": score.aer, "precision": score.precision, "recall": score.recall, "f1": score.f1}

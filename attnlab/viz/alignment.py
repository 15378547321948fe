"""Tables of the alignment error rate for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from attnlab.analysis.alignment import AlignmentReport, AlignmentRow, Choice, ScoredChoice
from attnlab.tasks.bootstrap import Difference

CHOSEN = "*"
"""Mark of the layer, head and reading that are chosen."""
WIDTH = 130
"""Columns of a terminal in which a table has the scores and their differences."""
SCORES = ("AER", "95% interval", "precision", "recall", "F1")
DIFFERENCES = ("difference", "95% interval")


def choices_table(report: AlignmentReport) -> Table:
    """Return the AER of every layer and head on the sentences for development, a column for each reading."""
    rows: dict[tuple[str | None, int | None], list[ScoredChoice]] = {}
    for entry in report.choices:
        rows.setdefault((entry.choice.layer, entry.choice.head), []).append(entry)
    title = f"AER on the first {report.dev:,} sentences (dev), by what is read as alignment; {CHOSEN} chosen"
    table = _table(title, "layer", "head")
    for choice in (entry.choice for entry in next(iter(rows.values()))):
        table.add_column(f"{choice.quantity}, {choice.reading.replace('_', ' ')}", justify="right", overflow="fold")
    for entries in rows.values():
        marks = [CHOSEN if entry.choice == report.chosen else "" for entry in entries]
        numbers = [f"{mark}{entry.score.aer:.1f}" for mark, entry in zip(marks, entries, strict=True)]
        table.add_row(*_place(report, entries[0].choice)[:2], *numbers)
    return table


def rows_tables(report: AlignmentReport, width: int = WIDTH) -> list[Table]:
    """Return the scores of the chosen attention and of the baselines on the other sentences, and AER by length.

    Args:
        report: the report.
        width: columns of the terminal; below `WIDTH` the differences are a table of their own.
    """
    scores = _table(f"Other {report.test:,} sentences (test)", "aligner", "layer", "head", "step", *SCORES)
    differences = _table("AER minus that of the first row", "aligner", *DIFFERENCES)
    whole = _table(str(scores.title), "aligner", "layer", "head", "step", *SCORES, *DIFFERENCES)
    for row, difference in zip(report.rows, report.differences, strict=True):
        left, right = (row.name, *_read(report, row), *_scores(row)), _difference(difference)
        whole.add_row(*left, *right)
        scores.add_row(*left)
        if difference is not None:
            differences.add_row(row.name, *right)
    lengths = [_lengths_table(report)] if report.by_length else []
    return [*([whole] if width >= WIDTH else [scores, differences]), *lengths]


def _lengths_table(report: AlignmentReport) -> Table:
    """Return the AER of every row for short, middle and long sentences."""
    table = _table("AER by the length of the source", "aligner", *(group.label for group in report.by_length))
    for index, row in enumerate(report.rows):
        table.add_row(row.name, *(f"{group.aer[index]:.1f}" for group in report.by_length))
    return table


def notes(report: AlignmentReport, direction: str = "") -> str:
    """Return what the tables mean, and what was chosen.

    Args:
        report: the report.
        direction: of the model, such as `de→en`; empty if it is not known.
    """
    of = f" ({direction})" if direction else ""
    lines = [
        f"attention{of}: each target token is linked to the source token with the largest weight, with the gold target "
        "as the decoder's input and without end tokens; words are linked if any of their tokens are",
        "step: the decoder's step that outputs the target token, or that has it as input",
    ]
    if any(entry.choice.quantity == "norms" for entry in report.choices):
        lines.append("norms: the length of the weighted value vectors in place of the weights (Kobayashi et al. 2020)")
    lines.append("the diagonal and the statistical aligners: each target word is linked to one source word or none")
    if report.reverse_chosen:
        lines.append(
            "reverse: source and target exchanged; intersection, union, grow-diag-final-and: of both directions"
        )
    lines += [
        "AER, precision and recall: percent, of sure and possible links, pooled over sentences (Och & Ney 2003)",
        f"difference: AER minus that of the first row; intervals: bootstrap over sentences{_too_few(report)}",
        f"chosen on dev: {report.attention.describe(report.chosen)}",
    ]
    if report.reverse_attention and report.reverse_chosen:
        lines.append(f"chosen on dev, reverse: {report.reverse_attention.describe(report.reverse_chosen)}")
    return "\n".join(lines)


def _too_few(report: AlignmentReport) -> str:
    return "" if report.rows[0].aer_interval else " (none for so few)"


def _table(title: str, *columns: str) -> Table:
    """Return a table with columns of text and, behind them, of numbers, which are not broken."""
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        number = column not in ("aligner", "layer", "head", "step")
        table.add_column(column, justify="right" if number else "left", no_wrap=number, overflow="fold")
    return table


def _read(report: AlignmentReport, row: AlignmentRow) -> Sequence[str]:
    return ("", "", "") if row.choice is None else _place(report, row.choice, row)


def _place(report: AlignmentReport, choice: Choice, row: AlignmentRow | None = None) -> Sequence[str]:
    """Return layer, head and step of a choice."""
    attention = report.attention if row is None else report.attention_of(row)
    numbers = (attention.number(choice), 1 if attention.heads == 1 else choice.head)
    return (*("mean" if number is None else str(number) for number in numbers), choice.reading.split("_")[0])


def _scores(row: AlignmentRow) -> Sequence[str]:
    score = row.score
    return (
        f"{score.aer:.1f}",
        _interval(row.aer_interval),
        *(f"{n:.1f}" for n in (score.precision, score.recall, score.f1)),
    )


def _difference(difference: Difference | None) -> Sequence[str]:
    if difference is None:
        return "", ""
    low, high = difference.low, difference.high
    return f"{difference.difference:+.1f}", "" if low is None or high is None else f"{low:+.1f} to {high:+.1f}"


def _interval(bounds: tuple[float, float] | None) -> str:
    return "" if bounds is None else f"{bounds[0]:.1f} to {bounds[1]:.1f}"

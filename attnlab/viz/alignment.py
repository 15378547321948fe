"""Tables of the alignment error rate for the terminal."""

from collections.abc import Sequence

from rich.table import Table

from attnlab.analysis.alignment import AlignmentReport, AlignmentRow, Choice, ScoredChoice, SourceAttention
from attnlab.analysis.alignment.attention import READINGS
from attnlab.tasks.bootstrap import Difference


def choices_table(report: AlignmentReport, attention: SourceAttention) -> Table:
    """Return the scores of every layer and head on the sentences for development, with a column group per reading."""
    table = _table(f"Attention to the source, first {report.dev:,} sentences (* chosen)", "layer", "head")
    for reading in READINGS:
        for name in ("AER", "P", "R"):
            table.add_column(f"{reading.split('_')[0]} {name}", justify="right")
    scored = {entry.choice: entry for entry in report.choices}
    for choice in scored:
        if choice.reading == READINGS[0]:
            places = [Choice(choice.layer, choice.head, reading) for reading in READINGS]
            numbers = [text for place in places for text in _numbers(scored[place], place == report.chosen)]
            layer, head = attention.number(choice), choice.head
            table.add_row("mean" if layer is None else str(layer), "mean" if head is None else str(head), *numbers)
    return table


def rows_table(report: AlignmentReport) -> Table:
    """Return the scores of the chosen attention and of the baselines on the other sentences."""
    table = _table(f"Other {report.test:,} sentences", "aligner")
    headings = ("AER", "95% interval", "precision", "recall", "F1", f"AER − {report.rows[0].name}", "95% interval")
    for heading in headings:
        table.add_column(heading, justify="right")
    for row, difference in zip(report.rows, report.differences, strict=True):
        table.add_row(row.name, *_scores(row), *_difference(difference))
    return table


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=None, header_style="bold", pad_edge=False)
    for column in columns:
        table.add_column(column)
    return table


def _numbers(entry: ScoredChoice, chosen: bool) -> Sequence[str]:
    score = entry.score
    mark = "*" if chosen else ""
    return f"{mark}{score.aer:.1f}", f"{score.precision:.1f}", f"{score.recall:.1f}"


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

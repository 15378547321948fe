"""Tables of results in GitHub-flavored Markdown, computed from the records of runs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from statistics import mean, stdev

from attnlab.results import marked_text
from attnlab.results.groups import RunGroup, group_by_config
from attnlab.results.record import RunRecord
from attnlab.tasks.base import Metric
from attnlab.tasks.notes import NO_INTERVAL, lacks_interval

MARK = "results"
BEGIN, END = marked_text.pair(MARK)
"""Markers in a file; the text between them is replaced."""
NONE = "No runs yet."
LONGEST_OVERRIDE = 100
"""Largest number of characters of an override that are printed."""
PROPERTIES: Mapping[str, Callable[[RunRecord], str]] = {
    "seed": lambda run: str(run.seed),
    "machine": lambda run: run.machine,
    "jax": lambda run: run.jax,
    "commit": lambda run: run.commit,
}
"""Properties of every run: a column of the table where they differ, a line below it where they do not."""


@dataclass(frozen=True)
class Row:
    """One row of a table: a group of runs on one test set."""

    experiment: str
    split: str
    group: RunGroup

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """The runs of the group."""
        return self.group.runs

    def property_of(self, name: str) -> str:
        """Return one of `PROPERTIES`, with all values that it has among the runs."""
        return ", ".join(dict.fromkeys(map(PROPERTIES[name], self.runs)))

    def cell(self, column: Metric) -> str:
        """Format a metric: value and interval of one run, mean ± standard deviation of several, — if it is missing."""
        results = [run.results[self.split] for run in self.runs]
        values = [scores[column.name] for scores in results if scores.get(column.name) is not None]
        if len(values) < len(self.runs):
            return "—"
        return mean_cell(values, results[0].get(f"{column.name}_ci95"), column.digits)

    def training(self) -> str:
        """Format the mean training time, the last step of incomplete training, and the number of resumptions."""
        parts = [duration(mean(run.seconds for run in self.runs))]
        for run in self.runs:
            reached = run.results[self.split].get("trained_to", run.step)
            if not run.finished:
                parts.append(f"**step {reached} of {run.steps}**")
            elif reached < run.steps:
                parts.append(f"stopped early at step {reached} of {run.steps}")
        if resumed := sum(run.interruptions or 0 for run in self.runs):
            parts.append(f"resumed {resumed} time{'s' if resumed > 1 else ''}")
        return ", ".join(dict.fromkeys(parts))


def render(runs: Sequence[RunRecord]) -> str:
    """Return the tables of runs, one per kind of task, with notes below them.

    Rows are sorted by kind, experiment and test set.

    Raises:
        UserError: two runs are the same experiment with the same seed.
    """
    table_rows = sorted(rows(runs), key=lambda row: (row.runs[0].kind, row.experiment, row.split))
    if not table_rows:
        return f"{NONE}\n"
    common = _common_properties(table_rows, list(PROPERTIES))
    blocks = [
        "\n".join(_table(kind, list(group), [name for name in PROPERTIES if name not in common]))
        for kind, group in groupby(table_rows, key=lambda row: row.runs[0].kind)
    ]
    return "\n\n".join([*blocks, " ".join(_notes(table_rows, common))]) + "\n"


def rows(runs: Sequence[RunRecord]) -> Iterator[Row]:
    """Yield a row for each group and test set; a run's name is added where experiments share a name."""
    distinct = {run.directory.resolve(): run for run in runs}
    groups = group_by_config(distinct.values())
    names = [(group.kind, group.name) for group in groups]
    for group in groups:
        ambiguous = names.count((group.kind, group.name)) > 1
        marks = [f"`{group.runs[0].directory.resolve().name}`"] * ambiguous
        marks += ["changed"] * any(run.overrides for run in group.runs)
        name = f"`{group.name}`" + (f" ({', '.join(marks)})" if marks else "")
        for split in dict.fromkeys(split for run in group.runs for split in run.results):
            yield Row(name, split, RunGroup(tuple(run for run in group.runs if split in run.results)))


def mean_cell(values: Sequence[float], interval: Sequence[float] | None, digits: int) -> str:
    """Format the value of one run with its interval, or mean ± standard deviation of several.

    >>> mean_cell([0.5], [0.25, 0.75], 2), mean_cell([0.5], None, 1), mean_cell([1.0, 3.0], None, 1)
    ('0.50 [0.25, 0.75]', '0.5', '2.0 ± 1.4')
    """
    if len(values) > 1:
        return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"
    return with_interval(values[0], interval, f".{digits}f")


def with_interval(value: float, interval: Sequence[float] | None, form: str) -> str:
    """Format a number, and behind it its interval if there is one, all in the same form.

    >>> with_interval(0.5, [-0.25, 0.75], "+.2f"), with_interval(0.5, None, ".1f")
    ('+0.50 [-0.25, +0.75]', '0.5')
    """
    low, high = interval or (None, None)
    return f"{value:{form}}" + ("" if low is None else f" [{low:{form}}, {high:{form}}]")


def insert(text: str, path: Path) -> None:
    """Replace the text between the markers of a file (`marked_text.insert`)."""
    marked_text.insert(text, path, MARK)


def between(path: Path) -> str:
    """Return the text between the markers of a file."""
    return marked_text.between(path, MARK)


def duration(seconds: float) -> str:
    """Format a duration.

    >>> duration(87.4), duration(464), duration(6000)
    ('87 s', '8 min', '1 h 40 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if seconds >= 5970 else f"{60 * hours + minutes} min"


def _common_properties(table_rows: Sequence[Row], names: Sequence[str]) -> dict[str, str]:
    """Return the properties that are equal in all rows."""
    values = {name: {row.property_of(name) for row in table_rows} for name in names}
    return {name: next(iter(distinct)) for name, distinct in values.items() if len(distinct) == 1}


def _table(kind: str, table_rows: Sequence[Row], differing: Sequence[str]) -> Iterator[str]:
    columns = [
        column
        for column in table_rows[0].runs[0].task.reported_metrics
        if any(row.cell(column) != "—" for row in table_rows)
    ]
    constant = _common_properties(table_rows, differing)
    varying = [name for name in differing if name not in constant]
    yield f"Task `{kind}`:\n"
    yield line(["experiment", "test set", *(column.heading for column in columns), "training", *varying])
    yield "|---|---|" + "---:|" * len(columns) + "---|" * (1 + len(varying))
    for row in table_rows:
        cells = [row.cell(column) for column in columns]
        yield line([row.experiment, row.split, *cells, row.training(), *(row.property_of(name) for name in varying)])
    notes = [f"{name} {value}" for name, value in constant.items()]
    scores = [run.results[row.split] for row in table_rows for run in row.runs]
    signatures = sorted({(name, run[name]) for run in scores for name in run if name.endswith("_signature")})
    notes += [f"{name.removesuffix('_signature')} `{value}`" for name, value in signatures]
    reasons = [
        (column.heading, run.get(f"{column.name}_note"))
        for column in table_rows[0].runs[0].task.reported_metrics
        for run in scores
    ]
    notes += [f"{heading}: no score: {reason}" for heading, reason in dict.fromkeys(reasons) if reason]
    if notes:
        yield f"\n{'; '.join(notes)}."


def _notes(table_rows: Sequence[Row], common: Mapping[str, str]) -> Iterator[str]:
    runs = [run for row in table_rows for run in row.runs]
    if common:
        yield f"All rows: {'; '.join(f'{name} {value}' for name, value in common.items())}."
    single = [row.runs[0].results[row.split] for row in table_rows if len(row.runs) == 1]
    if any(name.endswith("_ci95") and value for scores in single for name, value in scores.items()):
        yield "[low, high] is the 95% bootstrap interval over the examples of the test set, for a single seed."
    if any(lacks_interval(scores, name) for scores in single for name in scores):
        yield f"{NO_INTERVAL.capitalize()}."
    if any(len(row.runs) > 1 for row in table_rows):
        yield "Scores with ± are mean and standard deviation over the seeds."
    for row in {row.experiment: row for row in table_rows}.values():
        texts = dict.fromkeys(text for run in row.runs for text in run.overrides)
        if texts:
            short = (text if len(text) <= LONGEST_OVERRIDE else f"{text[: LONGEST_OVERRIDE - 3]}..." for text in texts)
            yield f"{row.experiment} uses {', '.join(f'`{text}`' for text in short)}."
    yield "Training is wall time, including compilation and validation, without pauses between sessions."
    incomplete = sorted({row.experiment for row in table_rows for run in row.runs if not run.repeatable})
    if incomplete:
        yield (
            f"Comparisons with {', '.join(incomplete)} require retraining: their per-example scores were not archived."
        )
    unknown = sorted({row.experiment for row in table_rows for run in row.runs if run.interruptions is None})
    if all(run.interruptions is None for run in runs):
        yield "Interruptions of training were not recorded."
    elif unknown:
        yield f"Interruptions of training were not recorded for {', '.join(unknown)}."


def line(cells: Sequence[str]) -> str:
    """Format a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

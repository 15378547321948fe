"""Tables of results in GitHub's Markdown, made from records of runs alone, so that anyone can make them again."""

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
"""Marks in a file; the text between them is replaced."""
NONE = "There is no run yet."
LONGEST_OVERRIDE = 100
"""Characters of an override that are printed."""
ABOUT: Mapping[str, Callable[[RunRecord], str]] = {
    "seed": lambda run: str(run.seed),
    "machine": lambda run: run.machine,
    "jax": lambda run: run.jax,
    "commit": lambda run: run.commit,
}
"""Properties of every run: a column if they differ between rows, a line below the tables if they do not."""


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

    def about(self, name: str) -> str:
        """Return a property of `ABOUT` of all runs."""
        return ", ".join(dict.fromkeys(map(ABOUT[name], self.runs)))

    def cell(self, column: Metric) -> str:
        """Format a metric: one run with its interval, several as mean ± standard deviation, — if there is none."""
        results = [run.results[self.split] for run in self.runs]
        values = [scores[column.name] for scores in results if scores.get(column.name) is not None]
        shown = lambda value: f"{value:.{column.digits}f}"  # noqa: E731
        if len(values) < len(self.runs):
            return "—"
        if len(values) > 1:
            return f"{shown(mean(values))} ± {shown(stdev(values))}"
        low, high = results[0].get(f"{column.name}_ci95") or (None, None)
        return shown(values[0]) + ("" if low is None else f" [{shown(low)}, {shown(high)}]")

    def training(self) -> str:
        """Format the mean time of the runs, the step reached before the end, and how often training was resumed."""
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
    """Make the tables, one for each kind of task, and notes below them.

    Rows are ordered by kind, experiment and test set, whatever the order of the runs.

    Raises:
        UserError: two runs are the same experiment with the same seed.
    """
    made = sorted(rows(runs), key=lambda row: (row.runs[0].kind, row.experiment, row.split))
    if not made:
        return f"{NONE}\n"
    common = {name: made[0].about(name) for name in ABOUT if len({row.about(name) for row in made}) == 1}
    blocks = [
        "\n".join(_table(kind, list(group), [name for name in ABOUT if name not in common]))
        for kind, group in groupby(made, key=lambda row: row.runs[0].kind)
    ]
    return "\n\n".join([*blocks, " ".join(_notes(made, common))]) + "\n"


def rows(runs: Sequence[RunRecord]) -> Iterator[Row]:
    """Yield one row for each group and test set; experiments with the same name also get the name of a run."""
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


def insert(text: str, path: Path) -> None:
    """Put a text between the marks of a file (`marked_text.insert`)."""
    marked_text.insert(text, path, MARK)


def between(path: Path) -> str:
    """Return the text between the marks of a file."""
    return marked_text.between(path, MARK)


def duration(seconds: float) -> str:
    """Format a time.

    >>> duration(87.4), duration(464), duration(6000)
    ('87 s', '8 min', '1 h 40 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if seconds >= 5970 else f"{60 * hours + minutes} min"


def _table(kind: str, made: Sequence[Row], differing: Sequence[str]) -> Iterator[str]:
    columns = [
        column for column in made[0].runs[0].task.reported_metrics if any(row.cell(column) != "—" for row in made)
    ]
    constant = {name: made[0].about(name) for name in differing if len({row.about(name) for row in made}) == 1}
    rest = [name for name in differing if name not in constant]
    yield f"Task `{kind}`:\n"
    yield line(["experiment", "test set", *(column.heading for column in columns), "training", *rest])
    yield "|---|---|" + "---:|" * len(columns) + "---|" * (1 + len(rest))
    for row in made:
        cells = [row.cell(column) for column in columns]
        yield line([row.experiment, row.split, *cells, row.training(), *(row.about(name) for name in rest)])
    notes = [f"{name} {value}" for name, value in constant.items()]
    scores = [run.results[row.split] for row in made for run in row.runs]
    signatures = sorted({(name, run[name]) for run in scores for name in run if name.endswith("_signature")})
    notes += [f"{name.removesuffix('_signature')} `{value}`" for name, value in signatures]
    reasons = [
        (column.heading, run.get(f"{column.name}_note"))
        for column in made[0].runs[0].task.reported_metrics
        for run in scores
    ]
    notes += [f"{heading}: no score: {reason}" for heading, reason in dict.fromkeys(reasons) if reason]
    if notes:
        yield f"\n{'; '.join(notes)}."


def _notes(made: Sequence[Row], common: Mapping[str, str]) -> Iterator[str]:
    runs = [run for row in made for run in row.runs]
    if common:
        yield f"All rows: {'; '.join(f'{name} {value}' for name, value in common.items())}."
    alone = [row.runs[0].results[row.split] for row in made if len(row.runs) == 1]
    if any(name.endswith("_ci95") and value for scores in alone for name, value in scores.items()):
        yield "[low, high] is the 95% bootstrap interval over the examples of the test set, for one seed."
    if any(lacks_interval(scores, name) for scores in alone for name in scores):
        yield f"{NO_INTERVAL.capitalize()}."
    if any(len(row.runs) > 1 for row in made):
        yield "± is the standard deviation over the seeds, after their mean."
    for row in {row.experiment: row for row in made}.values():
        texts = dict.fromkeys(text for run in row.runs for text in run.overrides)
        if texts:
            short = (text if len(text) <= LONGEST_OVERRIDE else f"{text[: LONGEST_OVERRIDE - 3]}..." for text in texts)
            yield f"{row.experiment} by {', '.join(f'`{text}`' for text in short)}."
    yield "Training is wall time with compilation and evaluations on dev, without pauses between sessions."
    gone = sorted({row.experiment for row in made for run in row.runs if not run.repeatable})
    if gone:
        yield (
            f"Comparisons with {', '.join(gone)} cannot be repeated until they are retrained: their per-example scores "
            "were not archived."
        )
    unknown = sorted({row.experiment for row in made for run in row.runs if run.interruptions is None})
    if all(run.interruptions is None for run in runs):
        yield "Whether a training was interrupted was not recorded."
    elif unknown:
        yield f"Whether the training was interrupted was not recorded for {', '.join(unknown)}."


def line(cells: Sequence[str]) -> str:
    """Format a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

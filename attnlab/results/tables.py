"""Tables of results in GitHub's Markdown, made from the facts of runs alone: what a README quotes can be made again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from statistics import mean, stdev

from attnlab.config.errors import UserError
from attnlab.results import marked_text
from attnlab.results.record import Facts
from attnlab.tasks.base import Metric
from attnlab.tasks.notes import FEW, few

MARK = "results"
BEGIN, END = marked_text.pair(MARK)
"""Marks in a file; what stands between them is replaced."""
NONE = "No run is kept yet."
LONGEST_OVERRIDE = 100
"""Characters of an override that are shown."""
ABOUT: Mapping[str, Callable[[Facts], str]] = {
    "seed": lambda run: str(run.seed),
    "machine": lambda run: run.machine,
    "jax": lambda run: run.jax,
    "commit": lambda run: run.commit,
}
"""What is told of every run: in a column where it differs, in a line below where it does not."""


@dataclass(frozen=True)
class Row:
    """One line of a table: the runs of an experiment that differ in nothing but the seed, on one test set."""

    experiment: str
    split: str
    runs: tuple[Facts, ...]

    def about(self, name: str) -> str:
        """What `ABOUT` tells, of all its runs."""
        return ", ".join(dict.fromkeys(map(ABOUT[name], self.runs)))

    def cell(self, column: Metric) -> str:
        """A score: of one run with its interval, of several their mean ± standard deviation; — where there is none."""
        found = [run.results[self.split] for run in self.runs]
        values = [scores[column.name] for scores in found if scores.get(column.name) is not None]
        shown = lambda value: f"{value:.{column.digits}f}"  # noqa: E731
        if len(values) < len(self.runs):
            return "—"
        if len(values) > 1:
            return f"{shown(mean(values))} ± {shown(stdev(values))}"
        low, high = found[0].get(f"{column.name}_ci95") or (None, None)
        return shown(values[0]) + ("" if low is None else f" [{shown(low)}, {shown(high)}]")

    def training(self) -> str:
        """How long it took, the mean of the runs; how far it came where that is not its end; how often resumed."""
        told = [duration(mean(run.seconds for run in self.runs))]
        for run in self.runs:
            reached = run.results[self.split].get("trained_to", run.step)
            if not run.finished:
                told.append(f"**step {reached} of {run.steps}**")
            elif reached < run.steps:
                told.append(f"stopped at step {reached} of {run.steps}, no longer better")
        if resumed := sum(run.interruptions or 0 for run in self.runs):
            told.append(f"resumed {resumed} time{'s' if resumed > 1 else ''}")
        return ", ".join(dict.fromkeys(told))


def page(facts: Sequence[Facts]) -> str:
    """Write the tables, one a kind of task, and below them what is the same in all.

    The order is that of kind, experiment and test set, whatever the order of the runs.

    Raises:
        UserError: two runs are the same experiment with the same seed.
    """
    made = sorted(rows(facts), key=lambda row: (row.runs[0].kind, row.experiment, row.split))
    if not made:
        return f"{NONE}\n"
    common = {name: made[0].about(name) for name in ABOUT if len({row.about(name) for row in made}) == 1}
    blocks = [
        "\n".join(_table(kind, list(group), [name for name in ABOUT if name not in common]))
        for kind, group in groupby(made, key=lambda row: row.runs[0].kind)
    ]
    return "\n\n".join([*blocks, " ".join(_notes(made, common))]) + "\n"


def rows(facts: Sequence[Facts]) -> Iterator[Row]:
    """Put together the runs that differ in nothing but the seed; experiments of one name get that of their run too."""
    alike: dict[str, list[Facts]] = {}
    for run in {run.directory.resolve(): run for run in facts}.values():
        alike.setdefault(run.identity, []).append(run)
    names = [(group[0].kind, group[0].name) for group in alike.values()]
    for group in alike.values():
        group.sort(key=lambda run: run.seed)
        for first, second in pairwise(group):
            if first.seed == second.seed:
                one, other = sorted(map(str, (first.directory, second.directory)))
                raise UserError(f"{one} and {other}: the same experiment with the same seed; give one of them")
        first = group[0]
        ambiguous = names.count((first.kind, first.name)) > 1
        told = [f"`{first.directory.resolve().name}`"] * ambiguous + ["changed"] * any(run.overrides for run in group)
        name = f"`{first.name}`" + (f" ({', '.join(told)})" if told else "")
        for split in dict.fromkeys(split for run in group for split in run.results):
            yield Row(name, split, tuple(run for run in group if split in run.results))


def insert(text: str, path: Path) -> None:
    """Put a text between the marks of a file (`marks.insert`)."""
    marked_text.insert(text, path, MARK)


def between(path: Path) -> str:
    """Return what stands between the marks of a file."""
    return marked_text.between(path, MARK)


def duration(seconds: float) -> str:
    """Tell a time as a table does.

    >>> duration(87.4), duration(464), duration(6000)
    ('87 s', '8 min', '1 h 40 min')
    """
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min" if seconds >= 5970 else f"{60 * hours + minutes} min"


def _table(kind: str, made: Sequence[Row], differing: Sequence[str]) -> Iterator[str]:
    reported = made[0].runs[0].task.reported_metrics
    columns = [column for column in reported if any(row.cell(column) != "—" for row in made)]
    own = {name: made[0].about(name) for name in differing if len({row.about(name) for row in made}) == 1}
    rest = [name for name in differing if name not in own]
    yield f"Task `{kind}`:\n"
    yield line(["experiment", "test set", *(column.heading for column in columns), "training", *rest])
    yield "|---|---|" + "---:|" * len(columns) + "---|" * (1 + len(rest))
    for row in made:
        cells = [row.cell(column) for column in columns]
        yield line([row.experiment, row.split, *cells, row.training(), *(row.about(name) for name in rest)])
    notes = [f"{name} {value}" for name, value in own.items()]
    scores = [run.results[row.split] for row in made for run in row.runs]
    signatures = sorted({(name, each[name]) for each in scores for name in each if name.endswith("_signature")})
    notes += [f"{name.removesuffix('_signature')} `{value}`" for name, value in signatures]
    whys = [(column.heading, each.get(f"{column.name}_note")) for column in reported for each in scores]
    notes += [f"{heading}: no score: {why}" for heading, why in dict.fromkeys(whys) if why]
    if notes:
        yield f"\n{'; '.join(notes)}."


def _notes(made: Sequence[Row], common: Mapping[str, str]) -> Iterator[str]:
    runs = [run for row in made for run in row.runs]
    if common:
        yield f"Of every row: {'; '.join(f'{name} {value}' for name, value in common.items())}."
    alone = [row.runs[0].results[row.split] for row in made if len(row.runs) == 1]
    if any(name.endswith("_ci95") and value for scores in alone for name, value in scores.items()):
        yield "[low, high] is the 95% bootstrap interval over the examples of the test set, for one seed."
    if any(few(scores, name) for scores in alone for name in scores):
        yield f"{FEW.capitalize()}."
    if any(len(row.runs) > 1 for row in made):
        yield "± is the standard deviation over the seeds, after their mean."
    for row in {row.experiment: row for row in made}.values():
        texts = dict.fromkeys(text for run in row.runs for text in run.overrides)
        if texts:
            short = (text if len(text) <= LONGEST_OVERRIDE else f"{text[: LONGEST_OVERRIDE - 3]}..." for text in texts)
            yield f"{row.experiment} by {', '.join(f'`{text}`' for text in short)}."
    yield "Training is wall time with compilation and the looks at dev, without the time between its sessions."
    unknown = sorted({row.experiment for row in made for run in row.runs if run.interruptions is None})
    if all(run.interruptions is None for run in runs):
        yield "Whether a training was interrupted was not recorded."
    elif unknown:
        yield f"Whether the training was interrupted was not recorded for {', '.join(unknown)}."


def line(cells: Sequence[str]) -> str:
    """Write a row of a table."""
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"

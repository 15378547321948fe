"""Comparison of two groups of runs on the same test sets, with bootstrap intervals over the examples."""

from collections.abc import Iterator, Mapping
from statistics import mean, stdev

import numpy as np

from attnlab.config.difference import iter_differences
from attnlab.config.errors import UserError
from attnlab.results.groups import RunGroup
from attnlab.results.per_example import per_example_file
from attnlab.results.tables import PROPERTIES, line
from attnlab.tasks.base import Metric
from attnlab.tasks.bootstrap import MIN_EXAMPLES, RESAMPLES, Difference, paired_difference
from attnlab.tasks.notes import NO_INTERVAL

NOTE = (
    f"[low, high] is the 95% paired-bootstrap interval over {RESAMPLES:,} resamples of the test set's examples. p is "
    "twice the fraction of resamples in which the difference had the opposite sign or was zero, but at least 2 / 2^m, "
    "where m is the number of examples on which the two differ. Both account for the choice of test examples, not for "
    "the choice of the seed."
)
SEEDS = "Scores are mean ± standard deviation over the seeds; differences are between means over the seeds."
Rows = Mapping[str, np.ndarray]
"""Metric -> per-example scores [examples, runs, ...]."""


def render(first: RunGroup, second: RunGroup) -> str:
    """Compare two groups on every test set for which both have per-example scores, in Markdown.

    Raises:
        UserError: the groups have different tasks, share no test set, were evaluated on different examples, or lack
            per-example scores.
    """
    if first.kind != second.kind:
        raise UserError(
            f"different tasks: {first.directories} is a run of {first.kind}, {second.directories} of {second.kind}"
        )
    shared = [split for split in first.splits() if split in second.splits()]
    if not shared:
        raise UserError(
            f"no test set in common: {first.directories} was evaluated on {', '.join(first.splits())}, "
            f"{second.directories} on {', '.join(second.splits())}"
        )
    pairs: dict[str, tuple[Rows, Rows]] = {}
    for split in shared:
        scores, other_scores = first.per_example(split), second.per_example(split)
        if scores and other_scores:
            if scores[0] != other_scores[0]:
                raise UserError(f"{first.directories} and {second.directories}: the examples of {split} differ")
            pairs[split] = scores[1], other_scores[1]
    if not pairs:
        raise UserError(_missing(first, second, shared[0]))
    notes = [f"Not compared: {split}, without per-example scores.\n" for split in shared if split not in pairs]
    notes += [f"{text}\n" for split in pairs for text in _notes(first, second, split)]
    notes += [f"{NO_INTERVAL.capitalize()} ({split}).\n" for split, (rows, _) in pairs.items() if _few(rows)]
    if any(len(group.runs) > 1 for group in (first, second)):
        notes.append(f"{SEEDS}\n")
    tables = _tables(first, second, pairs)
    return "\n".join([*tables, "", *notes, *_settings(first, second), *_environments(first, second), NOTE]) + "\n"


def differences(first: RunGroup, rows: Rows, other_rows: Rows) -> Iterator[tuple[Metric, Difference]]:
    """Compare every metric that has per-example scores, in the order of the task's columns.

    The score of a group is the mean of the metric over its runs.

    Args:
        first: the first group, which defines the task.
        rows: per-example scores of the first group.
        other_rows: per-example scores of the second group, for the same examples in the same order.
    """
    for column in first.task.reported_metrics:
        name = column.name
        if name in rows and name in other_rows:
            pair = rows[name], other_rows[name]
            outputs = pair[0].mean(axis=1), pair[1].mean(axis=1)
            score = lambda rows, name=name: _mean_over_runs(first, name, rows)  # noqa: E731
            yield column, paired_difference(*pair, score, outputs=outputs)


def _mean_over_runs(group: RunGroup, name: str, rows: np.ndarray) -> float:
    return mean(group.task.aggregate(name, rows[:, run]) for run in range(rows.shape[1]))


def _missing(first: RunGroup, second: RunGroup, split: str) -> str:
    """Return a message that names a run without per-example scores and the command that writes them."""
    run = next(run for run in (*first.runs, *second.runs) if run.per_example(split) is None)
    if run.archived:
        return (
            f"{run.directory}: {per_example_file(split)} was not archived; to compare this run, retrain it: "
            f" attnlab train {run.directory}/config.yaml --out runs/{run.directory.name}"
        )
    return (
        f"{run.directory}: has no {per_example_file(split)}; attnlab evaluate {run.directory} --split {split} writes it"
    )


def _tables(first: RunGroup, second: RunGroup, pairs: Mapping[str, tuple[Rows, Rows]]) -> Iterator[str]:
    yield line(["test set", "metric", *_headings(first, second), "difference", "p"])
    yield "|---|---|---:|---:|---:|---:|"
    for split, (rows, other_rows) in pairs.items():
        for column, result in differences(first, rows, other_rows):
            signed = lambda value, digits=column.digits: f"{value:+.{digits}f}"  # noqa: E731
            cells = [_cell(first, column, rows), _cell(second, column, other_rows)]
            difference = signed(result.difference)
            if result.low is not None and result.high is not None:
                difference += f" [{signed(result.low)}, {signed(result.high)}]"
            p = "—" if result.p is None else f"{result.p:.3f}"
            yield line([split, column.heading, *cells, difference, p])


def _headings(first: RunGroup, second: RunGroup) -> list[str]:
    """Return the headings of both groups, with full paths if the short ones are equal."""
    names = [_heading(group) for group in (first, second)]
    if names[0] == names[1]:
        names = [f"`{group.directories}`" for group in (first, second)]
    return names


def _heading(group: RunGroup) -> str:
    if len(group.runs) == 1:
        return f"`{group.runs[0].directory.resolve().name}`"
    return f"`{group.name}` (seeds {', '.join(str(run.seed) for run in group.runs)})"


def _cell(group: RunGroup, column: Metric, rows: Rows) -> str:
    per_run = rows[column.name]
    scores = [group.task.aggregate(column.name, per_run[:, run]) for run in range(per_run.shape[1])]
    text = f"{mean(scores):.{column.digits}f}"
    return text if len(scores) == 1 else f"{text} ± {stdev(scores):.{column.digits}f}"


def _few(rows: Rows) -> bool:
    return any(len(values) < MIN_EXAMPLES for values in rows.values())


def _notes(first: RunGroup, second: RunGroup, split: str) -> Iterator[str]:
    """Yield a note for every metric that has no score on a test set, with the reason."""
    for column in first.task.reported_metrics:
        notes = (run.results[split].get(f"{column.name}_note") for run in (*first.runs, *second.runs))
        if (reason := next(filter(None, notes), None)) is not None:
            yield f"Not compared: {column.heading} of {split}: {reason}."


def _settings(first: RunGroup, second: RunGroup) -> Iterator[str]:
    several = max(len(group.runs) for group in (first, second)) > 1
    ignored = ("name", "seed") if several else ("name",)
    configs = dict(first.runs[0].config), dict(second.runs[0].config)
    settings = [(place, *values) for place, *values in iter_differences(*configs) if place not in ignored]
    if not settings:
        yield "The configs are equal.\n"
        return
    yield f"The configs differ in {len(settings)} setting{'s' if len(settings) > 1 else ''}:\n"
    yield from (f"- `{place}`: {value} vs. {other}" for place, value, other in settings)
    yield ""


def _environments(first: RunGroup, second: RunGroup) -> Iterator[str]:
    """Yield the differences in machine, version of jax and commit, which may affect the results too."""
    described = {
        name: tuple(", ".join(dict.fromkeys(map(value_of, group.runs))) for group in (first, second))
        for name, value_of in PROPERTIES.items()
        if name != "seed"
    }
    different = [f"{name} {value} vs. {other}" for name, (value, other) in described.items() if value != other]
    if different:
        yield f"The environments differ: {'; '.join(different)}.\n"

"""Comparison of groups of runs: means, differences and intervals over seeds and over the examples of the test sets."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attnlab.analysis.significance import detectable_difference, holm
from attnlab.config.errors import UserError
from attnlab.results.group_scores import (
    NOTHING,
    GroupDifference,
    GroupScore,
    group_difference,
    group_score,
    metric_scores,
)
from attnlab.results.groups import RunGroup
from attnlab.results.per_example import per_example_file
from attnlab.results.varied import labels, refuse_unvaried


@dataclass(frozen=True)
class Comparison:
    """Groups of runs with their scores and differences.

    Attributes:
        groups: the groups, all of one task.
        names: a short name of every group.
        pairs: indices of the groups that are compared.
        scores: by test set and metric.
        differences: by test set and metric.
        omitted: test sets and metrics that are not compared, with the reason.
    """

    groups: tuple[RunGroup, ...]
    names: tuple[str, ...]
    pairs: tuple[tuple[int, int], ...]
    scores: tuple[GroupScore, ...]
    differences: tuple[GroupDifference, ...]
    omitted: tuple[str, ...]


def compare(
    groups: Sequence[RunGroup], against: Sequence[RunGroup] = (), *, allow_differences: bool = False
) -> Comparison:
    """Compare groups of runs with one another, or with the groups of a baseline.

    Args:
        groups: the groups.
        against: the groups to compare them with; without any, all pairs of `groups` are compared.
        allow_differences: accept groups that differ in more than what is varied (`varied.refuse_unvaried`).
    Raises:
        UserError: there is nothing to compare, the groups have different tasks, share no test set or were evaluated on
            different examples, differ in more than what is varied, or nothing is known but single scores.
    """
    baseline = {group.runs[0].identity for group in against}
    chosen = [group for group in groups if group.runs[0].identity not in baseline]
    everything = (*chosen, *against)
    if len(everything) < 2 or not chosen:
        listed = ", ".join(group.directories for group in everything)
        raise UserError(f"compare needs two groups of runs; these are one: {listed}")
    if against:
        pairs = [(i, j) for i in range(len(chosen)) for j in range(len(chosen), len(everything))]
    else:
        pairs = [(i, j) for i in range(len(chosen)) for j in range(i + 1, len(chosen))]
    _refuse_other_tasks(everything)
    names = labels(everything)
    if not allow_differences:
        refuse_unvaried(everything, names, pairs)
    return _compared(everything, names, pairs)


def _compared(groups: Sequence[RunGroup], names: Sequence[str], pairs: Sequence[tuple[int, int]]) -> Comparison:
    shared = [split for split in groups[0].splits() if all(split in group.splits() for group in groups)]
    if not shared:
        listed = "; ".join(f"{group.directories} on {', '.join(group.splits())}" for group in groups)
        raise UserError(f"no test set in common: evaluated were {listed}")
    scores: list[GroupScore] = []
    differences: list[GroupDifference] = []
    omitted: list[str] = []
    for split in shared:
        rows = _rows(groups, split)
        for metric in groups[0].task.reported_metrics:
            if (reason := _reason(groups, split, metric.name)) is not None:
                omitted.append(f"{metric.heading} of {split}: {reason}")
                continue
            found = {n: metric_scores(group, rows[n], split, metric) for n, group in enumerate(groups)}
            known = {n: values for n, values in found.items() if values is not None}
            scores += [group_score(n, split, metric, values) for n, values in known.items()]
            compared = [(i, j) for i, j in pairs if i in known and j in known]
            differences += _corrected([group_difference(p, split, metric, *(known[n] for n in p)) for p in compared])
    if not any(difference.basis for difference in differences):
        raise UserError(_missing(groups, shared[0]))
    lacking = dict.fromkeys((d.metric.heading, d.split) for d in differences if not d.basis)
    omitted += [f"{heading} of {split}: a single run without per-example scores" for heading, split in lacking]
    kept = tuple(difference for difference in differences if difference.basis != NOTHING)
    return Comparison(tuple(groups), tuple(names), tuple(pairs), tuple(scores), kept, tuple(omitted))


def _refuse_other_tasks(groups: Sequence[RunGroup]) -> None:
    for group in groups[1:]:
        if group.kind != groups[0].kind:
            raise UserError(
                f"different tasks: {groups[0].directories} is a run of {groups[0].kind}, "
                f"{group.directories} of {group.kind}"
            )


def _rows(groups: Sequence[RunGroup], split: str) -> list[dict[str, np.ndarray] | None]:
    """Return the per-example scores of every group, which are of the same examples."""
    found = [group.per_example(split) for group in groups]
    known = [(group, scores) for group, scores in zip(groups, found, strict=True) if scores is not None]
    for group, scores in known[1:]:
        if scores[0] != known[0][1][0]:
            raise UserError(f"{known[0][0].directories} and {group.directories}: the examples of {split} differ")
    return [None if scores is None else scores[1] for scores in found]


def _corrected(differences: Sequence[GroupDifference]) -> Iterator[GroupDifference]:
    """Yield the differences of one metric, with p-values and detectable differences for that many comparisons."""
    tested = [difference.p for difference in differences if difference.p is not None]
    adjusted = iter(holm(tested).tolist() if len(tested) > 1 else [None] * len(tested))
    for difference in differences:
        seen = None
        if difference.standard_error and difference.df:
            seen = detectable_difference(difference.standard_error, difference.df, max(len(tested), 1))
        yield replace(difference, detectable=seen, p_holm=None if difference.p is None else next(adjusted))


def _reason(groups: Sequence[RunGroup], split: str, metric: str) -> str | None:
    """Return why a run has no score, if it says so."""
    notes = (run.results[split].get(f"{metric}_note") for group in groups for run in group.runs)
    return next(filter(None, notes), None)


def _missing(groups: Sequence[RunGroup], split: str) -> str:
    """Return a message that names a run without per-example scores and the command that writes them."""
    runs = [run for group in groups for run in group.runs]
    run = next(run for run in runs if run.per_example(split) is None)
    if run.archived:
        return (
            f"{run.directory}: {per_example_file(split)} was not archived; to compare this run, retrain it: "
            f"attnlab train {run.directory}/config.yaml --out runs/{run.directory.name}"
        )
    return (
        f"{run.directory}: has no {per_example_file(split)}; attnlab evaluate {run.directory} --split {split} writes it"
    )

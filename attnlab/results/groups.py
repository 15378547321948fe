"""Groups of runs: runs that differ in nothing but the seed, the unit of every result."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from glob import glob
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from attnlab.config.difference import iter_differences
from attnlab.config.errors import UserError
from attnlab.results.record import RunRecord
from attnlab.results.run_files import CONFIG
from attnlab.tasks.base import Task


@dataclass(frozen=True)
class RunGroup:
    """Runs of one config, data and pretrained weights, ordered by seed.

    Attributes:
        runs: at least one.
    """

    runs: tuple[RunRecord, ...]

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> Self:
        """Make a group of runs; a run that is given twice counts once.

        Raises:
            UserError: two runs differ in more than the seed, or have the same seed.
        """
        distinct = {run.directory.resolve(): run for run in runs}
        ordered = sorted(distinct.values(), key=lambda run: run.seed)
        for run in ordered[1:]:
            if run.identity != ordered[0].identity:
                raise UserError(
                    f"{ordered[0].directory} and {run.directory} are not of one group: {_difference(ordered[0], run)}; "
                    "runs of a group differ in nothing but the seed"
                )
        for first, second in pairwise(ordered):
            if first.seed == second.seed:
                names = " and ".join(sorted(map(str, (first.directory, second.directory))))
                raise UserError(f"{names}: the same experiment with the same seed; give one of them")
        return cls(tuple(ordered))

    @property
    def name(self) -> str:
        """The name of the experiment."""
        return self.runs[0].name

    @property
    def kind(self) -> str:
        """The kind of the task."""
        return self.runs[0].kind

    @property
    def task(self) -> type[Task]:
        """The class of the task."""
        return self.runs[0].task

    @property
    def directories(self) -> str:
        """The directories of the runs, for a message."""
        return ", ".join(str(run.directory) for run in self.runs)

    def splits(self) -> list[str]:
        """List the test sets on which every run was evaluated."""
        return [split for split in self.runs[0].results if all(split in run.results for run in self.runs)]

    def per_example(self, split: str) -> tuple[str, dict[str, np.ndarray]] | None:
        """Return the fingerprint of a split's examples, and metric -> rows of shape [examples, runs, ...].

        None if a run has no per-example scores of the split.

        Raises:
            UserError: two runs were evaluated on different examples.
        """
        found = [run.per_example(split) for run in self.runs]
        scores = [run_scores for run_scores in found if run_scores is not None]
        if len(scores) < len(found):
            return None
        for run, run_scores in zip(self.runs, scores, strict=True):
            if run_scores.examples != scores[0].examples:
                raise UserError(
                    f"{self.runs[0].directory} and {run.directory}: the examples of {split} are different; "
                    f"attnlab evaluate {run.directory} --split {split}"
                )
        metrics = [name for name in scores[0].rows if all(name in run_scores.rows for run_scores in scores)]
        return scores[0].examples, {
            name: np.stack([run_scores.rows[name] for run_scores in scores], axis=1) for name in metrics
        }


def group_by_config(runs: Iterable[RunRecord]) -> list[RunGroup]:
    """Sort runs into groups, in the order in which the first run of each appears."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.identity, []).append(run)
    return [RunGroup.of(group) for group in groups.values()]


def split_in_two(runs: Sequence[RunRecord]) -> tuple[RunGroup, RunGroup]:
    """Sort the runs of a comparison into its two groups, by config.

    Raises:
        UserError: they are of one group, or of more than two.
    """
    groups = group_by_config(runs)
    if len(groups) != 2:
        listed = "; ".join(group.directories for group in groups)
        raise UserError(
            f"compare takes runs of two configs, and these are of {len(groups)}: {listed}; "
            "attnlab compare RUN... --to RUN... says which belong together"
        )
    return groups[0], groups[1]


def find_runs(path: Path) -> list[Path]:
    """List the run directories that a path names: a run, a directory of runs, or a pattern such as runs/dates-s*.

    A path that names nothing is returned as it is, for the reader to report.
    """
    if not path.exists() and any(letter in str(path) for letter in "*?["):
        found = [Path(match) for match in sorted(glob(str(path))) if os.path.isfile(os.path.join(match, CONFIG))]
    elif path.is_dir() and not (path / CONFIG).exists():
        found = sorted(child for child in path.iterdir() if (child / CONFIG).is_file())
    else:
        found = []
    return found or [path]


def _difference(first: RunRecord, second: RunRecord) -> str:
    """Describe the first difference between two runs other than the seed."""
    for place, one, other in iter_differences(dict(first.config), dict(second.config)):
        if place != "seed":
            return f"{place}: {one} and {other}"
    here, there = first.environment["fingerprint"], second.environment["fingerprint"]
    name = next(name for name in ("data", "pretrained") if here.get(name) != there.get(name))
    return f"fingerprint of the {name}: {str(here.get(name))[:12]} and {str(there.get(name))[:12]}"

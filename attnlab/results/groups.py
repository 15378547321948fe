"""Groups of runs that differ only in the seed; tables, comparisons and claims take groups."""

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
from attnlab.results.record import INPUTS, RunRecord, read
from attnlab.results.run_files import CONFIG
from attnlab.tasks.base import Task


@dataclass(frozen=True)
class RunGroup:
    """Runs of one config, data, pretrained weights and base model, ordered by seed.

    Attributes:
        runs: the runs, at least one.
    """

    runs: tuple[RunRecord, ...]

    @classmethod
    def of(cls, runs: Iterable[RunRecord]) -> Self:
        """Build a group of runs; duplicates count once.

        Raises:
            UserError: two runs differ in more than the seed, or have the same seed.
        """
        distinct = {run.directory.resolve(): run for run in runs}
        ordered = sorted(distinct.values(), key=lambda run: run.seed)
        for run in ordered[1:]:
            if run.identity != ordered[0].identity:
                raise UserError(
                    f"{ordered[0].directory} and {run.directory} are not one group: {_difference(ordered[0], run)}; "
                    "runs of a group differ only in the seed"
                )
        for first, second in pairwise(ordered):
            if first.seed == second.seed:
                names = " and ".join(sorted(map(str, (first.directory, second.directory))))
                raise UserError(f"{names}: the same experiment with the same seed; name only one of them")
        return cls(tuple(ordered))

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return self.runs[0].name

    @property
    def kind(self) -> str:
        """Kind of the task."""
        return self.runs[0].kind

    @property
    def task(self) -> type[Task]:
        """Class of the task."""
        return self.runs[0].task

    @property
    def directories(self) -> str:
        """Directories of the runs, as text for messages."""
        return ", ".join(str(run.directory) for run in self.runs)

    def splits(self) -> list[str]:
        """Return the test sets on which every run was evaluated."""
        return [split for split in self.runs[0].results if all(split in run.results for run in self.runs)]

    def per_example(self, split: str) -> tuple[str, dict[str, np.ndarray]] | None:
        """Return the fingerprint of a split's examples, and metric -> rows of shape [examples, runs, ...].

        None if a run has no per-example scores of the split.

        Raises:
            UserError: two runs were evaluated on different examples.
        """
        scores = [run_scores for run in self.runs if (run_scores := run.per_example(split)) is not None]
        if len(scores) < len(self.runs):
            return None
        for run, run_scores in zip(self.runs, scores, strict=True):
            if run_scores.examples != scores[0].examples:
                raise UserError(
                    f"{self.runs[0].directory} and {run.directory}: the examples of {split} differ; "
                    f"attnlab evaluate {run.directory} --split {split}"
                )
        metrics = [name for name in scores[0].rows if all(name in run_scores.rows for run_scores in scores)]
        return scores[0].examples, {
            name: np.stack([run_scores.rows[name] for run_scores in scores], axis=1) for name in metrics
        }


def group_by_config(runs: Iterable[RunRecord]) -> list[RunGroup]:
    """Return the groups of runs, ordered by the first run of each."""
    groups: dict[str, list[RunRecord]] = {}
    for run in runs:
        groups.setdefault(run.identity, []).append(run)
    return [RunGroup.of(group) for group in groups.values()]


def read_groups(paths: Sequence[Path], unfinished: bool = False, *, apart: bool = False) -> list[RunGroup]:
    """Read runs and return their groups: runs with equal configs apart from the seed.

    Args:
        paths: runs, archives, directories of runs, or patterns (`find_runs`).
        unfinished: accept runs whose training is not complete.
        apart: of two paths to runs of one config, each is a group, so that two seeds can be compared.
    Raises:
        UserError: a path is not an evaluated run, or a group has two runs with the same seed.
    """
    records = [[read(run, unfinished) for run in find_runs(path)] for path in paths]
    if apart and len(records) == 2 and len({run.identity for found in records for run in found}) == 1:
        return [RunGroup.of(found) for found in records]
    return group_by_config(run for found in records for run in found)


def find_runs(path: Path) -> list[Path]:
    """Return the run directories that match a path: a run, a directory of runs, or a pattern such as runs/dates-s*.

    A path without a match is returned unchanged; reading it raises the error.
    """
    if not path.exists() and any(letter in str(path) for letter in "*?["):
        runs = [Path(match) for match in sorted(glob(str(path))) if os.path.isfile(os.path.join(match, CONFIG))]
    elif path.is_dir() and not (path / CONFIG).exists():
        runs = sorted(child for child in path.iterdir() if (child / CONFIG).is_file())
    else:
        runs = []
    return runs or [path]


def _difference(first: RunRecord, second: RunRecord) -> str:
    """Return a description of the first difference between two runs other than the seed."""
    for place, value, other in iter_differences(dict(first.config), dict(second.config)):
        if place != "seed":
            return f"{place}: {value} and {other}"
    hashes, other_hashes = first.environment["fingerprint"], second.environment["fingerprint"]
    name = next(name for name in INPUTS if hashes.get(name) != other_hashes.get(name))
    return f"fingerprint of the {name}: {str(hashes.get(name))[:12]} and {str(other_hashes.get(name))[:12]}"

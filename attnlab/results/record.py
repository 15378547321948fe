"""The record of a run for tables and comparisons, read from a run directory or an archive."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attnlab.config.difference import iter_differences
from attnlab.config.errors import UserError
from attnlab.config.run_paths import missing_run
from attnlab.config.yaml_text import parse
from attnlab.results.per_example import PerExampleScores, per_example_file, read_per_example
from attnlab.results.run_files import CONFIG, DECODING, DIVERGENCE, ENVIRONMENT, read_environment, read_metrics
from attnlab.results.scores import read_results
from attnlab.tasks.base import Task
from attnlab.tasks.registry import CLASSES, task_class_of_kind
from attnlab.training.loop import should_stop_early

INPUTS = ("data", "pretrained", "base")
"""Fingerprints that runs of one group have in common: data, pretrained weights, and the model of another run."""


@dataclass(frozen=True)
class RunRecord:
    """The config, environment, log and results of one run.

    Attributes:
        directory: the directory it was read from.
        config: contents of config.yaml; not validated, so that runs of older versions can be read.
        environment: contents of environment.json.
        log: lines of metrics.jsonl.
        results: {test set: {metric: value}}.
    """

    directory: Path
    config: Mapping[str, Any]
    environment: Mapping[str, Any]
    log: Sequence[Mapping[str, Any]]
    results: Mapping[str, Mapping[str, Any]]

    @property
    def name(self) -> str:
        """Name of the experiment."""
        return str(self.config["name"])

    @property
    def seed(self) -> int:
        """Seed of the experiment."""
        return self.config["seed"]

    @property
    def kind(self) -> str:
        """Kind of the task."""
        return self.config["task"]["kind"]

    @property
    def task(self) -> type[Task]:
        """Class of the task."""
        return task_class_of_kind(self.kind)

    @property
    def identity(self) -> str:
        """A string of config, data and weights from outside that is equal for runs that differ only in the seed."""
        config = {name: value for name, value in self.config.items() if name != "seed"}
        fingerprint = self.environment["fingerprint"]
        return json.dumps([config, *map(fingerprint.get, INPUTS)], sort_keys=True)

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides `key=value` of the config file, without the seed; empty if they were not recorded."""
        return tuple(text for text in self.environment.get("overrides", ()) if text.partition("=")[0] != "seed")

    @property
    def steps(self) -> int:
        """Number of training steps in the config."""
        return self.config["training"]["steps"]

    @property
    def step(self) -> int:
        """Last step in the log."""
        return max((entry["step"] for entry in self.log), default=0)

    @property
    def finished(self) -> bool:
        """Whether training is complete: all steps were taken, or it stopped early."""
        monitor = self.task.monitor
        history = [(entry["step"], entry[monitor]) for entry in self.log if entry.get(monitor) is not None]
        return self.step >= self.steps or should_stop_early(history, self.config["training"].get("patience"))

    @property
    def seconds(self) -> float:
        """Wall time of training, including validation and compilation, without pauses between sessions.

        Steps that were repeated after an interruption count, except those after the last logged line (fewer than 50).
        """
        lost = sum(entry.get("seconds_lost", 0.0) for entry in self.environment.get("interruptions", ()))
        return lost + max((entry.get("seconds", 0.0) for entry in self.log), default=0.0)

    @property
    def interruptions(self) -> int | None:
        """How often training was resumed; None if it was not recorded."""
        if "interruptions" not in self.environment:
            return None
        return sum(entry["step"] < self.step for entry in self.environment["interruptions"])

    @property
    def machine(self) -> str:
        """The machine, or the machines in order of use."""
        return ", then ".join(dict.fromkeys(map(_machine, self._environments())))

    @property
    def jax(self) -> str:
        """The version of jax, or the versions in order of use."""
        return ", then ".join(dict.fromkeys(environment["packages"]["jax"] for environment in self._environments()))

    @property
    def commit(self) -> str:
        """The commit of attnlab, or the commits in order of use; + marks local changes; without git, the version."""
        return ", then ".join(dict.fromkeys(map(_commit, self._environments())))

    @property
    def archived(self) -> bool:
        """Whether this is an archive, which has no weights and cannot be evaluated again."""
        return not (self.directory / "checkpoints").is_dir()

    def per_example(self, split: str) -> PerExampleScores | None:
        """Read the per-example scores of a split; None if they were not saved.

        Raises:
            UserError: they do not agree with the results of this run.
        """
        scores = read_per_example(self.directory, split)
        for name, rows in () if scores is None else scores.rows.items():
            metric = self.results[split].get(name)
            if metric is not None and abs(self.task.aggregate(name, rows) - metric) > 1e-4:
                raise UserError(
                    f"{self.directory / per_example_file(split)}: does not agree with results.json; "
                    f"attnlab evaluate {self.directory} --split {split}"
                )
        return scores

    def analysis(self, file: str) -> dict[str, Any]:
        """Read what an analysis has found: faithfulness.json, alignment.json or divergence/SPLIT.json; {} without it.

        Raises:
            UserError: the file cannot be read.
        """
        path = self.directory / file
        if not path.exists():
            return {}
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return dict(found)
        except (OSError, ValueError, TypeError, RecursionError) as error:
            raise UserError(f"{path}: cannot be read as results ({type(error).__name__}: {error})") from None

    def divergences(self) -> list[str]:
        """Return the files of `attnlab divergence` in this run, one for each split."""
        return sorted(f"{DIVERGENCE}/{path.name}" for path in (self.directory / DIVERGENCE).glob("*.json"))

    @property
    def repeatable(self) -> bool:
        """Whether comparisons with this run can be computed; an archive needs its per-example scores for that."""
        return not self.archived or all((self.directory / per_example_file(split)).exists() for split in self.results)

    def _environments(self) -> Iterator[Mapping[str, Any]]:
        yield self.environment
        yield from (later for later in self.environment.get("resumed", ()) if later.get("step", 0) < self.step)


def read(directory: Path, unfinished: bool = False) -> RunRecord:
    """Read the record of a run that has been evaluated.

    Args:
        directory: a run or an archive.
        unfinished: accept a run whose training is not complete.

    Raises:
        UserError: it is not a run, its training is not complete, it has not been evaluated since, or its config.yaml
            was edited; the message names the command to run.
    """
    record = RunRecord(
        directory, _config(directory), read_environment(directory), read_metrics(directory), read_results(directory)
    )
    _check(record)
    resume = f"attnlab train {directory / CONFIG} resumes it"
    if not record.log:
        raise UserError(f"{directory}: has no training log; {resume}")
    if not record.finished and not unfinished:
        raise UserError(
            f"{directory}: is at step {record.step} of {record.steps}; {resume} (--unfinished accepts it as it is)"
        )
    if not record.results:
        raise UserError(f"{directory}: has not been evaluated; attnlab evaluate {directory}")
    for split, scores in record.results.items():
        if record.finished and (reached := scores.get("trained_to", record.step)) != record.step:
            raise UserError(
                f"{directory}: {split} was evaluated at step {reached}, and training continued to step {record.step}; "
                f"attnlab evaluate {directory}"
            )
    return record


def _config(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG
    try:
        config = parse(path.read_text(encoding="utf-8"), str(path)).data
    except OSError:
        raise missing_run(directory) from None
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text") from None
    try:
        valid = config["task"]["kind"] in CLASSES
        valid = valid and all(isinstance(n, int) for n in (config["seed"], config["training"]["steps"]))
        valid = valid and isinstance(config["name"], str)
    except (TypeError, KeyError):
        valid = False
    if not valid:
        raise UserError(f"{path}: is not the config of a run (it needs name, seed, task.kind and training.steps)")
    return config


def _check(record: RunRecord) -> None:
    """Raise if environment.json is invalid, or if the config was edited after training started."""
    try:
        _ = record.machine, record.jax, record.commit, record.interruptions, record.seconds + 0.0, record.overrides
    except (TypeError, KeyError, AttributeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{record.directory / ENVIRONMENT}: cannot be read as a run's environment ({reason})") from None
    initial = record.environment.get("config", record.config)
    for place, before, after in iter_differences(initial, record.config):
        if not place.startswith(DECODING):
            raise UserError(
                f"{record.directory / CONFIG}: was edited after training started: "
                f"{place}: {before} in training, {after} in {CONFIG}; restore it"
            )


def _machine(environment: Mapping[str, Any]) -> str:
    """Return the names of the GPUs, or of the CPU if there are none."""
    kinds = Counter(
        kind for platform, _, kind in (device.partition(": ") for device in environment["devices"]) if platform != "cpu"
    )
    if kinds:
        return " + ".join(f"{count} × {kind}" for kind, count in kinds.items())
    cores, processor = environment["cores"], environment.get("processor")
    return f"{cores} core{'s' if cores > 1 else ''}" + (f" of {processor}" if processor else ", CPU")


def _commit(environment: Mapping[str, Any]) -> str:
    if environment["commit"] is None:
        return f"attnlab {environment['attnlab']}"
    return environment["commit"][:7] + ("+" if environment["dirty"] else "")

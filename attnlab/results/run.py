"""A run directory and its only writer.

- config.yaml: the experiment with all defaults
- environment.json: versions, devices, commit, command, overrides of the experiment's file, fingerprints of data and
  tokenizer, the config at the start of training, and interruptions
- metrics.jsonl: one line per call of `log`: {"step": 100, "loss": 2.31, ...}
- metrics.discarded.jsonl: lines removed from metrics.jsonl
- tensorboard/: the same numbers
- checkpoints/: see training/checkpoints.py
- results.json: {split: {metric: value}}
- base/: the copy of another run's model that guides this one (see tasks/classification/base_model.py)
- per_example/SPLIT.npz: per-example scores of a split, and the fingerprint of its examples
- alignment.json: agreement of attention with gold alignment, and the layer and head that were chosen
- faithfulness.json, faithfulness/SPLIT-KEY.{jsonl,html}: the battery of faithfulness, its records and its page
- before-restart-1/, ...: files of earlier trainings, moved there by `--restart`
- lock: exists only while a process trains into the run
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from attnlab.config.code import without_code
from attnlab.config.difference import difference, iter_differences
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.load import load, resolved, validated
from attnlab.config.run_paths import missing_run
from attnlab.results import lock as locking
from attnlab.results.lock import LOCK
from attnlab.results.per_example import PerExampleScores, per_example_file, write_per_example
from attnlab.results.run_files import (
    CONFIG,
    DECODING,
    ENVIRONMENT,
    TRAINED,
    read_environment,
    read_metrics,
    record_environment,
    record_interruption,
    training_seconds,
    write_environment,
)
from attnlab.results.scores import read_results, write_results
from attnlab.system.messages import Notify, print_to_stderr
from attnlab.training.atomic_files import write_whole, writing
from attnlab.training.checkpoints import Checkpoints, PyTree, place_of_checkpoints
from attnlab.training.environment import environment
from attnlab.training.log import METRICS, Log, rewind


class Run:
    """A run. `Run.open` opens and locks it for training; `Run.read` opens it for reading and for adding results.

    Attributes:
      directory: path of the run.
      config: the experiment.
      fingerprint: hashes of the other inputs of the run, e.g. {"data": sha256, "tokenizer": sha256}.
      checkpoints: its checkpoints; resume with `restore`, which also rewinds the log.
      notify: called with each message for the user; may be replaced.
    """

    def __init__(
        self, directory: Path, config: Experiment, fingerprint: Mapping[str, str], lock: int | None, notify: Notify
    ):
        """Use `Run.open` or `Run.read`."""
        self.directory = directory
        self.config = config
        self.fingerprint = dict(fingerprint)
        self.notify = notify
        self.checkpoints = Checkpoints(
            directory / "checkpoints",
            config.training.keep_last,
            lambda line: self.notify(line),
            writable=lock is not None,
        )
        self._lock = lock
        self._log: Log | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        config: Experiment,
        fingerprint: Mapping[str, str],
        notify: Notify = print_to_stderr,
        overrides: Sequence[str] = (),
    ) -> Self:
        """Create a run, or open an existing run to resume it.

        A new run records in environment.json the `overrides` with which the config differs from its file.

        Raises:
          UserError: another process is training into it; its config or a fingerprint differs (the message shows how);
            its config.yaml was edited after training started; or the directory is not a run.
        """
        directory = place_of_checkpoints(directory)
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            _refuse_other_contents(directory)
            lock = locking.acquire(directory / LOCK)
            exists = (directory / CONFIG).exists()
        try:
            if exists:
                _refuse_other_run(directory, config, fingerprint)
                _refuse_edited(directory, load(directory / CONFIG), notify, may_change=())
            else:
                recorded = environment() | {"overrides": list(overrides), "fingerprint": dict(fingerprint)}
                recorded |= {"config": config.model_dump(mode="json"), "interruptions": []}
                write_environment(directory, recorded)
                write_whole(directory / CONFIG, resolved(config))  # written last: a directory with a config is a run
        except BaseException:
            locking.release(lock, directory / LOCK)
            raise
        return cls(directory, config, fingerprint, lock, notify)

    @classmethod
    def read(cls, directory: Path, notify: Notify = print_to_stderr) -> Self:
        """Open a run for reading, while another process may be training into it.

        If an older version did not record the config at the start of training, config.yaml is used as it is, and
        `notify` receives a warning.

        Raises:
          UserError: the directory is not a run, or a setting outside task.decoding was edited since training started.
        """
        if not (Path(directory) / CONFIG).is_file():
            raise missing_run(Path(directory))
        directory = place_of_checkpoints(directory)
        config, fingerprint = load(directory / CONFIG), read_environment(directory)["fingerprint"]
        _refuse_edited(directory, config, notify, may_change=(DECODING,))
        return cls(directory, config, fingerprint, None, notify)

    def restore(self, like: PyTree, restart: bool = False) -> tuple[int, PyTree] | None:
        """Return the newest intact checkpoint as (step, state), or None, and remove later entries from the log.

        Call it before the first `log`. At a step with a checkpoint, log before saving, so that the log of a resumed
        run equals the log of an uninterrupted run. environment.json records the interruption and the time lost.

        Args:
          like: see `Checkpoints.restore`.
          restart: start at step 0; existing files are moved to before-restart-1/ (2, 3, ...).

        Raises:
          UserError: checkpoints were saved, and none of them is intact; no file is changed.
        """
        if self._lock is None:
            raise RuntimeError("this run was opened for reading")
        log = self.metrics() if restart else []
        if restart:
            self._set_aside()
        restored = self.checkpoints.restore(like)
        if restored is None:
            self._refuse_to_start_over()
        step = -1 if restored is None else restored[0]
        log += rewind(self.path(METRICS), step, self.notify)
        self._log = Log(self.path(METRICS), self.path("tensorboard"), step, lambda line: self.notify(line))
        if restored is not None or log:
            kept = [entry for entry in log if entry["step"] <= step]
            record_environment(self.directory, max(step, 0), self.notify)
            record_interruption(self.directory, max(step, 0), training_seconds(log) - training_seconds(kept))
        return restored

    def log(self, step: int, **values: Any) -> None:
        """Append a line to metrics.jsonl (with null for non-finite numbers), and its numbers to TensorBoard."""
        if self._log is None:
            if self._lock is None:
                raise RuntimeError("this run was opened for reading")
            if self.path(METRICS).exists():
                raise RuntimeError("this run has a log already: call restore before log")
            self._log = Log(self.path(METRICS), self.path("tensorboard"), -1, lambda line: self.notify(line))
        self._log.append(step, values)

    def metrics(self) -> list[dict[str, Any]]:
        """Return the log in order; incomplete lines are reported and skipped."""
        return read_metrics(self.directory, self.notify)

    def write_results(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Update metrics of a split in results.json; other splits and metrics are unchanged."""
        results = self.results()
        write_results(self.directory, {**results, split: {**results.get(split, {}), **metrics}})

    def results(self) -> dict[str, dict[str, Any]]:
        """Return {split: {metric: value}}, empty before the first evaluation."""
        return read_results(self.directory)

    def write_per_example(self, split: str, scores: PerExampleScores) -> Path:
        """Write the per-example scores of a split and return the path."""
        self.path(per_example_file(split))  # raises if the path is outside the run
        return write_per_example(self.directory, split, scores)

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run atomically and return its path."""
        return self.write_bytes(name, text.encode())

    def write_bytes(self, name: str, content: bytes) -> Path:
        """Write a binary file of the run atomically and return its path."""
        path = self.path(name)
        write_whole(path, content)
        return path

    def path(self, name: str) -> Path:
        """Return the path of a file of the run; raise `UserError` if it is outside the run."""
        path = self.directory / name
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise UserError(f"{name}: is outside the run directory {self.directory}")
        return path

    def close(self) -> None:
        """Close the log and release the lock."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            locking.release(self._lock, self.path(LOCK))
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_to_start_over(self) -> None:
        """Raise if training saved checkpoints and none of them is intact."""
        steps, damaged = self.checkpoints.steps(), self.checkpoints.damaged()
        last = max((entry["step"] for entry in read_metrics(self.directory, lambda _: None)), default=0)
        if steps or damaged:
            lost = f"no checkpoint is intact (damaged: {', '.join(map(str, sorted({*steps, *damaged})))})"
        elif last > self.config.training.evaluate_every:  # the step of the first checkpoint
            lost = f"its log goes to step {last}, and there is no checkpoint"
        else:
            return
        raise UserError(
            f"{self.directory}: {lost}; no file was changed; restore a checkpoint from a backup, or start over: "
            f"attnlab train {self.directory / CONFIG} --restart"
        )

    def _set_aside(self) -> None:
        """Move all files of training and evaluation to a new directory before-restart-N."""
        existing = [self.path(name) for name in TRAINED if self.path(name).exists()]
        if not existing:
            return
        names = (re.fullmatch(r"before-restart-([1-9]\d*)", path.name) for path in self.directory.iterdir())
        target = self.path(f"before-restart-{1 + max((int(name[1]) for name in names if name), default=0)}")
        with writing(target):
            target.mkdir()
            for path in existing:
                path.rename(target / path.name)
        self.notify(f"starting over at step 0; the earlier files are in {target}")


def _refuse_other_contents(directory: Path) -> None:
    names = {path.name for path in directory.iterdir()}
    if CONFIG not in names and not names <= {LOCK, ENVIRONMENT, f"{ENVIRONMENT}.writing", f"{CONFIG}.writing"}:
        raise UserError(f"{directory}: is not empty and not a run (it has no config.yaml); choose another --out")


def refuse_other_config(directory: Path, config: Experiment) -> None:
    """Raise if the directory is a run of another config; needs no data, so call it before they are read."""
    if (directory / CONFIG).is_file():
        if lines := difference(load(directory / CONFIG), config):
            raise UserError(
                f"{directory}: has another config or data: {'; '.join(lines)}; choose another --out or delete it"
            )


def _refuse_other_run(directory: Path, config: Experiment, fingerprint: Mapping[str, str]) -> None:
    lines = difference(load(directory / CONFIG), config)
    recorded = read_environment(directory)["fingerprint"]
    for name in sorted({*recorded, *fingerprint}):
        before, now = recorded.get(name, "absent"), fingerprint.get(name, "absent")
        if before != now:
            lines.append(f"fingerprint of the {name}: {before[:12]} in the run, {now[:12]} now")
    if lines:
        raise UserError(
            f"{directory}: has another config or data: {'; '.join(lines)}; choose another --out or delete it"
        )


def _refuse_edited(directory: Path, config: Experiment, notify: Notify, may_change: tuple[str, ...]) -> None:
    """Raise if a setting that may not change was edited in config.yaml after training started."""
    initial = read_environment(directory).get("config")
    if initial is None:
        notify(
            f"{directory}: an older attnlab did not record the config at the start of training; "
            f"{CONFIG} is used as it is"
        )
        return
    configs = validated(initial, f"{directory / ENVIRONMENT}: config"), config
    settings = iter_differences(*(without_code(config.model_dump(mode="json")) for config in configs))
    lines = [f"{place}: {before} in training, {after} in {CONFIG}" for place, before, after in settings]
    if lines := [line for line in lines if not line.startswith(may_change)]:
        raise UserError(
            f"{directory / CONFIG}: was edited after training started: {'; '.join(lines)}; restore it"
            + (f" (only {DECODING[:-1]} may change)" if may_change else "")
        )

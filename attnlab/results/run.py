"""A run directory, and the only writer of it.

- config.yaml: the experiment, every default spelled out
- environment.json: versions, devices, commit, command, the overrides of the experiment's file, the fingerprints of data
  and tokenizer, the config as training began, and interruptions
- metrics.jsonl: one line a `log`: {"step": 100, "loss": 2.31, ...}; metrics.discarded.jsonl: lines cut from it
- tensorboard/: the same numbers
- checkpoints/: see training/checkpoints.py
- results.json: {split: {metric: value}}
- each/SPLIT.json: what each example adds to the metrics of a split, and the fingerprint of the examples
- before-restart-1/, ...: what training had written when it was started over
- lock: only while a process trains into it
"""

import fcntl
import json
import os
import platform
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from attnlab.config.code import without_code
from attnlab.config.difference import difference, iter_differences
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.load import load, resolved, validated
from attnlab.config.run_paths import missing_run
from attnlab.results.scores import RESULTS, Each, each_file, results_of, write_each, write_results
from attnlab.training.atomic_files import write_whole, writing
from attnlab.training.checkpoints import Checkpoints, PyTree, place_of_checkpoints
from attnlab.training.environment import differences, environment
from attnlab.training.log import DISCARDED, Log, read_log, rewind

CONFIG, ENVIRONMENT, METRICS, LOCK = "config.yaml", "environment.json", "metrics.jsonl", "lock"
DECODING = "task.decoding."
"""The settings of a trained run that may change: how answers are searched for."""
TRAINED = (
    "checkpoints", METRICS, DISCARDED, "tensorboard", RESULTS, "each", "attention", "show", "training.png",
)  # fmt: skip
"""What training, evaluation and `show` leave in a run; starting over sets it aside."""
Say = Callable[[str], None]


def say_to_stderr(line: str) -> None:
    """Print one line for a person, out of the way of a command's output."""
    with suppress(OSError):  # the terminal is gone, or the disk behind it full: no reason to stop
        print(f"attnlab: {line}", file=sys.stderr, flush=True)


class Run:
    """One run. `Run.open` trains into it and locks it; `Run.read` looks at it and may add results and pictures.

    Attributes:
      directory: where it is.
      config: the experiment.
      fingerprint: what the run is bound to besides its config, e.g. {"data": sha256, "tokenizer": sha256}.
      checkpoints: its checkpoints; resume through `restore`, which rewinds the log too.
      say: gets one line for whatever a person should know; may be replaced.
    """

    def __init__(self, directory: Path, config: Experiment, fingerprint: Mapping[str, str], lock: int | None, say: Say):
        """Use `Run.open` or `Run.read`."""
        self.directory = directory
        self.config = config
        self.fingerprint = dict(fingerprint)
        self.say = say
        self.checkpoints = Checkpoints(
            directory / "checkpoints", config.training.keep_last, lambda line: self.say(line), writable=lock is not None
        )
        self._lock = lock
        self._log: Log | None = None

    @classmethod
    def open(
        cls,
        directory: Path,
        config: Experiment,
        fingerprint: Mapping[str, str],
        say: Say = say_to_stderr,
        overrides: Sequence[str] = (),
    ) -> Self:
        """Create the run, or open it to go on with it.

        The `overrides` that made the config differ from its file are kept in environment.json when it is created.

        Raises:
          UserError: another process is training into it; or its config or a fingerprint differs (the line shows how);
            or its config.yaml was edited after training began; or the directory holds something else.
        """
        directory = place_of_checkpoints(directory)
        with writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            _refuse_other_contents(directory)
            lock = _locked(directory / LOCK)
            exists = (directory / CONFIG).exists()
        try:
            if exists:
                _refuse_other_run(directory, config, fingerprint)
                _refuse_edited(directory, load(directory / CONFIG), say, may_change=())
            else:
                found = environment() | {"overrides": list(overrides), "fingerprint": dict(fingerprint)}
                found |= {"config": config.model_dump(mode="json"), "interruptions": []}
                write_whole(directory / ENVIRONMENT, _json(found))
                write_whole(directory / CONFIG, resolved(config))  # last: with it the directory is a run
        except BaseException:
            _unlock(lock, directory / LOCK)
            raise
        return cls(directory, config, fingerprint, lock, say)

    @classmethod
    def read(cls, directory: Path, say: Say = say_to_stderr) -> Self:
        """Open a run to look at it, while another process may be training into it.

        A run whose config was not recorded when training began (by an attnlab before that) is taken as its
        config.yaml stands, which `say` is told.

        Raises:
          UserError: the directory is not a run, or its config.yaml was edited after training began in more than
            task.decoding.
        """
        if not (Path(directory) / CONFIG).is_file():
            raise missing_run(Path(directory))
        directory = place_of_checkpoints(directory)
        config, fingerprint = load(directory / CONFIG), environment_of(directory)["fingerprint"]
        _refuse_edited(directory, config, say, may_change=(DECODING,))
        return cls(directory, config, fingerprint, None, say)

    def restore(self, like: PyTree, restart: bool = False) -> tuple[int, PyTree] | None:
        """Return the newest good checkpoint as (step, state), or None, and cut what was logged after it.

        Call it before the first `log`. At a step that is saved, log first and save after: then the resumed log equals
        the unbroken one. That the run goes on, and the time of what is cut, is kept in environment.json.

        Args:
          like: see `Checkpoints.restore`.
          restart: begin at step 0 whatever there is; it is kept in before-restart-1/ (2, 3, ...).
        Raises:
          UserError: there were checkpoints, and none is good; nothing is changed.
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
        log += rewind(self.path(METRICS), step, self.say)
        self._log = Log(self.path(METRICS), self.path("tensorboard"), step, lambda line: self.say(line))
        if restored is not None or log:
            kept = [entry for entry in log if entry["step"] <= step]
            _note_environment(self.directory, max(step, 0), self.say)
            _note_interruption(self.directory, max(step, 0), _seconds(log) - _seconds(kept))
        return restored

    def log(self, step: int, **values: Any) -> None:
        """Append one line to the metrics (a number that is not finite as null), and numbers to TensorBoard too."""
        if self._log is None:
            if self._lock is None:
                raise RuntimeError("this run was opened for reading")
            if self.path(METRICS).exists():
                raise RuntimeError("this run has a log already: call restore before log")
            self._log = Log(self.path(METRICS), self.path("tensorboard"), -1, lambda line: self.say(line))
        self._log.append(step, values)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was logged, in order; lines that a kill left half written are said and left out."""
        return log_of(self.directory, self.say)

    def write_results(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Set metrics of one split in results.json; other splits, and other metrics of this one, stay."""
        results = self.results()
        write_results(self.directory, {**results, split: {**results.get(split, {}), **metrics}})

    def results(self) -> dict[str, dict[str, Any]]:
        """Return {split: {metric: value}}, empty before the first evaluation."""
        return results_of(self.directory)

    def write_each(self, split: str, each: Each) -> Path:
        """Write what the single examples of a split add to its metrics."""
        self.path(each_file(split))  # raises where that leads out of the run
        return write_each(self.directory, split, each)

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run whole or not at all, and return its path."""
        path = self.path(name)
        write_whole(path, text)
        return path

    def path(self, name: str) -> Path:
        """Return the path of a file of the run; a name that leads out of the run is an error."""
        path = self.directory / name
        if not path.resolve().is_relative_to(self.directory.resolve()):
            raise UserError(f"{name}: leads out of the run directory {self.directory}")
        return path

    def close(self) -> None:
        """Close the log and let go of the lock."""
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._lock is not None:
            _unlock(self._lock, self.path(LOCK))
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _refuse_to_start_over(self) -> None:
        """Raise where training has saved checkpoints, and there is none to go on from."""
        steps, damaged = self.checkpoints.steps(), self.checkpoints.damaged()
        last = max((entry["step"] for entry in log_of(self.directory, lambda _: None)), default=0)
        if steps or damaged:
            lost = f"no checkpoint is good (damaged: {', '.join(map(str, sorted({*steps, *damaged})))})"
        elif last > self.config.training.evaluate_every:  # where the first checkpoint was saved
            lost = f"its log goes to step {last}, and there is no checkpoint"
        else:
            return
        raise UserError(
            f"{self.directory}: {lost}; nothing was changed; put a good one back, or start over at step 0: "
            f"attnlab train {self.directory / CONFIG} --restart"
        )

    def _set_aside(self) -> None:
        """Move what training and evaluation have written into a directory of its own."""
        there = [self.path(name) for name in TRAINED if self.path(name).exists()]
        if not there:
            return
        names = (re.fullmatch(r"before-restart-([1-9]\d*)", path.name) for path in self.directory.iterdir())
        aside = self.path(f"before-restart-{1 + max((int(name[1]) for name in names if name), default=0)}")
        with writing(aside):
            aside.mkdir()
            for path in there:
                path.rename(aside / path.name)
        self.say(f"starting over at step 0; what was there is kept in {aside}")


def _refuse_other_contents(directory: Path) -> None:
    names = {path.name for path in directory.iterdir()}
    if CONFIG not in names and not names <= {LOCK, ENVIRONMENT, f"{ENVIRONMENT}.writing", f"{CONFIG}.writing"}:
        raise UserError(f"{directory}: is not empty and not a run (it has no config.yaml): give another --out")


def _refuse_other_run(directory: Path, config: Experiment, fingerprint: Mapping[str, str]) -> None:
    lines = difference(load(directory / CONFIG), config)
    kept = environment_of(directory)["fingerprint"]
    for name in sorted({*kept, *fingerprint}):
        there, here = kept.get(name, "absent"), fingerprint.get(name, "absent")
        if there != here:
            lines.append(f"fingerprint of the {name}: {there[:12]} in the run, {here[:12]} here")
    if lines:
        raise UserError(f"{directory}: is another run: {'; '.join(lines)}: give another --out, or remove it")


def _refuse_edited(directory: Path, config: Experiment, say: Say, may_change: tuple[str, ...]) -> None:
    """Raise when config.yaml is not the config that training began with, but for settings that may change."""
    began = environment_of(directory).get("config")
    if began is None:
        say(
            f"{directory}: the config was not recorded when training began (by an earlier attnlab): "
            f"{CONFIG} is taken as it stands"
        )
        return
    both = validated(began, f"{directory / ENVIRONMENT}: config"), config
    differing_settings = iter_differences(*(without_code(one.model_dump(mode="json")) for one in both))
    lines = [f"{place}: {there} in training, {here} in {CONFIG}" for place, there, here in differing_settings]
    if lines := [line for line in lines if not line.startswith(may_change)]:
        raise UserError(
            f"{directory / CONFIG}: was edited after training began: {'; '.join(lines)}; put it back"
            + (f" (only {DECODING[:-1]} may change)" if may_change else "")
        )


def log_of(directory: Path, say: Say = say_to_stderr) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run, none before its first line; lines half written are said and left out."""
    return read_log(directory / METRICS, say)


def environment_of(directory: Path) -> dict[str, Any]:
    """Read environment.json of a run."""
    path = directory / ENVIRONMENT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "fingerprint": dict(found["fingerprint"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a run's environment ({type(error).__name__}: {error})") from None


def _note_environment(directory: Path, step: int, say: Say) -> None:
    """When a run goes on in another environment than before, say so and keep the new one, with the step, under
    `resumed`."""
    kept, now = environment_of(directory), environment()
    resumed = kept.get("resumed", [])
    changed = differences(resumed[-1] if resumed else kept, now)
    if changed:
        say(f"{directory}: goes on in another environment ({', '.join(changed)}): its last bits may differ")
        write_whole(directory / ENVIRONMENT, _json({**kept, "resumed": [*resumed, {**now, "step": step}]}))


def _note_interruption(directory: Path, step: int, seconds_lost: float) -> None:
    """Keep that the run was taken up again at a step, and how long steps took that have to be taken again."""
    kept = environment_of(directory)
    noted = {"step": step, "seconds_lost": round(seconds_lost, 2)}
    write_whole(directory / ENVIRONMENT, _json({**kept, "interruptions": [*kept.get("interruptions", []), noted]}))


def _seconds(log: list[dict[str, Any]]) -> float:
    """How long a training took, up to the end of its log."""
    return max((entry.get("seconds", 0.0) for entry in log), default=0.0)


def _locked(path: Path) -> int:
    """Take the lock and return its descriptor. The system lets go of a dead process's lock by itself."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.pread(lock, 100, 0).decode(errors="replace").strip() or "another process"
            os.close(lock)
            raise UserError(f"{path.parent}: {owner} is training into it; wait for it or give another --out") from None
        if path.exists() and os.path.samestat(os.fstat(lock), path.stat()):
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()} on {platform.node()}\n".encode(), 0)
            return lock
        os.close(lock)  # its owner removed the file between our opening and locking it


def _unlock(lock: int, path: Path) -> None:
    path.unlink(missing_ok=True)
    os.close(lock)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"

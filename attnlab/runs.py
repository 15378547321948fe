"""A run directory, and the only writer of it.

- config.yaml: the experiment, every default spelled out
- environment.json: versions, devices, commit, command, the overrides of the experiment's file, the fingerprints of data
  and tokenizer, and interruptions
- metrics.jsonl: one line a `log`: {"step": 100, "loss": 2.31, ...}
- tensorboard/: the same numbers
- checkpoints/: see training/checkpoints.py
- results.json: {split: {metric: value}}
- each/SPLIT.json: what each example adds to the metrics of a split, and the fingerprint of the examples
- lock: only while a process trains into it
"""

import fcntl
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Self

import numpy as np

from attnlab.config.catalog import no_run
from attnlab.config.errors import UserError
from attnlab.config.experiment import Experiment
from attnlab.config.load import difference, load, resolved
from attnlab.training.checkpoints import Checkpoints, PyTree
from attnlab.training.environment import differences, environment

CONFIG, ENVIRONMENT, METRICS, RESULTS, LOCK = (
    "config.yaml", "environment.json", "metrics.jsonl", "results.json", "lock",
)  # fmt: skip
Say = Callable[[str], None]


@dataclass(frozen=True)
class Each:
    """What the single examples of a split add to its metrics.

    Attributes:
      examples: fingerprint of the split.
      rows: metric -> an array with a row an example (see `Task.total`).
    """

    examples: str
    rows: Mapping[str, np.ndarray]


def say_to_stderr(line: str) -> None:
    """Print one line for a person, out of the way of a command's output."""
    print(f"attnlab: {line}", file=sys.stderr)


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
        self._log: IO[str] | None = None
        self._tensorboard: Any = None

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
            or the directory holds something else.
        """
        directory = Path(directory)
        try:
            directory.mkdir(parents=True, exist_ok=True)
            _refuse_other_contents(directory)
            lock = _locked(directory / LOCK)
        except OSError as error:
            raise UserError(f"{directory}: cannot be written: {error.strerror}") from error
        try:
            if (directory / CONFIG).exists():
                _refuse_other_run(directory, config, fingerprint)
            else:
                found = environment() | {"overrides": list(overrides)}
                found |= {"fingerprint": dict(fingerprint), "interruptions": []}
                _write(directory / ENVIRONMENT, _json(found))
                _write(directory / CONFIG, resolved(config))  # last: with it the directory is a run
        except BaseException:
            _unlock(lock, directory / LOCK)
            raise
        return cls(directory, config, fingerprint, lock, say)

    @classmethod
    def read(cls, directory: Path, say: Say = say_to_stderr) -> Self:
        """Open a run to look at it, while another process may be training into it.

        Raises:
          UserError: the directory is not a run.
        """
        directory = Path(directory)
        if not (directory / CONFIG).is_file():
            raise no_run(directory)
        return cls(directory, load(directory / CONFIG), environment_of(directory)["fingerprint"], None, say)

    def restore(self, like: PyTree) -> tuple[int, PyTree] | None:
        """Return the newest good checkpoint as (step, state), or None, and forget what was logged after it.

        Call it before the first `log`. At a step that is saved, log first and save after: then the resumed log equals
        the unbroken one. That the run goes on, and the time of what is forgotten, is kept in environment.json.
        """
        restored = self.checkpoints.restore(like)
        step = -1 if restored is None else restored[0]
        log = self.metrics()
        kept = [entry for entry in log if entry["step"] <= step]
        self._start_log(kept, step)
        if restored is not None or log:
            _note_environment(self.directory, max(step, 0), self.say)
            _note_interruption(self.directory, max(step, 0), _seconds(log) - _seconds(kept))
        return restored

    def log(self, step: int, **values: Any) -> None:
        """Append one line to the metrics (a number that is not finite as null), and numbers to TensorBoard too."""
        if self._log is None:
            if self.path(METRICS).exists():
                raise RuntimeError("this run has a log already: call restore before log")
            self._start_log([], -1)
        assert self._log is not None
        plain = {name: _plain(value) for name, value in values.items()}
        finite = {name: None if _is_number(v) and not math.isfinite(v) else v for name, v in plain.items()}
        self._log.write(json.dumps({"step": step, **finite}, ensure_ascii=False, allow_nan=False) + "\n")
        self._log.flush()
        os.fsync(self._log.fileno())
        for name, value in finite.items():
            if _is_number(value):
                self._tensorboard.add_scalar(name, value, step)

    def metrics(self) -> list[dict[str, Any]]:
        """Return what was logged, in order; lines that a kill left half written are said and left out."""
        return log_of(self.directory, self.say)

    def write_results(self, split: str, metrics: Mapping[str, Any]) -> None:
        """Set metrics of one split in results.json; other splits, and other metrics of this one, stay."""
        results = self.results()
        values = {name: _plain(value) for name, value in metrics.items()}
        _write(self.path(RESULTS), _json({**results, split: {**results.get(split, {}), **values}}))

    def results(self) -> dict[str, dict[str, Any]]:
        """Return {split: {metric: value}}, empty before the first evaluation."""
        return results_of(self.directory)

    def write_each(self, split: str, each: Each) -> Path:
        """Write what the single examples of a split add to its metrics."""
        rows = {name: values.tolist() for name, values in each.rows.items()}
        return self.write_text(_each(split), json.dumps({"examples": each.examples, "rows": rows}) + "\n")

    def write_text(self, name: str, text: str) -> Path:
        """Write a file of the run whole or not at all, and return its path."""
        path = self.path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, text)
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
            self._tensorboard.close()
            self._log = None
        if self._lock is not None:
            _unlock(self._lock, self.path(LOCK))
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start_log(self, kept: list[dict[str, Any]], last_step: int) -> None:
        from tensorboardX import SummaryWriter  # 0.3 s that a mere reader does not pay

        if self._lock is None:
            raise RuntimeError("this run was opened for reading")
        _write(self.path(METRICS), "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in kept))
        self._log = self.path(METRICS).open("a", encoding="utf-8")
        self._tensorboard = SummaryWriter(str(self.path("tensorboard")), purge_step=last_step + 1)


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


def log_of(directory: Path, say: Say = say_to_stderr) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run, none before its first line; lines half written are said and left out."""
    path = directory / METRICS
    if not path.exists():
        return []
    lines = []
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        try:
            entry = json.loads(line)
            lines.append({"step": int(entry.pop("step")), **entry})
        except (ValueError, TypeError, KeyError, AttributeError):
            say(f"{path}:{number}: not a line of metrics; left out")
    return lines


def results_of(directory: Path) -> dict[str, dict[str, Any]]:
    """Read results.json of a run: {split: {metric: value}}, empty before the first evaluation."""
    path = directory / RESULTS
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    except ValueError as error:
        raise UserError(f"{path}: not JSON ({error}); remove it and evaluate again") from None


def each_of(directory: Path, split: str) -> Each | None:
    """Read what the single examples of a split add to its metrics; None where it was not kept."""
    path = directory / _each(split)
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        rows = {str(name): np.asarray(values, float) for name, values in found["rows"].items()}
        if not all(values.ndim and len(values) and np.isfinite(values).all() for values in rows.values()):
            raise ValueError("a number for each example is needed")
        return Each(str(found["examples"]), rows)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        told = f"{type(error).__name__}: {error}"
        raise UserError(f"{path}: is not what attnlab evaluate writes ({told}); remove it and evaluate again") from None


def environment_of(directory: Path) -> dict[str, Any]:
    """Read environment.json of a run."""
    path = directory / ENVIRONMENT
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {**found, "fingerprint": dict(found["fingerprint"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: cannot be read as a run's environment ({type(error).__name__}: {error})") from None


def _each(split: str) -> str:
    return f"each/{split}.json"


def _note_environment(directory: Path, step: int, say: Say) -> None:
    """When a run goes on in another environment than before, say so and keep the new one, with the step, under
    `resumed`."""
    kept, now = environment_of(directory), environment()
    resumed = kept.get("resumed", [])
    changed = differences(resumed[-1] if resumed else kept, now)
    if changed:
        say(f"{directory}: goes on in another environment ({', '.join(changed)}): its last bits may differ")
        _write(directory / ENVIRONMENT, _json({**kept, "resumed": [*resumed, {**now, "step": step}]}))


def _note_interruption(directory: Path, step: int, seconds_lost: float) -> None:
    """Keep that the run was taken up again at a step, and how long steps took that have to be taken again."""
    kept = environment_of(directory)
    noted = {"step": step, "seconds_lost": round(seconds_lost, 2)}
    _write(directory / ENVIRONMENT, _json({**kept, "interruptions": [*kept.get("interruptions", []), noted]}))


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


def _write(path: Path, text: str) -> None:
    writing = path.with_name(f"{path.name}.writing")
    with writing.open("w", encoding="utf-8", newline="\n") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    writing.replace(path)


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    """Return a NumPy or jax scalar as Python's own; anything else unchanged."""
    return value.item() if hasattr(value, "item") else value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

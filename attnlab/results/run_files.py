"""The files of a run directory that readers and writers share: names, environment.json, metrics.jsonl."""

import json
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.results.per_example import PER_EXAMPLE
from attnlab.results.scores import RESULTS
from attnlab.training.atomic_files import write_whole
from attnlab.training.environment import differences, environment
from attnlab.training.log import DISCARDED, read_log

CONFIG, ENVIRONMENT, METRICS = "config.yaml", "environment.json", "metrics.jsonl"
DECODING = "task.decoding."
"""Prefix of the only settings of a trained run that may change: they decide how outputs are searched for."""
TRAINED = (
    "checkpoints", METRICS, DISCARDED, "tensorboard", RESULTS, PER_EXAMPLE, "attention", "show", "training.png",
)  # fmt: skip
"""Everything that training, evaluation and `show` write into a run; restarting moves it aside."""
Notify = Callable[[str], None]
"""Takes one line for the user."""


def print_to_stderr(line: str) -> None:
    """Print one line for the user, apart from the output of a command."""
    with suppress(OSError):  # the terminal is gone, or the disk behind it is full: no reason to stop
        print(f"attnlab: {line}", file=sys.stderr, flush=True)


def read_metrics(directory: Path, notify: Notify = print_to_stderr) -> list[dict[str, Any]]:
    """Read metrics.jsonl of a run, empty before its first line; incomplete lines are reported and skipped."""
    return read_log(directory / METRICS, notify)


def read_environment(directory: Path) -> dict[str, Any]:
    """Read environment.json of a run."""
    path = directory / ENVIRONMENT
    try:
        recorded = json.loads(path.read_text(encoding="utf-8"))
        return {**recorded, "fingerprint": dict(recorded["fingerprint"])}
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: cannot be read as a run's environment ({type(error).__name__}: {error})") from None


def write_environment(directory: Path, content: dict[str, Any]) -> None:
    """Write environment.json of a run."""
    write_whole(directory / ENVIRONMENT, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def record_environment(directory: Path, step: int, notify: Notify) -> None:
    """Record under `resumed` that a run continues in another environment, if it does, and report it."""
    recorded, now = read_environment(directory), environment()
    resumed = recorded.get("resumed", [])
    changed = differences(resumed[-1] if resumed else recorded, now)
    if changed:
        notify(f"{directory}: continues in another environment ({', '.join(changed)}): the last bits may differ")
        write_environment(directory, {**recorded, "resumed": [*resumed, {**now, "step": step}]})


def record_interruption(directory: Path, step: int, seconds_lost: float) -> None:
    """Record that a run was resumed at a step, and the time of the steps that have to be repeated."""
    recorded = read_environment(directory)
    interruption = {"step": step, "seconds_lost": round(seconds_lost, 2)}
    interruptions = [*recorded.get("interruptions", []), interruption]
    write_environment(directory, {**recorded, "interruptions": interruptions})


def training_seconds(log: list[dict[str, Any]]) -> float:
    """Return the wall time of a training up to the end of its log."""
    return max((entry.get("seconds", 0.0) for entry in log), default=0.0)

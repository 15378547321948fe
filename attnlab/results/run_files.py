"""Names and formats of the files of a run directory: config.yaml, environment.json, metrics.jsonl."""

import json
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.results.per_example import PER_EXAMPLE
from attnlab.results.scores import RESULTS
from attnlab.system.messages import Notify, print_to_stderr
from attnlab.training.atomic_files import write_whole
from attnlab.training.environment import differences, environment
from attnlab.training.log import DISCARDED, METRICS, read_log

CONFIG, ENVIRONMENT = "config.yaml", "environment.json"
ALIGNMENT = "alignment.json"
"""Agreement of attention with gold alignment, written by `attnlab align`."""
FAITHFULNESS, FAITHFULNESS_RECORDS = "faithfulness.json", "faithfulness"
"""Results of `attnlab faithfulness`, and the folder of its records and pages."""
DIVERGENCE = "divergence"
"""Folder of what `attnlab divergence` has found with the run as its base, a file for each split."""
COST = "cost.json"
"""Cost of a training step, written by `attnlab cost`; it depends on the config and not on what was trained."""
DECODING = "task.decoding."
"""Prefix of the only settings of a trained run that may change: those of decoding."""
TRAINED = (
    "checkpoints", METRICS, DISCARDED, "tensorboard", RESULTS, PER_EXAMPLE, ALIGNMENT, "attention", "show", "explain",
    DIVERGENCE, FAITHFULNESS, FAITHFULNESS_RECORDS, "training.png",
)  # fmt: skip
"""All files that training, evaluation and the analyses write into a run; `--restart` moves them aside."""


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
    """Record and report a change of environment (versions, devices) when a run is resumed."""
    recorded, now = read_environment(directory), environment()
    resumed = recorded.get("resumed", [])
    changed = differences(resumed[-1] if resumed else recorded, now)
    if changed:
        notify(f"{directory}: resumes in a different environment ({', '.join(changed)}); the last bits may differ")
        write_environment(directory, {**recorded, "resumed": [*resumed, {**now, "step": step}]})


def record_interruption(directory: Path, step: int, seconds_lost: float) -> None:
    """Record the step at which a run was resumed, and the time of the steps that must be repeated."""
    recorded = read_environment(directory)
    interruption = {"step": step, "seconds_lost": round(seconds_lost, 2)}
    interruptions = [*recorded.get("interruptions", []), interruption]
    write_environment(directory, {**recorded, "interruptions": interruptions})


def training_seconds(log: list[dict[str, Any]]) -> float:
    """Return the wall time of a training up to the end of its log."""
    return max((entry.get("seconds", 0.0) for entry in log), default=0.0)

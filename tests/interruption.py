"""A training that is stopped at a given moment, and the checkpoints and the log that two trainings have in common."""

import json
import re
import signal
from pathlib import Path

from attnlab.training.signals import Interrupted


class StopAfter:
    """Stands in for `graceful_shutdown`: requests a stop at the n-th poll."""

    def __init__(self, polls: int) -> None:
        self.left = polls

    def __enter__(self) -> "StopAfter":
        return self

    def __exit__(self, *_: object) -> None: ...

    def poll(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Interrupted(signal.SIGINT)


def arrays(run: Path) -> dict[str, bytes]:
    """All array data of all checkpoints kept."""
    root = run / "checkpoints"
    files = (path for path in root.rglob("*") if path.is_file() and re.fullmatch(r"[\d.]+", path.name))
    return {str(path.relative_to(root)): path.read_bytes() for path in files}


def untimed(run: Path) -> list[dict]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]

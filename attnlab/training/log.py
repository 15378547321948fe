"""The log of a training: one JSON line per entry, and the same numbers for TensorBoard.

Resuming from a checkpoint rewinds the log to it; the removed lines are first appended to `metrics.discarded.jsonl`.
"""

import json
import math
import os
import platform
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.training.atomic_files import write_whole, writing

METRICS = "metrics.jsonl"
"""The log in the folder of a run."""
DISCARDED = "metrics.discarded.jsonl"
"""Beside the log: every line that was ever removed from it."""
LogEntry = dict[str, Any]


def read_log(path: Path, notify: Callable[[str], None]) -> list[LogEntry]:
    """Return the entries of a log in order, empty before its first line; incomplete lines are reported and skipped."""
    return [entry for _, entry in _lines(path, notify) if entry is not None]


def rewind(path: Path, step: int, notify: Callable[[str], None]) -> list[LogEntry]:
    """Remove entries of later steps and incomplete lines from a log; return all entries as they were before.

    The removed lines are copied to `DISCARDED` first.
    """
    lines = _lines(path, notify)
    kept = [line for line, entry in lines if entry is not None and entry["step"] <= step]
    cut = [line for line, entry in lines if entry is None or entry["step"] > step]
    if cut:
        discarded = path.with_name(DISCARDED)
        with writing(discarded), discarded.open("ab", buffering=0) as file:
            _write(file, b"".join(line + b"\n" for line in cut))
            os.fsync(file.fileno())
    whole = b"".join(line + b"\n" for line in kept)
    if not path.exists() or path.read_bytes() != whole:
        write_whole(path, whole)
    return [entry for _, entry in lines if entry is not None]


class Log:
    """Appends entries to a log, flushed to disk by each `append`, and to TensorBoard's events.

    Args:
      path: the log.
      events: directory of TensorBoard's files. A failure to write them is reported once; the log continues.
      last_step: TensorBoard ignores later steps of earlier files.
      notify: receives one line for the user.
    """

    def __init__(self, path: Path, events: Path, last_step: int, notify: Callable[[str], None]):
        self._path, self._events, self._notify = path, events, notify
        with writing(path):
            self._file = path.open("ab", buffering=0)
        self._tensorboard: Any = None
        self._mirror(lambda: self._open_events(last_step))

    def append(self, step: int, values: Mapping[str, Any]) -> None:
        """Write one entry; a number that is not finite becomes null.

        Raises:
          UserError: it cannot be written, as on a full disk.
        """
        plain = {name: plain_value(value) for name, value in values.items()}
        finite = {name: None if _is_number(v) and not math.isfinite(v) else v for name, v in plain.items()}
        line = json.dumps({"step": step, **finite}, ensure_ascii=False, allow_nan=False) + "\n"
        with writing(self._path):
            _write(self._file, line.encode())
            os.fsync(self._file.fileno())
        if self._tensorboard is not None:
            self._mirror(lambda: self._add_numbers(step, {name: v for name, v in finite.items() if _is_number(v)}))

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._tensorboard is not None:
            self._mirror(self._tensorboard.close)

    def _open_events(self, last_step: int) -> None:
        from tensorboardX.proto import event_pb2  # 0.3 s that a reader does not need
        from tensorboardX.record_writer import RecordWriter

        self._events.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.6f}.{platform.node()}"
        self._tensorboard = RecordWriter(str(self._events / name))
        self._add(0, file_version="brain.Event:2")
        start = event_pb2.SessionLog(status=1)  # pyright: ignore[reportAttributeAccessIssue]
        self._add(last_step + 1, session_log=start)
        self._tensorboard.flush()

    def _add_numbers(self, step: int, numbers: Mapping[str, Any]) -> None:
        from tensorboardX.summary import scalar

        for name, value in numbers.items():
            self._add(step, summary=scalar(name, value))
        self._tensorboard.flush()

    def _add(self, step: int, **content: Any) -> None:
        from tensorboardX.proto import event_pb2

        event = event_pb2.Event(step=step, wall_time=time.time(), **content)  # pyright: ignore[reportAttributeAccessIssue]
        self._tensorboard.write(event.SerializeToString())

    def _mirror(self, write: Callable[[], None]) -> None:
        """Write to TensorBoard's files in this thread: in another one a failure would go unnoticed."""
        try:
            write()
        except OSError as error:
            if self._tensorboard is not None:
                with suppress(OSError):  # closing retries the failed write
                    self._tensorboard.close()
            self._tensorboard = None
            self._notify(
                f"{self._events}: cannot be written: {error.strerror or error}; "
                f"TensorBoard receives no more numbers, {self._path.name} has all of them"
            )


def plain_value(value: Any) -> Any:
    """Convert a NumPy or jax scalar to a Python number; return anything else unchanged."""
    return value.item() if hasattr(value, "item") else value


def _lines(path: Path, notify: Callable[[str], None]) -> list[tuple[bytes, LogEntry | None]]:
    """Return every line of a log with its entry, None if it is not valid."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from error
    lines: list[tuple[bytes, LogEntry | None]] = []
    for number, line in enumerate(content.splitlines(), start=1):
        try:
            entry = json.loads(line)
            lines.append((line, {"step": int(entry.pop("step")), **entry}))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
            notify(f"{path}:{number}: not a line of metrics; skipped")
            lines.append((line, None))
    return lines


def _write(file: Any, content: bytes) -> None:
    """Write everything without a buffer, which would keep the rest after a full disk and fail again on closing."""
    while content:
        content = content[file.write(content) :]


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

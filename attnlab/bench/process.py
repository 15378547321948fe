"""A worker process that answers a line of JSON for a line of JSON, and sleeps between."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

NEVER = float("inf")
"""Seconds of a patience that does not end."""


class Ended(Exception):
    """The process is gone; the message says how it ended."""


class Process:
    """A running worker; made by `started`."""

    def __init__(self, process: subprocess.Popen[str], seconds: float = NEVER):
        self._process = process
        self.about: str = self._answer(seconds)["about"]

    def ask(self, question: Mapping[str, Any] | Sequence[Any], seconds: float = NEVER) -> dict[str, Any]:
        """Send a question and wait for the answer; raise `Ended` where none comes, or none in so many seconds."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # it died: no answer comes
            print(json.dumps(question), file=self._process.stdin, flush=True)
        return self._answer(seconds)

    def _answer(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), self._process.kill()))
        if seconds < NEVER:
            timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line and late.is_set():
            raise Ended(f"gave no answer in {seconds:.0f} s")
        if not line:
            code = self._process.wait()
            killed = " (killed: out of memory?)" if code == -9 else ""
            raise Ended(f"its process ended with code {code}{killed}")
        return json.loads(line)


@contextmanager
def started(
    module: str, arguments: list[str], environment: Mapping[str, str], seconds: float = NEVER
) -> Iterator[Process]:
    """Start `python -m module arguments`, to which the environment adds, in so many seconds; end it at the exit."""
    command = [sys.executable, "-m", module, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as process:
        try:
            yield Process(process, seconds)
        finally:
            process.kill()

"""A worker process that reads JSON requests and writes JSON responses, one per line."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

NO_TIMEOUT = float("inf")


class ProcessEnded(Exception):
    """Raised when a worker process has ended or timed out; the message gives the reason."""


class Process:
    """A running worker process, created by `start_worker`."""

    def __init__(self, process: subprocess.Popen[str], seconds: float = NO_TIMEOUT):
        self._process = process
        self.runtime: str = self._read(seconds)["runtime"]

    def request(self, message: Mapping[str, Any] | Sequence[Any], seconds: float = NO_TIMEOUT) -> dict[str, Any]:
        """Send a request and return its response; raise `ProcessEnded` if none arrives within `seconds`."""
        pipe = self._process.stdin
        assert pipe is not None
        try:
            if not pipe.closed:
                print(json.dumps(message), file=pipe, flush=True)
        except BrokenPipeError:  # the process has ended: reading reports it
            with suppress(BrokenPipeError):  # or what it did not read would be written again when the pipe is closed
                pipe.close()
        return self._read(seconds)

    def _read(self, seconds: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        timed_out = threading.Event()
        timer = threading.Timer(seconds, lambda: (timed_out.set(), self._process.kill()))
        if seconds < NO_TIMEOUT:
            timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if not line and timed_out.is_set():
            raise ProcessEnded(f"no response within {seconds:.0f} s")
        if not line:
            code = self._process.wait()
            killed = " (killed: out of memory?)" if code == -9 else ""
            raise ProcessEnded(f"process ended with code {code}{killed}")
        return json.loads(line)


@contextmanager
def start_worker(
    module: str, arguments: list[str], environment: Mapping[str, str], seconds: float = NO_TIMEOUT
) -> Iterator[Process]:
    """Start `python -m module arguments` with an extended environment, and kill the process at exit.

    Raises `ProcessEnded` if the process is not ready within `seconds`.
    """
    command = [sys.executable, "-m", module, *arguments]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with subprocess.Popen(command, env=os.environ | environment, **pipes) as process:
        try:
            yield Process(process, seconds)
        finally:
            process.kill()

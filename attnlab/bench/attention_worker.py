"""Run one implementation of attention in its own process: prepare cases and time calls on request.

    python -m attnlab.bench.attention_worker NAME DEVICES THREADS
    python -m attnlab.bench.attention_worker machine

It reads one JSON request per line from standard input and writes one JSON response per line to standard output:

- {"case": ..., "directory": ...} reads `inputs.npz` from the directory, compiles the case, and writes the results to a
  file there; the response is {"arrays": name of the file, ...}, or {"refused": the reason};
- {"turn": true} times the prepared case; the response is {"seconds": of one call};
- {"peak_of": ..., "directory": ...} compiles a case and measures its memory; {"peak": true} measures the prepared
  case. The response is {"peak_bytes": of one call}.

With `machine` it prints a description of the machine and exits.
"""

import gc
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.bench.cases import IN_TORCH, Case, Peer
from attnlab.bench.memory import die_first
from attnlab.bench.ready import Ready, Refusal

SHORT = 0.1
"""Seconds. A faster function runs once untimed before every turn, to wake its threads and fill the caches."""
MIN_TURN = 0.02
"""Minimum seconds of a turn: a faster function is called repeatedly, and the mean time of a call is reported."""
LONGEST_REASON = 160

Prepare = Callable[[Peer, Case, dict[str, np.ndarray], np.ndarray], Ready]


def machine() -> dict[str, Any]:
    """Return a description of the machine and its software; nothing runs on a device."""
    import importlib.metadata as metadata
    import importlib.util

    import jax

    from attnlab.training.environment import environment

    description = environment()
    del description["command"]
    description["cpu"] = _cpu()
    description["packages"]["torch"] = metadata.version("torch") if importlib.util.find_spec("torch") else None
    return description | {"backend": jax.default_backend(), "device_count": jax.device_count()}


class Server:
    """A peer with its prepared case; handles the requests of `attnlab.bench.attention`."""

    def __init__(self, peer: Peer, prepare: Prepare):
        self._peer, self._prepare = peer, prepare
        self._ready: Ready | None = None
        self._untimed, self._calls = 1, 0

    def handle(self, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out a request and return its response."""
        if "turn" in request:
            assert self._ready is not None, "no case is prepared"
            return {"seconds": self._turn(self._ready)}
        if "peak" in request:
            assert self._ready is not None, "no case is prepared"
            return {"peak_bytes": self._ready.peak_bytes()}
        self._ready = None
        gc.collect()
        try:
            directory = Path(request["directory"])
            if "case" in request:
                return self._prepare_case(Case.of(request["case"]), directory)
            return self._peak(Case.of(request["peak_of"]), directory)
        except Refusal as refusal:
            return {"refused": _line(str(refusal))}
        except Exception as error:  # any error of a library is a reason to skip the case
            return {"refused": _line(f"{type(error).__name__}: {error}")}

    def _prepare_case(self, case: Case, directory: Path) -> dict[str, Any]:
        start = time.perf_counter()
        ready = self._compile(case, directory)
        path = directory / f"arrays-{os.getpid()}.npz"
        np.savez(path, **ready.check())  # pyright: ignore[reportArgumentType]
        compile_seconds = time.perf_counter() - start
        self._ready, self._calls = ready, 0
        details = {"temp_bytes": ready.temp_bytes, "note": ready.note}
        return {"arrays": path.name, "compile_seconds": compile_seconds} | details

    def _peak(self, case: Case, directory: Path) -> dict[str, Any]:
        ready = self._compile(case, directory)
        ready.run()
        return {"peak_bytes": ready.peak_bytes()}

    def _compile(self, case: Case, directory: Path) -> Ready:
        with np.load(directory / "inputs.npz", allow_pickle=False) as arrays:
            inputs = {name: arrays[name] for name in arrays.files}
        checking = inputs.pop("checking")
        return self._prepare(self._peer, case, inputs, checking)

    def _measure_calls(self, ready: Ready) -> None:
        ready.run()
        start = time.perf_counter()
        ready.run()
        seconds = time.perf_counter() - start
        self._untimed = 1 if seconds < SHORT else 0
        self._calls = max(1, round(MIN_TURN / max(seconds, 1e-6)))

    def _turn(self, ready: Ready) -> float:
        if not self._calls:
            self._measure_calls(ready)
        for _ in range(self._untimed):
            ready.run()
        if ready.seconds is not None:
            return ready.seconds(self._calls) / self._calls
        start = time.perf_counter()
        for _ in range(self._calls):
            ready.run()
        return (time.perf_counter() - start) / self._calls


def serve(peer: Peer, threads: int) -> None:
    """Handle requests until standard input ends; everything else that is printed goes to standard error."""
    responses = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    die_first()
    if peer.name in IN_TORCH:
        from attnlab.bench import torch_attention

        prepare, runtime = torch_attention.prepare, torch_attention.use_threads(threads)
    else:
        from attnlab.bench import peers

        prepare, runtime = peers.prepare, peers.describe_runtime()
    server = Server(peer, prepare)
    print(json.dumps({"runtime": runtime}), file=responses, flush=True)
    for line in sys.stdin:
        print(json.dumps(server.handle(json.loads(line))), file=responses, flush=True)


def _cpu() -> str:
    """Return the name of the processor, or its architecture where the system has no name."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _line(message: str) -> str:
    """Return the first line of a message, shortened to `LONGEST_REASON` characters."""
    line = message.strip().splitlines()[0].strip() if message.strip() else "no message"
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


if __name__ == "__main__":
    if sys.argv[1] == "machine":
        print(json.dumps(machine()))
    else:
        serve(Peer(sys.argv[1], int(sys.argv[2])), int(sys.argv[3]))

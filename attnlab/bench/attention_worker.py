"""One implementation of attention in a process of its own: prepares a case when told to, and times calls in its turn.

    python -m attnlab.bench.attention_worker NAME DEVICES THREADS
    python -m attnlab.bench.attention_worker machine

A line of JSON in, a line of JSON out:

- {"case": ..., "directory": ...} reads `inputs.npz` there, compiles, writes what it computes to a file there and
  answers {"found": name of the file, ...}, or {"refused": the reason};
- {"turn": true} answers {"seconds": of one call};
- {"peak_of": ..., "directory": ...} compiles a case too, and answers {"peak_bytes": of one call}; {"peak": true} takes
  the one that is ready.

With `machine` it tells what the machine is, and ends.
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
"""Seconds; a function faster than this runs once untimed at every turn, to wake its threads and fill the caches."""
TURN = 0.02
"""Seconds that a turn lasts at least: a faster function is called several times, and a call's mean time counts."""
LONGEST_REASON = 160

Prepare = Callable[[Peer, Case, dict[str, np.ndarray], np.ndarray], Ready]


def machine() -> dict[str, Any]:
    """Describe machine and software; start nothing on a device."""
    import importlib.metadata as metadata
    import importlib.util

    import jax

    from attnlab.training.environment import environment

    found = environment()
    del found["command"]
    found["cpu"] = _cpu()
    found["packages"]["torch"] = metadata.version("torch") if importlib.util.find_spec("torch") else None
    return found | {"backend": jax.default_backend(), "device_count": jax.device_count()}


class Served:
    """A peer and the case it has ready."""

    def __init__(self, peer: Peer, prepare: Prepare):
        self._peer, self._prepare = peer, prepare
        self._ready: Ready | None = None
        self._untimed, self._calls = 1, 0

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Do what a line asks for."""
        if "turn" in question:
            assert self._ready is not None, "no case is ready"
            return {"seconds": self._turn(self._ready)}
        if "peak" in question:
            assert self._ready is not None, "no case is ready"
            return {"peak_bytes": self._ready.peak_bytes()}
        self._ready = None
        gc.collect()
        try:
            directory = Path(question["directory"])
            if "case" in question:
                return self._take(Case.of(question["case"]), directory)
            return self._peak(Case.of(question["peak_of"]), directory)
        except Refusal as refusal:
            return {"refused": _line(str(refusal))}
        except Exception as error:  # whatever a library says it cannot do
            return {"refused": _line(f"{type(error).__name__}: {error}")}

    def _take(self, case: Case, directory: Path) -> dict[str, Any]:
        start = time.perf_counter()
        ready = self._compile(case, directory)
        found = directory / f"found-{os.getpid()}.npz"
        np.savez(found, **ready.check())  # pyright: ignore[reportArgumentType]
        compile_seconds = time.perf_counter() - start
        self._ready, self._calls = ready, 0
        about = {"temp_bytes": ready.temp_bytes, "note": ready.note}
        return {"found": found.name, "compile_seconds": compile_seconds} | about

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
        self._calls = max(1, round(TURN / max(seconds, 1e-6)))

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
    """Answer on the standard output as it was at the start; whatever else is printed goes to standard error."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    die_first()
    if peer.name in IN_TORCH:
        from attnlab.bench import torch_attention

        prepare, about = torch_attention.prepare, torch_attention.use_threads(threads)
    else:
        from attnlab.bench import peers

        prepare, about = peers.prepare, peers.about()
    served = Served(peer, prepare)
    print(json.dumps({"about": about}), file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(served.answer(json.loads(line))), file=answers, flush=True)


def _cpu() -> str:
    """The processor's name, where the system tells it."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _line(message: str) -> str:
    """The first line of a message, not too long."""
    line = message.strip().splitlines()[0].strip() if message.strip() else "no reason given"
    return line if len(line) <= LONGEST_REASON else line[: LONGEST_REASON - 1] + "…"


if __name__ == "__main__":
    if sys.argv[1] == "machine":
        print(json.dumps(machine()))
    else:
        serve(Peer(sys.argv[1], int(sys.argv[2])), int(sys.argv[3]))

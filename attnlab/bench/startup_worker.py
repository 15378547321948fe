"""One command of the command line, which reports when its stages ended.

    python -m attnlab.bench.startup_worker FILE START ARGUMENT...

runs `attnlab ARGUMENT...` and writes one line of JSON for each stage to FILE: [name, seconds of the stage, seconds from
START (of `time.time()`) to its end]. Stages are those of `attnlab.system.stages`, and jax's trace and compilation.
"""

import json
import runpy
import sys
import time
from pathlib import Path
from typing import Any

from attnlab.system import stages

JAX_STAGES = {
    "/jax/core/compile/jaxpr_trace_duration": "trace",
    "/jax/core/compile/jaxpr_to_mlir_module_duration": "trace",
    "/jax/core/compile/backend_compile_duration": "compile",
}
"""Events of `jax.monitoring`, and the stages that they belong to; reading a compiled program is part of "compile"."""


def run(file: Path, start: float, arguments: list[str]) -> None:
    """Run a command in this process and write its stages to a file."""
    listening: list[bool] = []
    with file.open("w", encoding="utf-8", buffering=1) as report:

        def listen(name: str, seconds: float) -> None:
            report.write(json.dumps([name, seconds, time.time() - start]) + "\n")
            if "jax" in sys.modules and not listening:
                listening.append(True)
                _listen_to_jax(listen)

        stages.listeners.append(listen)
        sys.argv = ["attnlab", *arguments]
        runpy.run_module("attnlab", run_name="__main__")  # raises SystemExit


def _listen_to_jax(listen: stages.Listener) -> None:
    import jax

    def duration(event: str, duration_secs: float, **_: Any) -> None:
        if event in JAX_STAGES:
            listen(JAX_STAGES[event], duration_secs)

    jax.monitoring.register_event_duration_secs_listener(duration)


if __name__ == "__main__":
    run(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:])

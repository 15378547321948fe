"""Host settings that must be applied before jax is imported."""

import json
import os
from pathlib import Path

from attnlab.system.compilation_cache import use_compilation_cache
from attnlab.system.cores import THREADS, host_devices
from attnlab.system.heap import keep_freed_memory


def prepare_host(run: Path | None = None) -> None:
    """Set the number of host devices for data-parallel training to one per core, and the caches of memory and programs.

    Call it before jax is imported. A resumed run gets its original numbers of devices and threads, so that it goes on
    bit for bit on fewer or more cores. Where the environment sets the number of devices, a new run has a thread for
    each.

    Args:
        run: the run directory to train in.
    """
    keep_freed_memory()  # before there are threads
    use_compilation_cache()
    recorded = _recorded(run / "environment.json") if run else {}
    given = os.environ.get("JAX_NUM_CPU_DEVICES")
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", recorded.get("devices") or str(host_devices()))
    if run and (count := recorded.get("threads") if recorded else given):
        os.environ.setdefault(THREADS, count)


def _recorded(environment: Path) -> dict[str, str]:
    """Return the numbers of devices and threads of a run; none if the file is invalid (reported when it is opened).

    Older runs have recorded no number of threads: theirs was that of the cores.
    """
    try:
        content = json.loads(environment.read_text(encoding="utf-8"))
        numbers = {"devices": content["fingerprint"]["devices"], "threads": content.get("threads")}
        return {name: str(int(number)) for name, number in numbers.items() if number is not None}
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return {}

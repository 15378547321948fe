"""Host settings that must be applied before jax is imported."""

import json
import os
from pathlib import Path

from attnlab.system.compilation_cache import use_compilation_cache
from attnlab.system.cores import host_devices
from attnlab.system.heap import keep_freed_memory


def prepare_host(run: Path | None = None) -> None:
    """Set the number of host devices for data-parallel training to one per core, and the caches of memory and programs.

    Call it before jax is imported. A resumed run gets its original number of devices.

    Args:
        run: the run directory to train in.
    """
    keep_freed_memory()  # before there are threads
    use_compilation_cache()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        recorded = run and _devices_of(run / "environment.json")
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", recorded or str(host_devices()))


def _devices_of(environment: Path) -> str | None:
    """Return the number of devices of a run; None if the file is invalid (reported when the run is opened)."""
    try:
        devices = json.loads(environment.read_text(encoding="utf-8"))["fingerprint"]["devices"]
        return str(int(devices))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None

"""Settings of the host that must be made before jax is imported."""

import json
import os
from pathlib import Path

from attnlab.system.cores import host_devices
from attnlab.system.heap import keep_freed_memory


def prepare_host(run: Path | None = None) -> None:
    """Give jax one host device per core, for data-parallel training, and keep the memory that it frees.

    Call it before jax is imported. A resumed run gets the number of devices that it began with.
    """
    keep_freed_memory()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        recorded = run and _devices_of(run / "environment.json")
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", recorded or str(host_devices()))


def _devices_of(environment: Path) -> str | None:
    """Return the number of devices of a run; None if the file is invalid, which is reported when the run is opened."""
    try:
        devices = json.loads(environment.read_text(encoding="utf-8"))["fingerprint"]["devices"]
        return str(int(devices))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None

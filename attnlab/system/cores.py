"""The number of cores of this process, and the number of host devices of jax. Imports no jax."""

import os

MAX_DEVICES = 8
"""A batch is split over the devices, and many small parts would cost more than they gain."""
THREADS = "PJRT_NPROC"
"""Environment variable for the number of threads of XLA on a CPU; the last bits of matrix products depend on it."""


def cores() -> int:
    """Return the number of cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_devices() -> int:
    """Return the number of host devices for jax: `JAX_NUM_CPU_DEVICES` if set, otherwise one per core, at most 8."""
    return int(os.environ.get("JAX_NUM_CPU_DEVICES") or min(cores(), MAX_DEVICES))


def threads() -> int:
    """Return the number of threads of XLA on a CPU: `PJRT_NPROC` if set, otherwise one per core."""
    given = os.environ.get(THREADS, "")
    return int(given) if given.isdigit() else cores()

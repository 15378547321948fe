"""How many cores this process may use, and into how many host devices jax is told to divide them. Imports no jax."""

import os

MOST_DEVICES = 8
"""A batch is split over the devices: many small parts cost more than they gain."""


def cores() -> int:
    """Count the cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def host_devices() -> int:
    """Tell how many host devices jax should have: as many as `JAX_NUM_CPU_DEVICES` says, else one a core, at most 8."""
    return int(os.environ.get("JAX_NUM_CPU_DEVICES") or min(cores(), MOST_DEVICES))

"""The kind of device that JAX computes on, by which every backend picks its own tuning."""

import jax


def device_kind() -> str:
    """Return "cpu", or "gpu" for a GPU and any other accelerator.

    >>> device_kind() in ("cpu", "gpu")
    True
    """
    return "cpu" if jax.default_backend() == "cpu" else "gpu"

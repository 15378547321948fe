"""What differs between kinds of devices in how attention is carried out, as data: a new kind is a new entry."""

from collections.abc import Mapping
from dataclasses import dataclass

import jax

Costs = Mapping[tuple[int, int], int]
"""Blocks to choose among, queries × keys, the first where there is nothing to skip, and what one of them takes in µs.
Larger blocks take less time per logit, smaller ones fit the edges of a mask better."""


@dataclass(frozen=True)
class Device:
    """How a kind of device likes its work."""

    in_turn: bool
    """One head after the other, so that its blocks stay in cache; otherwise all heads at once."""
    small: int
    """Up to so many logits in all, writing them out is quickest."""
    steps: Costs
    """Blocks of a call on one device."""
    split_steps: Costs
    """Blocks of a call that is divided among devices."""
    row_entries: int
    """How many logits of whole rows of a head exist at a time, where a normalizer needs whole rows."""


CPU = Device(
    in_turn=True,
    small=2**16,
    steps={(1024, 512): 1480, (256, 256): 420, (128, 128): 150, (128, 384): 260, (256, 512): 650},
    split_steps={(512, 256): 600, (256, 256): 370, (128, 128): 110, (128, 384): 265, (256, 512): 670},
    row_entries=2**19,
)
"""Measured: one head of 64 on two cores together, or on a core of its own (docs/attention/implementations.md)."""

_GPU_STEPS = {(2048, 1024): 152, (1024, 1024): 96, (1024, 512): 68, (512, 512): 54, (256, 256): 44}
GPU = Device(in_turn=False, small=2**25, steps=_GPU_STEPS, split_steps=_GPU_STEPS, row_entries=2**22)
"""Estimated, not yet measured (`attnlab bench gpu` measures it): 40 µs to launch the kernels of a step, and five passes
over the logits of 8 heads at 3 TB/s."""

KINDS: Mapping[str, Device] = {"cpu": CPU, "gpu": GPU}
"""By `jax.default_backend()`; any other accelerator is treated as a GPU."""


def device() -> Device:
    """Return what the default backend of jax likes.

    Returns: its entry in `KINDS`, or that of a GPU for a backend that has none.

    >>> device() in KINDS.values()
    True
    """
    return KINDS.get(jax.default_backend(), GPU)

"""Measured times of blocks by kind of device: the tuning of the backends that compute attention block by block."""

from collections.abc import Mapping
from dataclasses import dataclass

BlockTimes = Mapping[tuple[int, int], int]
"""Block size (queries, keys) -> time of one block in µs; the first is used if no block can be skipped. Larger blocks
take less time per logit, smaller blocks fit the edges of a mask better."""


@dataclass(frozen=True)
class Tuning:
    """The tuning of blocks for a kind of device."""

    sequential_heads: bool
    """Whether heads are computed one after another, so that their blocks stay in cache; otherwise all at once."""
    block_times: BlockTimes
    """Times of a call on one device."""
    sharded_block_times: BlockTimes
    """Times of a call that a mesh divides among devices."""
    row_logits: int
    """Number of logits of a head in memory at once if a normalizer needs whole rows."""
    startup: float
    """Seconds before the first block of a loop over blocks."""
    logit_time: float
    """Seconds per logit in the largest block."""


_GPU_BLOCK_TIMES = {(2048, 1024): 152, (1024, 1024): 96, (1024, 512): 68, (512, 512): 54, (256, 256): 44}

TUNING: Mapping[str, Tuning] = {
    "cpu": Tuning(
        sequential_heads=True,
        block_times={(1024, 512): 1480, (256, 256): 420, (128, 128): 150, (128, 384): 260, (256, 512): 650},
        sharded_block_times={(512, 256): 600, (256, 256): 370, (128, 128): 110, (128, 384): 265, (256, 512): 670},
        row_logits=2**19,
        startup=200e-6,
        logit_time=2.8e-9,
    ),
    "gpu": Tuning(
        sequential_heads=False,
        block_times=_GPU_BLOCK_TIMES,
        sharded_block_times=_GPU_BLOCK_TIMES,
        row_logits=2**22,
        startup=340e-6,
        logit_time=9e-12,
    ),
}
"""CPU: measured for one head of width 64, on two cores together or on one core each
(docs/attention/implementations.md). GPU: estimated, not yet measured (`attnlab bench gpu` measures it), from 40 µs to
launch the kernels of a block and five passes over the logits of 8 heads at 3 TB/s."""

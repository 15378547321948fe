"""The block size of a call and the share of its logits that blocks compute, from the mask and the tuning."""

import math
from dataclasses import dataclass, replace

import jax
import numpy as np

from attnlab.functional.backends.base import Cost
from attnlab.functional.backends.block_schedule import (
    BlockGrid,
    BlockIndices,
    block_grid,
    block_schedule,
    unmasked_blocks,
)
from attnlab.functional.backends.call import Call, Head
from attnlab.functional.backends.separable import mixing
from attnlab.functional.backends.tuning import TUNING
from attnlab.functional.normalizers import as_softmax

UNKNOWN_SHARE = 0.5
"""The share of logits that is assumed to be computed if it depends on values known at run time."""


@dataclass(frozen=True)
class BlockPlan:
    """The division of a call into blocks."""

    size: tuple[int, int]
    computed: float | None
    """The share of the logits in blocks that are not fully masked; None if it depends on values known at run time."""
    divides_keys: bool
    """Whether keys are divided too (the softmax family); otherwise every block has whole rows."""


def block_plan(call: Call) -> BlockPlan:
    """Choose the block size with the smallest estimated time; the lengths must be integers."""
    queries, keys = call.sizes.queries, call.sizes.keys
    divides_keys = as_softmax(call.heads.normalizer) is not None and call.heads.value is not None
    if not call.sizes.logits:
        return BlockPlan((1, 1), 1.0, divides_keys)
    if divides_keys:
        size, computed = _fastest_blocks(call, queries, keys)
    else:
        size, computed = call.options.block_size or row_block(keys, call.options.device), _computed_rows(call)
    return BlockPlan((min(size[0], queries), min(size[1], keys)), computed, divides_keys)


def row_block(keys: int, device: str) -> tuple[int, int]:
    """Return the number of queries whose whole rows are in memory at once, and the number of keys gathered together."""
    return max(min(256, TUNING[device].row_logits // max(keys, 1)), 1), 64


def unmasked_columns(indices: BlockIndices, keys: BlockGrid) -> np.ndarray | None:
    """Return the keys that each query block may attend to, [m, …], with S as padding.

    Returns: None if most keys are unmasked, or if it depends on values known at run time.
    """
    if not all(isinstance(x, np.ndarray) for x in indices):
        return None
    pairs = zip(*indices, strict=True)
    blocks_of_row = [np.concatenate([full[:n_full], partial[:n_partial]]) for full, n_full, partial, n_partial in pairs]
    longest = max(map(len, blocks_of_row))
    if 4 * longest > 3 * keys.count:
        return None
    columns = np.full((len(blocks_of_row), max(longest, 1), keys.size), keys.length, np.int32)
    for row, blocks in zip(columns, blocks_of_row, strict=True):
        row[: len(blocks)] = np.sort(blocks)[:, None] * keys.size + np.arange(keys.size)
    return np.minimum(columns, keys.length).reshape(len(blocks_of_row), -1)


def block_cost(call: Call, device: str, reason: str, computed: float | None) -> Cost:
    """Estimate the cost of computing this share of the logits block by block.

    seconds = startup + computed · logits · logit_time
    """
    if call.sizes.symbolic:
        return Cost(None, None, f"{_lengths(call)} are not known at compile time", None, computed)
    plan, tuning = call.once(block_plan), TUNING[device]
    share = UNKNOWN_SHARE if computed is None else computed
    seconds = tuning.startup + share * call.sizes.logits * tuning.logit_time
    if not call.sizes.logits:
        return Cost(seconds, 0, reason, plan.size, computed)
    heads_at_once = 1 if tuning.sequential_heads else call.sizes.total_heads
    block_logits = plan.size[0] * (plan.size[1] if plan.divides_keys else call.sizes.keys)
    peak = 3 * heads_at_once * block_logits * call.itemsize + _copied_bytes(call)
    return Cost(seconds, peak, reason, plan.size, computed)


def why_not_blocks(call: Call, mixed: tuple[str, ...]) -> str | None:
    """Return why a call cannot be divided into blocks: symbolic lengths, or a part that mixes any of these."""
    if call.sizes.symbolic:
        return f"{_lengths(call)} must be known at compile time to be divided into blocks (the batch may be symbolic)"
    if not call.sizes.logits:
        return None
    mixed_part = call.once(mixing)
    if mixed_part is None or mixed_part.mixed not in mixed:
        return None
    return mixed_part.reason("no block can compute it")


def _lengths(call: Call) -> str:
    return f"{call.sizes.queries} queries and {call.sizes.keys} keys"


def _fastest_blocks(call: Call, queries: int, keys: int) -> tuple[tuple[int, int], float | None]:
    """Return the block size with the smallest estimated time, and the share of the logits in the computed blocks."""
    mask, options, tuning = call.heads.mask, call.options, TUNING[call.options.device]
    times = tuning.block_times if options.mesh is None else tuning.sharded_block_times
    times = times if options.block_size is None else {options.block_size: 1}
    default = next(iter(times))
    if mask is None or not mask.structured:
        return default, 1.0
    if _known_at_run_time(call):
        return default, None
    rows = {block: block_grid(queries, block[0]) for block in times}
    heads = _shapes_of_heads(call)
    steps = {block: [block_schedule(head, rows[block], block[1], skip=True).steps for head in heads] for block in times}
    means = {block: sum(n or 0 for n in counts) / len(counts) for block, counts in steps.items() if None not in counts}
    if not means:
        return default, None

    def time(block: tuple[int, int]) -> float:
        part = min(block[0], queries) * min(block[1], keys) / (block[0] * block[1])
        return means[block] * times[block] * part

    best = min(means, key=time)
    return best, min(means[best] * min(best[1], keys) / (rows[best].count * keys), 1.0)


def _computed_rows(call: Call) -> float:
    """Return the share of the logits that is computed if a normalizer needs whole rows."""
    mask, keys = call.heads.mask, call.sizes.keys
    if mask is None or not mask.structured or mask.by_head or _known_at_run_time(call):
        return 1.0
    size = row_block(keys, call.options.device)
    (head,) = _shapes_of_heads(call)
    key_grid = block_grid(keys, size[1])
    columns = unmasked_columns(unmasked_blocks(head, block_grid(call.sizes.queries, size[0]), key_grid), key_grid)
    return 1.0 if columns is None else min(columns.shape[1] / keys, 1.0)


def _known_at_run_time(call: Call) -> bool:
    """Return whether the mask or the positions hold arrays."""
    heads = call.heads
    return heads.query_positions is not None or heads.key_positions is not None or bool(jax.tree.leaves(heads.mask))


def _shapes_of_heads(call: Call) -> list[Head]:
    """Return heads without features, to evaluate the mask: all of them if the mask differs by head, otherwise one."""
    count = call.heads.head_index.array.size if call.heads.mask.by_head else 1
    shape = replace(call.heads, query=np.empty((call.sizes.queries, 0)), key=np.empty((call.sizes.keys, 0)))
    return [replace(shape, head_index=index) for index in range(count)]


def _copied_bytes(call: Call) -> int:
    """Return the bytes of inputs and output copied head by head; of one example if their number is symbolic."""
    heads = call.heads
    arrays = [x.array for x in (heads.query, heads.key, heads.value) if x is not None]
    sizes = [math.prod(n for n in x.shape if isinstance(n, int)) * x.dtype.itemsize for x in arrays]
    return sum(sizes) + sizes[0]

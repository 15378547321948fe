"""Which implementation a call gets, and why not the others."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from attnlab.functional import block_sparse, dense, streaming
from attnlab.functional.blocks import cut, needed
from attnlab.functional.inputs import Inputs
from attnlab.functional.normalizers import as_softmax

IMPLEMENTATIONS: dict[str, Callable[[Inputs, dense.Options], dict[str, Any]]] = {
    "dense": dense.attend,
    "streaming": streaming.attend,
    "block_sparse": block_sparse.attend,
}

SMALL = 2**16
"""Up to so many logits in all, writing them out is quickest."""

LARGE = {True: (512, 256), False: (1024, 512)}
"""Queries and keys of a block: where each device has a core to itself, and where all cores work on one block."""

SPARSE = ((256, 256), (128, 128))
"""Smaller blocks, which fit the edges of a mask better …"""

SMALL_COST = {True: 1.2, False: 1.6}
"""… and cost so much more a logit (docs/attention/implementations.md)."""


@dataclass(frozen=True)
class Plan:
    """How a call of `attention` is carried out; its text says why."""

    implementation: str
    peak_bytes: int
    """Estimate of what exists at once beyond inputs and outputs, forward."""
    block_size: tuple[int, int]
    """Queries and keys of a block, forward."""
    visited: float | None
    """Share of the blocks of logits that are computed; None where only the run can tell."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why this one, and why not each other one."""

    def __str__(self) -> str:
        share = "known when it runs" if self.visited is None else f"{self.visited:.0%}"
        lines = [f"{self.implementation}: {self.reasons[self.implementation]}"]
        lines += [f"  blocks of {self.block_size[0]} queries × {self.block_size[1]} keys, visited: {share}"]
        lines += [f"  about {self.peak_bytes / 2**20:.1f} MiB beyond inputs and outputs, forward"]
        lines += [f"  not {name}: {why}" for name, why in self.reasons.items() if name != self.implementation]
        return "\n".join(lines)


def choose(given: Inputs, options: dense.Options, name: str | None) -> Plan:
    """Plan a call: of the implementation named, or of the one that suits its sizes and mask."""
    if name is not None and name not in IMPLEMENTATIONS:
        raise ValueError(f"attention: implementation {name!r} is none of {', '.join(IMPLEMENTATIONS)}")
    examples, queries, key_heads, group, _ = given.query.array.shape
    keys = given.key.array.shape[1]
    heads = examples * key_heads * group
    item = max(given.query.array.dtype.itemsize, 4)
    blockwise = as_softmax(given.normalizer) is not None and given.value is not None
    if options.block_size is not None:
        choices = [options.block_size]
    elif blockwise:
        choices = [LARGE[options.split], *SPARSE]
    else:
        choices = [streaming.row_block(keys)]
    pairs = [(min(bq, queries), min(bk, keys)) for bq, bk in choices]
    shares = [_visited(given, queries, keys, block) for block in pairs]
    costs = [
        (1.0 if share is None else share) * (SMALL_COST[options.split] if n else 1.0) for n, share in enumerate(shares)
    ]
    best = costs.index(min(costs))
    block, visited = pairs[best], shares[best]
    small = heads * queries * keys <= SMALL
    written = heads * queries * keys * item
    at_once = 1 if options.in_turn else heads
    streamed = 3 * at_once * block[0] * (block[1] if blockwise else keys) * item + _copies(given)
    size = f"{heads} × {queries} × {keys} logits"
    reasons = {
        "dense": f"{size} are few" if small else f"{size} and as many weights would take {_size(2 * written)}",
        "streaming": "blocks of queries" + (" and of keys" if blockwise else "; this normalizer needs whole rows"),
        "block_sparse": "the mask empties no block that could be skipped",
    }
    if visited is None or visited < 1.0:
        share = "those that turn out empty" if visited is None else f"{1 - visited:.0%} of the blocks"
        reasons["block_sparse"] = f"the mask lets {share} be skipped"
        reasons["streaming"] = "it visits the blocks that the mask empties too"
    suited = "dense" if small else "block_sparse" if visited is None or visited < 1.0 else "streaming"
    if small:
        reasons |= dict.fromkeys(("streaming", "block_sparse"), "the blocks are not worth their loop")
    chosen = name or suited
    if chosen != suited:
        reasons |= {suited: f"{chosen} was asked for ({reasons[suited]})", chosen: "asked for"}
    peak = 2 * written if chosen == "dense" else streamed
    return Plan(chosen, peak, block, visited if chosen == "block_sparse" else 1.0, reasons)


def _visited(given: Inputs, queries: int, keys: int, block: tuple[int, int]) -> float | None:
    """Return the share of blocks that the mask lets be seen, 1 if it tells nothing, None if only the run can tell."""
    if given.mask is None or not given.mask.structured:
        return 1.0
    positions = given.query_positions, given.key_positions
    if any(leaf is not None for leaf in positions) or jax.tree.leaves(given.mask):
        return None
    head = given._replace(query=np.empty((queries, 0)), key=np.empty((keys, 0)), head=0)
    lists = needed(head, cut(queries, block[0]), cut(keys, block[1]))
    if not isinstance(lists.full_counts, np.ndarray):
        return None
    total = cut(queries, block[0]).count * cut(keys, block[1]).count
    return float(lists.full_counts.sum() + lists.partial_counts.sum()) / total


def _copies(given: Inputs) -> int:
    """Bytes of the inputs and the output laid out head by head."""
    arrays = [x.array for x in (given.query, given.key, given.value) if x is not None]
    return sum(x.size * x.dtype.itemsize for x in arrays) + arrays[0].size * arrays[0].dtype.itemsize


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"

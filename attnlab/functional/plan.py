"""Which implementation a call gets, and why not the others."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from attnlab.functional import block_sparse, dense, separable, streaming
from attnlab.functional.blocks import cut, needed, visits
from attnlab.functional.devices import device
from attnlab.functional.inputs import Inputs
from attnlab.functional.normalizers import as_softmax

IMPLEMENTATIONS: dict[str, Callable[[Inputs, dense.Options], dict[str, Any]]] = {
    "dense": dense.attend,
    "streaming": streaming.attend,
    "block_sparse": block_sparse.attend,
}


@dataclass(frozen=True)
class Plan:
    """How a call of `attention` is carried out; its text says why."""

    implementation: str
    peak_bytes: int | None
    """Estimate of what exists at once beyond inputs and outputs, forward: of one example where their number is
    symbolic, None where a length is."""
    block_size: tuple[int, int] | None
    """Queries and keys of a block, forward; None where a length is symbolic."""
    visited: float | None
    """Share of the blocks of logits that are computed; None where only the run can tell."""
    reasons: dict[str, str] = field(default_factory=dict)
    """Why this one, and why not each other one."""
    sizes: str = ""
    """What the axes of the inputs were taken to be."""

    def __str__(self) -> str:
        share = "the run tells what share" if self.visited is None else f"{self.visited:.0%}"
        lines = [f"{self.implementation}: {self.reasons[self.implementation]}"]
        lines += [f"  {self.sizes}"]
        if self.block_size is not None:
            lines += [f"  blocks of {self.block_size[0]} queries × {self.block_size[1]} keys, {share} of all logits"]
        if self.peak_bytes is not None:
            lines += [f"  about {self.peak_bytes / 2**20:.1f} MiB beyond inputs and outputs, forward"]
        lines += [f"  not {name}: {why}" for name, why in self.reasons.items() if name != self.implementation]
        return "\n".join(lines)


def choose(given: Inputs, options: dense.Options, name: str | None) -> Plan:
    """Plan a call: of the implementation named, or of the one that suits its sizes and mask."""
    if name is not None and name not in IMPLEMENTATIONS:
        raise ValueError(
            f"attention: implementation {name!r} is none of {', '.join(IMPLEMENTATIONS)}; "
            'write implementation="streaming" for blocks (flash attention), None to have one chosen'
        )
    examples, queries, key_heads, group, _ = given.query.array.shape
    keys = given.key.array.shape[1]
    sizes = _sizes(given)
    if not (isinstance(queries, int) and isinstance(keys, int)):
        return _of_symbolic_lengths(name, queries, keys, sizes)
    heads = (examples if isinstance(examples, int) else 1) * key_heads * group
    item = max(given.query.array.dtype.itemsize, 4)
    if not heads * queries * keys:
        return Plan("dense", 0, (1, 1), 1.0, {"dense": "there is nothing to compute"}, sizes)
    blockwise = as_softmax(given.normalizer) is not None and given.value is not None
    if blockwise:
        block, visited = _blocks(given, options, queries, keys)
    else:
        block, visited = options.block_size or streaming.row_block(keys), _visited(given, queries, keys)
    block = min(block[0], queries), min(block[1], keys)
    small = heads * queries * keys <= device().small
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
        share = "those that turn out empty" if visited is None else f"{1 - visited:.0%} of the logits"
        reasons["block_sparse"] = f"the mask lets {share} be skipped"
        reasons["streaming"] = "it visits the blocks that the mask empties too"
    suited = "dense" if small else "block_sparse" if visited is None or visited < 1.0 else "streaming"
    if small:
        reasons |= dict.fromkeys(("streaming", "block_sparse"), "the blocks are not worth their loop")
    chosen = name or suited
    if (chosen != "dense" or options.split) and (unfit := separable.unfit(given)):
        if options.split and "streaming" in unfit:
            raise ValueError(f"attention: {next(iter(unfit.values()))}, nor a mesh that divides it; write mesh=None")
        reasons |= unfit
        suited = "dense" if "streaming" in unfit else "streaming"
        if name in unfit:
            raise ValueError(f'attention: {unfit[name]}; write implementation="{suited}"')
        if name is None:
            chosen = suited
            reasons[suited] = next(iter(unfit.values())) if suited == "dense" else reasons[suited]
    if chosen != suited:
        reasons |= {suited: f"{chosen} was asked for ({reasons[suited]})", chosen: "asked for"}
    peak = 2 * written if chosen == "dense" else streamed
    return Plan(chosen, peak, block, visited if chosen == "block_sparse" else 1.0, reasons, sizes)


def _of_symbolic_lengths(name: str | None, queries: Any, keys: Any, sizes: str) -> Plan:
    """Plan a call whose number of queries or keys only the run will tell, as under `jax.export`."""
    lengths = f"{queries} queries and {keys} keys"
    if name not in (None, "dense"):
        raise ValueError(
            f"attention: {name} cuts {lengths} into blocks, and needs both numbers while compiling (the batch's may be "
            'symbolic); write implementation="dense"'
        )
    reasons = dict.fromkeys(IMPLEMENTATIONS, f"{lengths} cannot be cut into blocks: the run tells how many they are")
    return Plan("dense", None, None, 1.0, reasons | {"dense": f"the run tells how many {lengths} are"}, sizes)


def _blocks(given: Inputs, options: dense.Options, queries: int, keys: int) -> tuple[tuple[int, int], float | None]:
    """Return the block size that takes least, and the share of logits that it visits (None: only the run can tell)."""
    usual_costs = device().split_steps if options.split else device().steps
    costs = usual_costs if options.block_size is None else {options.block_size: 1}
    usual = next(iter(costs))
    if given.mask is None or not given.mask.structured:
        return usual, 1.0
    if given.query_positions is not None or given.key_positions is not None or jax.tree.leaves(given.mask):
        return usual, None
    rows = {block: cut(queries, block[0]) for block in costs}
    heads = _outlines(given, queries, keys)
    steps = {block: [visits(head, rows[block], block[1], skip=True).steps for head in heads] for block in costs}
    known = {block: sum(n or 0 for n in counts) / len(counts) for block, counts in steps.items() if None not in counts}
    if not known:
        return usual, None

    def cost(block: tuple[int, int]) -> float:
        part = min(block[0], queries) * min(block[1], keys) / (block[0] * block[1])
        return known[block] * costs[block] * part

    best = min(known, key=cost)
    return best, min(known[best] * min(best[1], keys) / (rows[best].count * keys), 1.0)


def _visited(given: Inputs, queries: int, keys: int) -> float | None:
    """Return the share of logits that are computed where a normalizer needs whole rows."""
    if given.mask is None or not given.mask.structured:
        return 1.0
    if given.query_positions is not None or given.key_positions is not None or jax.tree.leaves(given.mask):
        return 1.0
    bq, bk = streaming.row_block(keys)
    if given.mask.by_head:
        return 1.0
    (head,) = _outlines(given, queries, keys)
    columns = streaming.columns_of(needed(head, cut(queries, bq), cut(keys, bk)), cut(keys, bk))
    return 1.0 if columns is None else min(columns.shape[1] / keys, 1.0)


def _outlines(given: Inputs, queries: int, keys: int) -> list[Inputs]:
    """Return heads without features, of which the mask can be asked: one, or all where it differs among them."""
    count = given.head.array.size if given.mask.by_head else 1
    outline = given._replace(query=np.empty((queries, 0)), key=np.empty((keys, 0)))
    return [outline._replace(head=head) for head in range(count)]


def _copies(given: Inputs) -> int:
    """Bytes of the inputs and the output laid out head by head; of one example where their number is symbolic."""
    arrays = [x.array for x in (given.query, given.key, given.value) if x is not None]
    sizes = [math.prod(n for n in x.shape if isinstance(n, int)) * x.dtype.itemsize for x in arrays]
    return sum(sizes) + sizes[0]


def _sizes(given: Inputs) -> str:
    """Name every axis, so that heads taken for positions are seen."""
    examples, queries, key_heads, group, width = given.query.array.shape
    _, keys, _, key_width = given.key.array.shape
    values = "" if given.value is None else f", values of width {given.value.array.shape[-1]}"
    return (
        f"examples: {examples}; queries: {queries} in {key_heads * group} heads of width {width}; "
        f"keys: {keys} in {key_heads} heads of width {key_width}{values}"
    )


def _size(count: int) -> str:
    return f"{count / 2**20:.1f} MiB"

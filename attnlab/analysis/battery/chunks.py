"""Examples of one shape as the arguments of a compiled function, which sees one example and is mapped over them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec
from jaxtyping import PyTree

from attnlab.analysis.explain import Explainer
from attnlab.analysis.explain.call import ModelCall
from attnlab.analysis.explain.positions import padded, parts_in_order, positions_of
from attnlab.data.text.buckets import Shape
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.explained_prediction import ExplainedPrediction
from attnlab.training.steps import BY_ROWS, REPLICATED, mesh

NARROWEST = 16
POSITIONS = 512
"""Positions of the examples of a chunk, padding counted, as far as possible."""
MAX_ROWS = 32


@dataclass(frozen=True)
class Marked:
    """An explained prediction of an example of a data set.

    Attributes:
        number: of the example in the split.
        place: of the example among those that are explained.
        explained: its prediction.
        example: of the data set; None if it is not at hand.
        evidence: which positions the data mark, padding not counted; None if they mark nothing.
        correct: whether the prediction is right; None if that is not known, or there are many right outputs.
    """

    number: int
    place: int
    explained: ExplainedPrediction
    example: Any = None
    evidence: np.ndarray | None = None
    correct: bool | None = None


class Arrays(NamedTuple):
    """The arrays of one example, or with a leading axis those of a chunk."""

    target: Any
    batch: Mapping[str, Any]
    valid: Any
    removable: Any
    rows: Any
    tokens: Any
    """Number of tokens of a generated output, its end included; 1 for a single decision."""
    number: Any
    gold: Any
    """[n] which positions the data mark."""
    comparable: Any
    """[n] the positions that marks are compared among: those of the parts with a mark, without special tokens."""


class Static(NamedTuple):
    """What is the same for all examples of a chunk, and known when a function is compiled."""

    tree: Any
    pools: bool
    generated: bool


@dataclass(frozen=True, eq=False)
class Chunk:
    """Examples of one shape."""

    members: tuple[Marked, ...]
    shape: Shape
    static: Static
    arrays: Arrays


def chunks_of(explainer: Explainer, params: PyTree, examples: Iterable[Marked], total: int) -> Iterator[Chunk]:
    """Yield chunks of examples of the same shape, each as soon as it is full, and the rest at the end.

    The members of a chunk follow from the examples alone if the first chunks of a shape are left out whole, so that
    results are the same, bit for bit, after an interruption.

    Args:
        explainer: of the model.
        params: the parameters of the task's model.
        examples: the explained predictions in the order of their numbers; they are taken one at a time.
        total: number of all examples, of which `examples` may be the rest.
    """
    adapter, groups = explainer.task.adapter, dict[Any, list[Marked]]()
    for example in examples:
        explained = example.explained
        static = Static(jax.tree.structure(explained.inputs), explained.rows is None, bool(explained.output))
        widths = ladder(adapter.lengths(explained.examples[0]), adapter.max_positions)
        members = groups.setdefault((widths, static), [])
        members.append(example)
        rows = chunk_rows(max(widths), total)
        if len(members) == rows:
            yield _chunk(explainer, params, groups.pop((widths, static)), Shape(rows, *widths), static)
    for (widths, static), members in sorted(groups.items(), key=lambda item: item[0][0]):
        yield _chunk(explainer, params, members, Shape(chunk_rows(max(widths), total), *widths), static)


def ladder(lengths: tuple[int, int], longest: int | None) -> tuple[int, int]:
    """Return the width of source and target, each 16 times a power of two; they are the same if they are alike.

    >>> ladder((7, 20), None), ladder((300, 9), 400)
    ((32, 32), (400, 16))
    """
    source, target = (max(NARROWEST, _power_of_two(length)) for length in lengths)
    if max(source, target) <= 2 * min(source, target):
        source = target = max(source, target)
    widths = (source, target)
    if longest is not None:
        widths = tuple(min(width, max(longest, length)) for width, length in zip(widths, lengths, strict=True))
    return widths[0], widths[1]


def chunk_rows(width: int, total: int) -> int:
    """Return the number of examples of a chunk, a multiple of the number of devices."""
    rows, devices = max(1, min(POSITIONS // width, MAX_ROWS, _power_of_two(total))), jax.device_count()
    return -(-rows // devices) * devices


def mapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Compile a function of (params, one example, more arrays of it), mapped over a chunk, split over the devices."""

    def apply(params: PyTree, *arrays: Any) -> Any:
        return jax.vmap(lambda *one: function(params, *one))(*arrays)

    def split(params: PyTree, *arrays: Any) -> Any:
        specs: tuple[PartitionSpec, ...] = (REPLICATED, *(BY_ROWS for _ in arrays))
        return jax.shard_map(apply, mesh=mesh(), in_specs=specs, out_specs=BY_ROWS, check_vma=False)(params, *arrays)

    return jax.jit(split)


def call_of(adapter: ModelAdapter, params: PyTree, static: Static, one: Arrays) -> ModelCall:
    """Return the call of the model with one example."""
    return ModelCall.of(
        adapter, params, one.batch, static.tree,
        target=one.target, valid=one.valid, removable=one.removable, rows=one.rows, pools=static.pools,
    )  # fmt: skip


def _chunk(explainer: Explainer, params: PyTree, members: Sequence[Marked], shape: Shape, static: Static) -> Chunk:
    """Return a chunk that is filled up with copies of its last member."""
    filled = [*members, *[members[-1]] * (shape.rows - len(members))]
    explained = [member.explained for member in filled]
    arrays = explainer.task.adapter.fill([one.examples[0] for one in explained], shape)
    batch = {name: np.asarray(array)[:, None] for name, array in arrays.items()}
    first = {name: array[0] for name, array in batch.items()}
    layout = explainer.layout(params, first, static.tree)
    positions = [positions_of(one, layout, first) for one in explained]
    gold = [padded(one, layout, _flags(member, one)) for member, one in zip(filled, explained, strict=True)]
    among = [padded(one, layout, _comparable(member, one)) for member, one in zip(filled, explained, strict=True)]
    removable = np.stack([place.removable for place in positions])
    return Chunk(
        tuple(members), shape, static,
        Arrays(
            target=jax.tree.map(lambda *values: np.stack(values), *(one.target for one in explained)),
            batch=batch,
            valid=np.stack([place.valid for place in positions]),
            removable=removable,
            rows=np.stack([place.rows for place in positions]),
            tokens=np.array([max(len(one.output), 1) for one in explained], np.int32),
            number=np.array([member.number for member in filled], np.int32),
            gold=np.stack(gold),
            comparable=np.stack(among) & removable,
        ),
    )  # fmt: skip


def _flags(member: Marked, explained: ExplainedPrediction) -> np.ndarray:
    count = sum(len(part.labels) for part in parts_in_order(explained))
    if member.evidence is None:
        return np.zeros(count, bool)
    if member.evidence.shape != (count,):
        raise ValueError(f"evidence of example {member.number}: {member.evidence.shape} marks for {count} positions")
    return member.evidence


def _comparable(member: Marked, explained: ExplainedPrediction) -> np.ndarray:
    flags, pieces, start = _flags(member, explained), [np.zeros(0, bool)], 0
    for part in parts_in_order(explained):
        end = start + len(part.labels)
        pieces.append(np.full(end - start, flags[start:end].any()))
        start = end
    return np.concatenate(pieces)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()

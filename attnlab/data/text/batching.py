"""Batches of a few fixed shapes, in an order that depends only on the seed.

The batch of any step can be computed directly, so a resumed run continues with the same batches as an unbroken one.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import numpy as np

from attnlab.config.errors import UserError
from attnlab.data.text.buckets import Shape, assign, choose
from attnlab.data.text.tokenizer import BOS, EOS

Batch = dict[str, np.ndarray]
"""Arrays whose first axis is the batch. For pairs: int32, padded with 0: source [b s] (w1 … wn EOS),
source_lengths [b], target_in [b t] (BOS w1 … wn), target_out [b t] (w1 … wn EOS), target_lengths [b] (n + 1).
A row with lengths 0 is padding."""

Fill = Callable[[Shape, Sequence[int]], Batch]
"""Function (shape, indices of examples) -> batch of `shape.rows` rows; rows beyond the examples are padding."""

Pairs = Sequence[tuple[Sequence[int], Sequence[int]]]
"""Token ids of the source and the target of each pair, without BOS and EOS."""

_EVALUATION_SHAPES = 6
"""Largest number of shapes of an evaluation."""
_LEAST_SAVED = 8192
"""Padding, in positions, that a shape must save: compiling it takes as long as decoding about as many positions."""
_PREFETCHED = 8


def training_pairs(sources: Sequence[Sequence[int]], targets: Sequence[Sequence[int]], longest: int) -> Pairs:
    """Return the pairs with at most `longest` tokens in source and in target, without EOS."""
    return [(s, t) for s, t in zip(sources, targets, strict=True) if max(len(s), len(t)) <= longest]


class Batches:
    """The training batches of all steps; each example occurs exactly once per epoch.

    Args:
        lengths: number of source and of target positions of each example (equal for tasks without a target sequence).
        fill: function that returns the arrays of a batch.
        batch_tokens: largest number of target positions in a batch, including padding.
        buckets: largest number of shapes.
        seed: seed of the order.
        row_multiple: the number of rows of a batch is a multiple of this (the number of devices).
    """

    def __init__(
        self,
        lengths: Sequence[tuple[int, int]],
        fill: Fill,
        batch_tokens: int,
        buckets: int,
        seed: int,
        row_multiple: int = 1,
    ) -> None:
        if not lengths:
            raise UserError("no training examples are left: all of them are longer than task.max_length")
        self._fill, self._seed = fill, seed
        source, target = ([pair[side] for pair in lengths] for side in (0, 1))
        self._shapes = choose(source, target, batch_tokens, buckets, row_multiple)
        self._members = assign(self._shapes, source, target)
        self._real = (sum(source), sum(target))
        self._plans: dict[int, list[tuple[Shape, np.ndarray]]] = {}
        self._lock = threading.Lock()

    @classmethod
    def of_pairs(cls, pairs: Pairs, batch_tokens: int, buckets: int, seed: int, row_multiple: int = 1) -> "Batches":
        """Return the batches of pairs of token sequences (see `Batch`)."""
        lengths = [(len(source) + 1, len(target) + 1) for source, target in pairs]
        fill = lambda shape, members: fill_pairs(shape, [pairs[i] for i in members])  # noqa: E731
        return cls(lengths, fill, batch_tokens, buckets, seed, row_multiple)

    def __len__(self) -> int:
        """Return the number of batches in an epoch."""
        return sum(-(-len(m) // shape.rows) for shape, m in zip(self._shapes, self._members, strict=True))

    @property
    def examples(self) -> int:
        """Return the number of examples in an epoch."""
        return sum(map(len, self._members))

    @property
    def shapes(self) -> list[tuple[int, int, int]]:
        """Return rows, source positions and target positions of each shape of batch."""
        return [(shape.rows, shape.source, shape.target) for shape in self._shapes]

    @property
    def real_fraction(self) -> float:
        """Return the fraction of target positions in an epoch that are not padding."""
        return self._real[1] / self._positions("target")

    @property
    def real_source_fraction(self) -> float:
        """Return the fraction of source positions in an epoch that are not padding."""
        return self._real[0] / self._positions("source")

    def batch(self, step: int) -> Batch:
        """Return the batch of a step; steps are counted from 0 over all epochs."""
        epoch, index = divmod(step, len(self))
        shape, members = self._plan(epoch)[index]
        return self._fill(shape, members.tolist())

    def steps_by_shape(self) -> dict[Shape, list[int]]:
        """Return the steps of the first epoch whose batches have each shape."""
        steps: dict[Shape, list[int]] = {}
        for step, (shape, _) in enumerate(self._plan(0)):
            steps.setdefault(shape, []).append(step)
        return steps

    def iterate(self, start_step: int = 0) -> Iterator[Batch]:
        """Yield the batches from a step on, without end; a thread of grain prepares the next ones."""
        import grain  # takes two seconds and imports jax

        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=_PREFETCHED)
        batches = iter(grain.MapDataset.source(_Steps(self)).to_iter_dataset(options))
        batches.set_state({"next_index": start_step})
        return batches

    def _positions(self, side: str) -> int:
        parts = zip(self._shapes, self._members, strict=True)
        return sum(-(-len(m) // shape.rows) * shape.rows * getattr(shape, side) for shape, m in parts)

    def _plan(self, epoch: int) -> list[tuple[Shape, np.ndarray]]:
        """Return the batches of an epoch: examples are shuffled within buckets, then the batches of all buckets."""
        with self._lock:
            if epoch not in self._plans:
                rng = np.random.default_rng([self._seed, epoch])
                plan = []
                for shape, members in zip(self._shapes, self._members, strict=True):
                    order = rng.permutation(members)
                    plan += [(shape, order[i : i + shape.rows]) for i in range(0, len(order), shape.rows)]
                shuffled = [plan[i] for i in rng.permutation(len(plan))]
                self._plans = {other: plan for other, plan in self._plans.items() if abs(other - epoch) <= 1}
                self._plans[epoch] = shuffled
            return self._plans[epoch]


class _Steps:
    """Data source of grain with the batches of all steps."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches

    def __len__(self) -> int:
        return 2**40

    def __getitem__(self, index: int) -> Batch:
        return self._batches.batch(index)

    def __repr__(self) -> str:
        return "attnlab.data.text.batching.Batches"


def fill_pairs(shape: Shape, pairs: Pairs) -> Batch:
    """Return the arrays of a batch of pairs (see `Batch`)."""
    sizes = {"source": shape.source, "target_in": shape.target, "target_out": shape.target}
    batch = {name: np.zeros((shape.rows, size), np.int32) for name, size in sizes.items()}
    lengths = {name: np.zeros(shape.rows, np.int32) for name in ("source_lengths", "target_lengths")}
    for row, (source, target) in enumerate(pairs):
        batch["source"][row, : len(source) + 1] = [*source, EOS]
        batch["target_in"][row, : len(target) + 1] = [BOS, *target]
        batch["target_out"][row, : len(target) + 1] = [*target, EOS]
        lengths["source_lengths"][row], lengths["target_lengths"][row] = len(source) + 1, len(target) + 1
    return batch | lengths


def evaluation_batches(
    sources: Sequence[Sequence[int]], batch_tokens: int, row_multiple: int = 1, longest: int | None = None
) -> Iterator[tuple[list[int], np.ndarray, np.ndarray]]:
    """Yield batches of all sources for decoding, shortest first (see `evaluation_shapes`).

    Args:
        sources: token ids without EOS, which is added.
        batch_tokens: largest number of source positions in a batch, including padding.
        row_multiple: the number of rows of a batch is a multiple of this.
        longest: largest number of positions of the model, including EOS; None for no limit.

    Yields:
        The indices of the sources in the first rows, the int32 sources [b s], and their lengths [b] including EOS (rows
        beyond the indices are padding of length 0).
    """
    lengths = [len(source) + 1 for source in sources]
    for chosen, shape in evaluation_shapes(lengths, batch_tokens, row_multiple, longest):
        batch = fill_pairs(shape, [(sources[i], ()) for i in chosen])
        yield chosen, batch["source"], batch["source_lengths"]


def evaluation_shapes(
    lengths: Sequence[int], batch_tokens: int, row_multiple: int = 1, longest: int | None = None
) -> Iterator[tuple[list[int], Shape]]:
    """Yield batches of all examples, shortest first.

    There are at most six shapes, whose widths are powers of two or 1.5 times a power of two, so that repeated calls
    compile few shapes. A shape that would save little padding is left out.

    Args:
        lengths: number of positions of each example.
        batch_tokens: largest number of positions in a batch, including padding.
        row_multiple: the number of rows of a batch is a multiple of this.
        longest: largest number of positions of the model; None for no limit.

    Yields:
        The indices of the examples in the first rows, and the shape (its `source` is the width, its `target` is 1).
    """
    counts = np.asarray(lengths, int)
    if longest is not None and len(counts) and counts.max() > longest:
        raise ValueError(f"an example has {counts.max()} positions, but the model takes {longest}")
    order = np.argsort(counts, kind="stable")
    start = 0
    for width in _widths(counts):
        end = int(np.searchsorted(counts[order], width, side="right"))
        width = width if longest is None else min(width, longest)
        limit = max(batch_tokens // width // row_multiple, 1)
        rows = row_multiple * min(limit, _power_of_two(-(-(end - start) // row_multiple)))
        for first in range(start, end, rows):
            yield order[first : min(first + rows, end)].tolist(), Shape(rows, width, 1)
        start = end


def _widths(lengths: np.ndarray) -> list[int]:
    """Return at most six widths for all lengths: the fixed widths in use, without those that save little padding."""
    widths = [8]
    while len(lengths) and widths[-1] < lengths.max():
        power = _power_of_two(widths[-1])
        widths.append(power * 3 // 2 if widths[-1] == power else power)
    used = np.bincount(np.searchsorted(widths, lengths), minlength=len(widths))
    counts = {width: int(count) for width, count in zip(widths, used, strict=True) if count}
    while len(counts) > 1:
        saved = {end: counts[end] * (after - end) for end, after in pairwise(counts)}
        end = min(saved, key=saved.__getitem__)
        if len(counts) <= _EVALUATION_SHAPES and saved[end] >= _LEAST_SAVED:
            break
        after = min(other for other in counts if other > end)
        counts[after] += counts.pop(end)
    return list(counts)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, 0).bit_length()

"""Published sparse patterns: dilated windows, strides, global tokens."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask
from attnlab.functional.masks.alignment import (
    LARGEST,
    Aligned,
    Alignment,
    integer_array,
    map_size,
    static_integer,
    valid_alignment,
)
from attnlab.functional.masks.blocks import BlockClasses, Blocks, Table
from attnlab.functional.masks.picture import describe
from attnlab.functional.types import Positions, Where


def _same_phase(blocks: Blocks, period: int) -> BlockClasses:
    """Return, for each block, whether any query and key may be congruent modulo the period, and whether all are."""
    (first, last), (low, high) = Blocks(blocks.query % period, blocks.key % period, None).rows_and_columns
    constant = (first == last) & (low == high)
    return ~constant | (first == low), constant & (first == low)


def _holds_multiple(low: Table, high: Table, period: int) -> Table:
    """Return whether a multiple of the period lies in [low, high]."""
    return (high // period) * period >= low


@partial(register_dataclass, data_fields=["alignment"], meta_fields=["window", "dilation"])
@dataclass(frozen=True, repr=False, eq=False)
class Dilated(Aligned):
    """A sliding window with gaps; made by `dilated`."""

    window: int
    dilation: int
    alignment: Any
    name = "dilated"

    @property
    def _side(self) -> int:
        return min(self.window // 2 * self.dilation, LARGEST)

    def __call__(self, positions: Positions) -> Where:
        distance = positions.columns - (positions.rows + self.offset)
        return (abs(distance) <= self._side) & (distance % self.dilation == 0)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        blocks = self.aligned(blocks)
        (first, last), (low, high) = blocks.rows_and_columns
        nearest, farthest = low - last, high - first
        some, every = _same_phase(blocks, self.dilation)
        some &= _holds_multiple(nearest.clip(-self._side, None), farthest.clip(None, self._side), self.dilation)
        return some, every & (nearest >= -self._side) & (farthest <= self._side)

    def reach(self) -> int:
        return map_size(self._side)

    def expression(self) -> str:
        return self.call_text(self.window, self.dilation)


def dilated(window: int, dilation: int, alignment: Alignment = None) -> Mask:
    """Let query i attend to every `dilation`-th key around it, with half of the window on each side.

    may[i, j] = |j − i| ≤ ⌊window / 2⌋ · dilation  and  j ≡ i  (mod dilation),   i counted with the offset

    Args:
        window: number of keys besides the query's own, even, at least 0.
        dilation: distance between these keys, at least 1; 1 is `sliding_window(window // 2, window // 2)`.
        alignment: as in `causal`; required when the numbers of queries and keys differ.
    Returns: a mask whose only array is an array of offsets; `dilated(...) & causal()` is its left half.
    Reference: Beltagy, Peters & Cohan 2020 (Longformer), section 3.1, figure 2c.

    >>> dilated(2, 2).dense(1, 1).tolist(), dilated(2, 2).dense(5, 5).astype(int)[2].tolist()
    ([[True]], [1, 0, 1, 0, 1])
    """
    alignment = valid_alignment("dilated", alignment)
    window = static_integer("dilated", "window", window, minimum=0)
    if window % 2:
        raise ValueError(f"dilated: window must be even, with half of it on each side, not {window}")
    return Dilated(window, static_integer("dilated", "dilation", dilation, minimum=1), alignment)


@partial(register_dataclass, data_fields=["alignment"], meta_fields=["stride"])
@dataclass(frozen=True, repr=False, eq=False)
class Strided(Aligned):
    """The strided pattern of the Sparse Transformer; made by `strided`."""

    stride: int
    alignment: Any
    name = "strided"

    def __call__(self, positions: Positions) -> Where:
        back = positions.rows + self.offset - positions.columns
        return (back >= 0) & ((back <= self.stride) | (back % self.stride == 0))

    def bounds(self, blocks: Blocks) -> BlockClasses:
        blocks = self.aligned(blocks)
        (first, last), (low, high) = blocks.rows_and_columns
        nearest, farthest = first - high, last - low
        may, agree = _same_phase(blocks, self.stride)
        past = nearest.clip(0, None)
        some = (farthest >= 0) & ((past <= self.stride) | may & _holds_multiple(past, farthest, self.stride))
        return some, (nearest >= 0) & ((farthest <= self.stride) | agree)

    def reach(self) -> int:
        return map_size(self.stride)

    def expression(self) -> str:
        return self.call_text(self.stride)


def strided(stride: int, alignment: Alignment = None) -> Mask:
    """Let query i attend to the last `stride` keys and to every `stride`-th key before them.

    A¹_i = {j : max(0, i − l) ≤ j ≤ i},   A²_i = {j ≤ i : (i − j) mod l = 0},   may[i, j] = j ∈ A¹_i ∪ A²_i

    The paper uses the two sets in two heads, in alternating layers, or, as here, in one merged head; the first alone is
    `sliding_window(l, 0)`.

    Args:
        stride: l, near √T, at least 1.
        alignment: as in `causal`; required when the numbers of queries and keys differ.
    Returns: a mask whose only array is an array of offsets.
    Reference: Child, Gray, Radford & Sutskever 2019 (Sparse Transformer), sections 4.3 and 5.1.

    >>> strided(2).dense(6, 6).astype(int)[5].tolist()
    [0, 1, 0, 1, 1, 1]
    """
    alignment = valid_alignment("strided", alignment)
    return Strided(static_integer("strided", "stride", stride, minimum=1), alignment)


@partial(register_dataclass, data_fields=["alignment"], meta_fields=["stride", "summary"])
@dataclass(frozen=True, repr=False, eq=False)
class Fixed(Aligned):
    """The fixed pattern of the Sparse Transformer; made by `fixed`."""

    stride: int
    summary: int
    alignment: Any
    name = "fixed"

    def __call__(self, positions: Positions) -> Where:
        rows = positions.rows + self.offset
        summary = positions.columns % self.stride >= self.stride - self.summary
        return (positions.columns <= rows) & ((positions.columns // self.stride == rows // self.stride) | summary)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        blocks = self.aligned(blocks)
        (first, last), (low, high) = blocks.rows_and_columns
        chunks = Blocks(blocks.query // self.stride, blocks.key // self.stride, None)
        (first_chunk, last_chunk), (low_chunk, high_chunk) = chunks.rows_and_columns
        summary = blocks.key % self.stride >= self.stride - self.summary
        meet = (low_chunk <= last_chunk) & (first_chunk <= high_chunk)
        same = (low_chunk == high_chunk) & (first_chunk == last_chunk) & (first_chunk == low_chunk)
        some = (low <= last) & (meet | summary.any(axis=1)[None, :])
        return some, (high <= first) & (same | summary.all(axis=1)[None, :])

    def reach(self) -> int:
        return map_size(self.stride)

    def expression(self) -> str:
        return self.call_text(self.stride, self.summary)


def fixed(stride: int, summary: int, alignment: Alignment = None) -> Mask:
    """Let query i attend to its own chunk and to the last few keys of every earlier chunk.

    A¹_i = {j ≤ i : ⌊j / l⌋ = ⌊i / l⌋},   A²_i = {j ≤ i : j mod l ≥ l − c},   may[i, j] = j ∈ A¹_i ∪ A²_i

    As in `strided`, the paper's two heads are merged into one.

    Args:
        stride: l, the length of a chunk, at least 1.
        summary: c, number of keys at the end of each chunk that all later queries attend to; 1 to l.
        alignment: as in `causal`; required when the numbers of queries and keys differ.
    Returns: a mask whose only array is an array of offsets.
    Reference: Child, Gray, Radford & Sutskever 2019 (Sparse Transformer), section 4.3. Its text lets j mod l run
        to l, which no remainder reaches; here it runs to l − 1, which gives c keys.

    >>> fixed(3, 1).dense(8, 8).astype(int)[7].tolist()
    [0, 0, 1, 0, 0, 1, 1, 1]
    """
    alignment = valid_alignment("fixed", alignment)
    stride = static_integer("fixed", "stride", stride, minimum=1)
    if (summary := static_integer("fixed", "summary", summary, minimum=1)) > stride:
        raise ValueError(f"fixed: summary must be at most the stride {stride}, not {summary}")
    return Fixed(stride, summary, alignment)


@partial(register_dataclass, data_fields=["traced", "alignment"], meta_fields=["static"])
@dataclass(frozen=True, repr=False, eq=False)
class GlobalTokens(Aligned):
    """The mask of global tokens, which attend to all and are attended to by all; made by `global_tokens`."""

    traced: Any
    static: int | tuple[int, ...] | None
    alignment: Any
    name = "global_tokens"

    def _is_global(self, positions: Any) -> Any:
        """Return which positions are global."""
        if isinstance(self.static, int):
            return (positions >= 0) & (positions < self.static)
        tokens = np.asarray(self.static, np.int32) if self.static is not None else self.traced.astype(positions.dtype)
        front = (1,) * positions.ndim
        return (positions[..., None] == tokens.reshape(*front, -1)).any(axis=-1)

    def __call__(self, positions: Positions) -> Where:
        rows, columns = self._is_global(positions.query + self.offset), self._is_global(positions.key)
        return rows[:, None] | columns[None, :]

    def bounds(self, blocks: Blocks) -> BlockClasses:
        blocks = self.aligned(blocks)
        rows, columns = self._is_global(blocks.query), self._is_global(blocks.key)
        some = rows.any(axis=1)[:, None] | columns.any(axis=1)[None, :]
        return some, rows.all(axis=1)[:, None] | columns.all(axis=1)[None, :]

    def leaf_ranks(self) -> tuple[int, ...]:
        tokens = () if self.traced is None else (1,)
        return (*tokens, *(0 for _ in jax.tree.leaves(self.alignment)))

    def reach(self) -> int:
        if isinstance(self.static, int):
            return map_size(self.static // 2)
        tokens = self.traced if self.static is None else np.asarray(self.static, np.int32)
        return map_size(int(tokens.max()) // 2) if tokens.size else map_size(0)

    def expression(self) -> str:
        return self.call_text(describe(self.traced) if self.static is None else self.static)


def global_tokens(tokens: Array | np.ndarray | Sequence[int] | int, alignment: Alignment = None) -> Mask:
    """Let a few tokens attend to all and be attended to by all; usually combined with another mask by |.

    may[i, j] = i ∈ G or j ∈ G,   i counted with the offset

    Args:
        tokens: G: an integer n for the first n positions; a tuple or list of positions (static); an integer array
            [*B, g] of positions for each example, [g] for all, with −1 as padding.
        alignment: as in `causal`; required when the numbers of queries and keys differ.
    Returns: a mask, with the positions as its leaf if `tokens` is an array.
    Reference: Beltagy, Peters & Cohan 2020 (Longformer), section 3.1; Zaheer et al. 2020 (BigBird), section 2.

    >>> global_tokens([1]).dense(3, 3).astype(int).tolist()
    [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    """
    alignment = valid_alignment("global_tokens", alignment)
    if isinstance(tokens, Array | np.ndarray):
        traced = integer_array("global_tokens", tokens)
        if traced is None or traced.ndim == 0:
            raise ValueError(
                "global_tokens: an array must hold positions [*B, g]; write a Python integer for the first n positions"
            )
        return GlobalTokens(traced, None, alignment)
    if isinstance(tokens, Sequence):
        return GlobalTokens(
            None,
            tuple(sorted({static_integer("global_tokens", "a position", t, minimum=0) for t in tokens})),
            alignment,
        )
    return GlobalTokens(None, static_integer("global_tokens", "tokens", tokens, minimum=0), alignment)

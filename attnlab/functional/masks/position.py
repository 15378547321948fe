"""Masks by distance: causal masks and sliding windows, shared by all examples or different for each."""

from dataclasses import dataclass
from functools import partial, reduce
from operator import and_
from typing import Any

import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask
from attnlab.functional.masks.alignment import (
    Aligned,
    Alignment,
    Static,
    field_text,
    integer_array,
    map_size,
    static_integer,
    valid_alignment,
)
from attnlab.functional.masks.blocks import BlockClasses, Blocks
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Positions, Where, known


@partial(register_dataclass, data_fields=["alignment"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Causal(Aligned):
    """The causal mask; made by `causal`."""

    alignment: Any
    name = "causal"

    def __call__(self, positions: Positions) -> Where:
        return positions.columns <= positions.rows + self.offset

    def bounds(self, blocks: Blocks) -> BlockClasses:
        (first, last), (low, high) = self.aligned(blocks).rows_and_columns
        return low <= last, high <= first

    def expression(self) -> str:
        return f"causal({'' if self.alignment == Static(None) else field_text(self.alignment)})"


def causal(alignment: Alignment = None) -> Mask:
    """Let query i attend to the keys up to its own position.

    may[i, j] = j ≤ i + offset

    Args:
        alignment: the position of the diagonal when the numbers of queries and keys, T and S, differ: "upper_left" is
            offset 0, "lower_right" offset S − T (the last query attends to all keys), an integer is the offset itself,
            and an integer array [*B] the offset of each example ([] for all), such as the number of tokens in its cache
            before the first query. None requires T = S.
    Returns: a mask whose only array is an array of offsets.
    Numerics: with a negative offset the first queries are fully masked: their output is 0.
    Reference: Vaswani et al. 2017, section 3.2.3.

    >>> causal("lower_right").dense(2, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    >>> causal(np.array([0, 2])).dense(1, 3).astype(int).tolist()
    [[[1, 0, 0]], [[1, 1, 1]]]
    """
    return Causal(valid_alignment("causal", alignment))


@partial(register_dataclass, data_fields=["left", "right", "alignment"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class SlidingWindow(Aligned):
    """The mask of a sliding window; made by `sliding_window`."""

    left: Any
    """`Static`, an array [*B], or None for no limit on this side."""
    right: Any
    alignment: Any
    name = "sliding_window"

    @property
    def _sides(self) -> tuple[Any, Any]:
        """The widths to the left and to the right."""
        sides = (side.value if isinstance(side, Static) else side for side in (self.left, self.right))
        left, right = (side if side is None or isinstance(side, int) else side.astype(np.int32) for side in sides)
        return left, right

    def __call__(self, positions: Positions) -> Where:
        distance = positions.columns - (positions.rows + self.offset)
        left, right = self._sides
        ends = [] if left is None else [distance >= -left]
        return reduce(and_, ends if right is None else [*ends, distance <= right])

    def bounds(self, blocks: Blocks) -> BlockClasses:
        (first, last), (low, high) = self.aligned(blocks).rows_and_columns
        nearest, farthest = low - last, high - first
        left, right = self._sides
        some, every = [], []
        if left is not None:
            some, every = [farthest >= -left], [nearest >= -left]
        if right is not None:
            some, every = [*some, nearest <= right], [*every, farthest <= right]
        return reduce(and_, some), reduce(and_, every)

    def reach(self) -> int:
        return map_size(max(int(np.max(side)) for side in self._sides if side is not None))

    def expression(self) -> str:
        return self.call_text(field_text(self.left), field_text(self.right))


@suggest_arguments()
def sliding_window(
    left: int | Array | np.ndarray | None, right: int | Array | np.ndarray | None, alignment: Alignment = None
) -> Mask:
    """Let query i attend to the keys at most `left` before and `right` after its own position.

    may[i, j] = −left ≤ j − (i + offset) ≤ right

    A query attends to left + right + 1 keys: a causal window of W tokens elsewhere is `sliding_window(W - 1, 0)`, and
    Longformer's window of w, half on each side, is `sliding_window(w // 2, w // 2)`.

    Args:
        left: number of keys before its own position, at least 0: a Python integer (static); an integer array [*B] with
            a number for each example, or [] for all, which may be traced; None for no limit.
        right: number of keys after its own position, likewise; `sliding_window(None, 0)` is `causal()`. At most one
            of left and right is None.
        alignment: as in `causal`; required when the numbers of queries and keys differ.
    Returns: a mask whose leaves are the arrays among these arguments: new widths do not compile again, while the empty
        blocks of static widths are known at compile time.
    Numerics: an array with a negative width raises if its values are known, and follows the equation inside jit.
    Reference: Beltagy, Peters & Cohan 2020, section 3.1; Luong et al. 2015, section 3.2 (local-m, a window of 2D + 1).

    >>> sliding_window(1, 0).dense(3, 3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    >>> sliding_window(np.array([0, 1]), 0).dense(2, 2).astype(int).tolist()
    [[[1, 0], [0, 1]], [[1, 0], [1, 1]]]
    """
    if left is None and right is None:
        raise ValueError("sliding_window: left and right are both None, so nothing is masked; write mask=None")
    alignment = valid_alignment("sliding_window", alignment)
    return SlidingWindow(_side("left", left), _side("right", right), alignment)


def _side(name: str, width: Any) -> Any:
    """Return one width as the mask stores it; raise if it is invalid."""
    if width is None:
        return None
    if not isinstance(width, Array | np.ndarray):
        return Static(static_integer("sliding_window", name, width, minimum=0))
    values = known(width := integer_array("sliding_window", width))
    if values is not None and values.size and values.min() < 0:
        raise ValueError(f"sliding_window: {name} must be at least 0, not {values.min()}")
    return width

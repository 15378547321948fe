"""Masks by where query and key lie: causal and sliding windows."""

from dataclasses import dataclass
from functools import partial
from typing import Literal

from jax.tree_util import register_dataclass

from attnlab.functional.calls import explained
from attnlab.functional.masks.alignment import Aligned, Alignment, telling, valid_alignment, whole
from attnlab.functional.masks.base import Mask
from attnlab.functional.masks.blocks import Answer, Blocks
from attnlab.functional.types import Positions, Where


@partial(register_dataclass, data_fields=[], meta_fields=["alignment"])
@dataclass(frozen=True, repr=False, eq=False)
class Causal(Aligned):
    """No query sees a later key; made by `causal`."""

    alignment: Alignment
    name = "causal"

    def __call__(self, positions: Positions) -> Where:
        return positions.columns <= positions.rows + self.offset

    def bounds(self, blocks: Blocks) -> Answer:
        (first, last), (low, high) = self.aligned(blocks).rows_and_columns
        return low <= last, high <= first

    def expression(self) -> str:
        return f"causal({'' if self.alignment is None else repr(self.alignment)})"


def causal(alignment: Literal["lower_right", "upper_left"] | int | None = None) -> Mask:
    """Let query i attend to the keys up to its own position.

    may[i, j] = j ≤ i + offset

    Args:
        alignment: where the diagonal lies when the numbers of queries and keys, T and S, differ:
            "upper_left" is offset 0, "lower_right" offset S − T (the last query sees all keys), a number
            is the offset itself. None is right only for T = S, and an error otherwise.
    Returns: a mask without arrays.
    Numerics: with a negative offset the first queries see no key: their output is 0.
    Reference: Vaswani et al. 2017, section 3.2.3.

    >>> causal("lower_right").dense(2, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 1]]
    """
    valid_alignment("causal", alignment)
    return Causal(alignment)


@partial(register_dataclass, data_fields=[], meta_fields=["left", "right", "alignment"])
@dataclass(frozen=True, repr=False, eq=False)
class SlidingWindow(Aligned):
    """A query sees the keys around it; made by `sliding_window`."""

    left: int
    right: int
    alignment: Alignment
    name = "sliding_window"

    def __call__(self, positions: Positions) -> Where:
        distance = positions.columns - (positions.rows + self.offset)
        return (distance >= -self.left) & (distance <= self.right)

    def bounds(self, blocks: Blocks) -> Answer:
        (first, last), (low, high) = self.aligned(blocks).rows_and_columns
        nearest, farthest = low - last, high - first
        return (farthest >= -self.left) & (nearest <= self.right), (nearest >= -self.left) & (farthest <= self.right)

    def reach(self) -> int:
        return telling(max(self.left, self.right))

    def expression(self) -> str:
        return self.written(self.left, self.right)


@explained()
def sliding_window(left: int, right: int, alignment: Literal["lower_right", "upper_left"] | int | None = None) -> Mask:
    """Let query i attend to the keys at most `left` before and `right` after its own position.

    may[i, j] = −left ≤ j − (i + offset) ≤ right

    A query sees left + right + 1 keys: what others call a causal window of W tokens is `sliding_window(W - 1, 0)`,
    and Longformer's window of w, half on each side, is `sliding_window(w // 2, w // 2)`.

    Args:
        left: how many keys before its own a query sees, at least 0.
        right: how many after its own, at least 0.
        alignment: as of `causal`: needed when the numbers of queries and keys differ.
    Returns: a mask without arrays.
    Reference: Beltagy, Peters & Cohan 2020, section 3.1; Luong et al. 2015, section 3.2 (local-m, a window of 2D + 1).

    >>> sliding_window(1, 0).dense(3, 3).astype(int).tolist()
    [[1, 0, 0], [1, 1, 0], [0, 1, 1]]
    """
    valid_alignment("sliding_window", alignment)
    left, right = (whole("sliding_window", *side, least=0) for side in (("left", left), ("right", right)))
    return SlidingWindow(left, right, alignment)

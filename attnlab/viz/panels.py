"""Panels: the row groups of an attention map, each with its own color scale."""

from dataclasses import dataclass

import numpy as np

from attnlab.tasks.attention_map import AttentionMap, ImageAttentionMap, RowGroup

FAINT = 0.5
"""If all weights are below this, as in a long text, the scale ends at the largest weight."""
PALE = 32
"""If uniform weights would have less than 1/PALE of the strongest color, colors follow the square root."""


@dataclass(frozen=True, eq=False)
class Panel:
    """Weights that are drawn on one color scale.

    Attributes:
        group: title and labels of the rows.
        row_labels: label of each row.
        weights: [rows columns].
        top: weight of the strongest color; if any weight is negative, the scale starts at −top.
    """

    group: RowGroup
    row_labels: list[str]
    weights: np.ndarray
    top: float

    @property
    def signed(self) -> bool:
        """Whether any weight is negative, as some normalizers make them."""
        return bool((self.weights < 0).any())

    @property
    def normalized_axis(self) -> str:
        """The axis along which the weights sum to 1: "row" for every row, "column" for every column, "" for neither."""
        sums = {"row": self.weights.sum(axis=1), "column": self.weights.sum(axis=0)}
        return next((name for name, sum_ in sums.items() if sum_.size and np.allclose(sum_, 1.0, atol=0.005)), "")

    @property
    def title(self) -> str:
        """Title of the group, with the axis that sums to 1; empty for a group without a title."""
        sums = f": every {self.normalized_axis} sums to 1" if self.normalized_axis else ""
        return self.group.title and self.group.title + sums

    @property
    def square_root(self) -> bool:
        """Whether colors follow the square root of the weights, so that small ones are visible beside a large one."""
        entries = self.weights.shape[0 if self.normalized_axis == "column" else 1]
        return entries * self.top > PALE


def panels(attention_map: AttentionMap) -> list[Panel]:
    """Return the panels of an attention map, one per row group."""
    split, start = [], 0
    for group in attention_map.row_groups or (RowGroup(len(attention_map.row_labels), "", attention_map.row_label),):
        rows = slice(start, start + group.rows)
        weights = attention_map.weights[rows]
        split.append(Panel(group, attention_map.row_labels[rows], weights, scale_top(weights)))
        start += group.rows
    return split


def image_panel(attention_map: ImageAttentionMap) -> Panel:
    """Return the cells of all grids as one panel, whose scale ends at the largest weight."""
    rows, cells = len(attention_map.weights), int(np.prod(attention_map.weights.shape[1:]))
    weights = attention_map.weights.reshape(rows, cells)
    top = float(np.abs(weights).max(initial=0.0)) or 1.0
    return Panel(RowGroup(rows, value_label="attention weight of a cell"), attention_map.row_labels, weights, top)


def scale_top(weights: np.ndarray) -> float:
    """Return the weight of the strongest color.

    It is 1, so that pictures can be compared, or the largest weight if all are below `FAINT` or any is above 1.
    """
    largest = float(np.abs(weights).max(initial=0.0))
    return largest if 0.0 < largest < FAINT or largest > 1.005 else 1.0

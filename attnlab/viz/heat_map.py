"""Heat maps of attention between labeled rows and columns, split into bands if they are wide."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from attnlab.tasks.attention_map import AttentionMap
from attnlab.viz.colors import SHORTEST_BAR, add_color_bar, colors
from attnlab.viz.fonts import (
    DPI,
    EDGE,
    EVIDENCE,
    HEADING,
    LARGEST,
    LETTER,
    LETTERS,
    LINE,
    LONGEST_LABEL,
    LONGEST_SENTENCE,
    NARROWEST,
    UNKNOWN,
    labels,
    letters,
    save,
    text_style,
    wrapped,
    write,
)
from attnlab.viz.panels import Panel, panels
from attnlab.viz.text import caveat, contains_word, heading, unknown_words_message

CELL = 0.32
"""Height of a row and width of a column in inches, enough for labels of `LETTERS` points."""
WIDEST = 60
"""Largest number of columns of a picture that is not split into bands."""
MIN_ROWS = 3
"""Smallest number of rows whose height is reserved for the label of the rows."""


def draw_heat_map(attention_map: AttentionMap, path: Path) -> str:
    """Draw attention weights as heat maps with the sum of each row at its end.

    Every row group has its own map, title and color scale. A scale ranges from 0 (white) to 1, so that pictures can be
    compared; it ends at the largest weight if all weights are below `panels.FAINT`. Negative weights are red. With so
    many columns that uniform weights would be invisible, colors follow the square root of the weights, as noted at the
    color bar. The picture grows with the number of tokens, so that labels stay legible, and many columns are split into
    stacked bands. Columns that are sentences are drawn as rows.

    Words outside the vocabulary are red and listed above the map; columns marked as evidence are green. A note below
    says that attention is not an explanation.

    Args:
        attention_map: with at least one row and one column.
        path: the PNG to write.

    Returns: a message that names characters without a font, or "".
    """
    rows, columns = attention_map.weights.shape
    if not (rows and columns):
        raise ValueError(f"nothing to draw: {rows} rows and {columns} columns")
    maps = [_HeatMap.of(attention_map, panel) for panel in panels(attention_map)]
    top, left = (LETTER * max(letters(name) for m in maps for name in names(m)) for names in (_x_labels, _y_labels))
    bands = _bands(len(maps[0].x_labels), high=max(len(m.y_labels) for m in maps) + top / CELL)
    width = max(0.45 + left + CELL * bands[0].stop + 1.9, NARROWEST)
    lines = wrapped(heading(attention_map), width - 2 * EDGE, HEADING)
    notes = wrapped(unknown_words_message(attention_map.unknown_words), width - 2 * EDGE, LETTERS)
    legend = ["green: evidence marked in the data"] if attention_map.evidence else []
    above = EDGE + LINE * (len(lines) + len(notes) + len(legend)) if lines or notes or legend else 0.0
    footer = wrapped(caveat(), width - 2 * EDGE, LETTERS - 2)
    below = LINE * len(footer) + EDGE
    heights = [m.height(top, len(bands), width) for m in maps]
    height = above + sum(heights) + 0.25 + below
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / max(width, height)), facecolor="white")
    write(figure, lines, EDGE, height - EDGE, HEADING)
    write(figure, notes, EDGE, height - EDGE - LINE * len(lines), LETTERS, UNKNOWN)
    write(figure, legend, EDGE, height - EDGE - LINE * (len(lines) + len(notes)), LETTERS, EVIDENCE)
    write(figure, footer, EDGE, below, LETTERS - 2, "0.35")
    for m, begin in zip(maps, height - above - np.cumsum([0.0, *heights[:-1]]), strict=True):
        m.draw(figure, begin, left, top, bands)
    return save(figure, path)


@dataclass(frozen=True)
class _HeatMap:
    """The heat map of a panel, drawn in bands of columns."""

    panel: Panel
    weights: np.ndarray
    """[y x]"""
    x_labels: list[str]
    y_labels: list[str]
    unknown: tuple[frozenset[int], frozenset[int]]
    """Indices of `x_labels` and `y_labels` with unknown words."""
    evidence: tuple[frozenset[int], frozenset[int]]
    """Indices of `x_labels` and `y_labels` that are evidence."""
    axis_labels: tuple[str, str]
    transposed: bool
    """Whether the columns of the attention map are the rows of the picture."""

    @classmethod
    def of(cls, attention_map: AttentionMap, panel: Panel) -> "_HeatMap":
        sentences = attention_map.column_format == "sentences"
        columns = labels(attention_map.column_labels, LONGEST_SENTENCE if sentences else LONGEST_LABEL)
        rows, axis_labels = labels(panel.row_labels), (attention_map.column_label, panel.group.label)
        unknown = (
            _indices_of_words(attention_map.column_labels, attention_map.unknown_words),
            _indices_of_words(panel.row_labels, attention_map.unknown_words if panel.group.from_input else ()),
        )
        evidence = frozenset(attention_map.evidence), frozenset[int]()
        if sentences:
            swapped = (unknown[1], unknown[0]), (evidence[1], evidence[0]), (axis_labels[1], axis_labels[0])
            return cls(panel, panel.weights.T, rows, columns, *swapped, True)
        return cls(panel, panel.weights, columns, rows, unknown, evidence, axis_labels, False)

    def title(self, width: float) -> list[str]:
        return wrapped(self.panel.title, width, LETTERS)

    def height(self, top: float, bands: int, width: float) -> float:
        """Return the height from the top of the title to the bottom of the last band in inches."""
        lines = self.title(width - 2 * EDGE)
        return (LINE * len(lines) + EDGE if lines else 0.0) + self._place(top, bands) + 0.1

    def draw(self, figure: Figure, begin: float, left: float, top: float, bands: Sequence[slice]) -> None:
        """Draw the map below `begin` inches; `left` and `top` are the inches of the labels."""
        width, height = figure.get_size_inches()
        lines = self.title(width - 2 * EDGE)
        write(figure, lines, EDGE, begin - EDGE, LETTERS, "0.3")
        begin -= LINE * len(lines) + EDGE if lines else 0.0
        tall, every_axes = CELL * len(self.y_labels), []
        for number, band in enumerate(bands):
            bottom = begin - self._place(top, number) - 0.45 - top - tall
            wide = CELL * (band.stop - band.start)
            axes = figure.add_axes(((0.45 + left) / width, bottom / height, wide / width, tall / height))
            axes.imshow(self.weights[:, band], **colors(self.panel), aspect="auto", interpolation="nearest")
            _label_axes(axes, self.x_labels[band], self.y_labels)
            for indices, color in ((self.evidence, EVIDENCE), (self.unknown, UNKNOWN)):
                _color_labels(axes.get_xticklabels(), [index - band.start for index in indices[0]], color)
                _color_labels(axes.get_yticklabels(), indices[1], color)
            if LETTER * letters(self.axis_labels[1]) <= max(tall, CELL * MIN_ROWS):
                axes.set_ylabel(self.axis_labels[1], color="0.4", labelpad=8)
            every_axes.append(axes)
        every_axes[0].set_xlabel(self.axis_labels[0], color="0.4", labelpad=8)
        if self.panel.normalized_axis != "column":
            _write_sums(every_axes[-1], self.panel.weights, self.transposed, whole=len(bands) == 1)
        add_color_bar(figure, every_axes[0], self.panel, above=0.25 + top)

    def _place(self, top: float, number: int) -> float:
        """Return the inches from the first band to another band; the first band has room for the color bar."""
        band = 0.45 + top + CELL * len(self.y_labels) + (0.4 if self.transposed else 0.0)
        return number * band + (max(0.45 + SHORTEST_BAR - band, 0.0) if number else 0.0)


def _x_labels(heat_map: _HeatMap) -> list[str]:
    return heat_map.x_labels


def _y_labels(heat_map: _HeatMap) -> list[str]:
    return heat_map.y_labels


def _bands(columns: int, high: float) -> list[slice]:
    """Split the columns into bands, so that the picture is at most about twice as wide as high.

    Args:
        columns: number of columns.
        high: height of a band in cells.
    """
    count = math.ceil(math.sqrt(columns / (2 * high))) if columns > WIDEST else 1
    size = math.ceil(columns / count)
    return [slice(start, min(start + size, columns)) for start in range(0, columns, size)]


def _indices_of_words(texts: Sequence[str], words: Sequence[str]) -> frozenset[int]:
    return frozenset(index for index, text in enumerate(texts) if contains_word(text, words))


def _color_labels(texts: Sequence[Text], indices: Iterable[int], color: str) -> None:
    for index in indices:
        if 0 <= index < len(texts):
            texts[index].set_color(color)


def _label_axes(axes: Axes, x_labels: list[str], y_labels: list[str]) -> None:
    text = text_style()
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(x_labels)), x_labels, rotation=90, **text)
    axes.set_yticks(range(len(y_labels)), y_labels, **text)
    axes.set_xticks(np.arange(len(x_labels) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(y_labels) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("0.6")


def _write_sums(axes: Axes, weights: np.ndarray, transposed: bool, whole: bool) -> None:
    """Write the sum of each row of weights at its end, or below it in a transposed picture."""
    small = {"color": "0.35", "fontsize": LETTERS - 2, "textcoords": "offset points"}
    name = "sum" if whole else "total"
    for row, total in enumerate(weights.sum(axis=1, dtype=np.float64)):
        if transposed:
            beside = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top", "rotation": 90}
            axes.annotate(f"{total:.2f}", (row, 0.0), (0, -5), **small, **beside)
        else:
            beside = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(f"{total:.2f}", (1.0, row), (7, 0), **small, **beside)
    if transposed:
        axes.annotate(name, (0.0, 0.0), (-4, -9), xycoords="axes fraction", ha="right", va="top", **small)
    else:
        axes.annotate(name, (1.0, 1.0), (7, 4), xycoords="axes fraction", **small)

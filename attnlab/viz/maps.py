"""Attention between tokens: heat maps, in bands where a passage is long."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text

from attnlab.tasks.attention_map import Attended, Panel, holds, unknown_words
from attnlab.viz.colors import SHORTEST_BAR, add_color_bar, colors
from attnlab.viz.lettering import (
    DPI,
    EDGE,
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

CELL = 0.32
"""Inches of one token's row or column: room for its letters at `LETTERS` points at any length of sentence."""
WIDEST = 60
"""Columns from which on a picture much wider than high is cut into bands."""
LEAST_ROWS = 3
"""Rows whose height is left for the name of the rows."""


def alignment(attended: Attended, path: Path) -> str:
    """Draw attention weights as heat maps: source words across, target words down, the sum of each row at its end.

    Every panel of the view has its own map, title and scale. A scale goes from 0 (white) to 1, so that two pictures can
    be compared; only where every weight is below `views.FAINT` does it end at the largest one, and where some weight
    is negative it is red below 0. Where the words are so many that an even spread could not be seen, colors follow
    the square root of the weights, and the color bar says so. The picture grows with the sentence: every word stays
    legible. Long passages are cut into bands, one below the other. Columns that are sentences become rows.

    Words that are not in the model's vocabulary are red, and named above the map.

    Args:
        attended: tokens and weights [t s].
        path: the PNG to write.

    Returns: a line on letters that no font here has; "" where all could be drawn.
    """
    rows, columns = attended.weights.shape
    if not (rows and columns):
        raise ValueError(f"nothing to draw: {rows} target and {columns} source tokens")
    maps = [_Map.of(attended, panel) for panel in attended.panels]
    top, left = (LETTER * max(letters(one) for m in maps for one in labels(m)) for labels in (_across, _down))
    bands = _bands(len(maps[0].across), high=max(len(m.down) for m in maps) + top / CELL)
    width = max(
        0.45 + left + CELL * bands[0].stop + 1.9,
        NARROWEST if attended.heading or attended.unknown or maps[0].panel.title else 0.0,
    )
    lines = wrapped(attended.heading, width - 2 * EDGE, HEADING)
    notes = wrapped(unknown_words(attended.unknown), width - 2 * EDGE, LETTERS)
    above = EDGE + LINE * (len(lines) + len(notes)) if lines or notes else 0.0
    heights = [m.height(top, len(bands), width) for m in maps]
    height = above + sum(heights) + 0.25
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / max(width, height)), facecolor="white")
    write(figure, lines, EDGE, height - EDGE, HEADING)
    write(figure, notes, EDGE, height - EDGE - LINE * len(lines), LETTERS, UNKNOWN)
    for m, begin in zip(maps, height - above - np.cumsum([0.0, *heights[:-1]]), strict=True):
        m.draw(figure, begin, left, top, bands)
    return save(figure, path)


@dataclass(frozen=True)
class _Map:
    """A heat map as it is drawn, in bands of columns."""

    panel: Panel
    weights: np.ndarray
    """[down across]"""
    across: list[str]
    down: list[str]
    unknown: tuple[frozenset[int], frozenset[int]]
    """Places of `across` and of `down` that hold words the model does not know."""
    names: tuple[str, str]
    """What is across and what is down."""
    turned: bool
    """Whether the columns of the view are the rows of the map."""

    @classmethod
    def of(cls, attended: Attended, panel: Panel) -> "_Map":
        source = labels(attended.source_tokens, LONGEST_SENTENCE if attended.sentences else LONGEST_LABEL)
        target, names = labels(panel.tokens), (attended.across, panel.part.down)
        across = _unknown(attended.source_tokens, attended.unknown)
        down = _unknown(panel.tokens, attended.unknown if panel.part.given else ())
        if attended.sentences:
            return cls(panel, panel.weights.T, target, source, (down, across), (names[1], names[0]), turned=True)
        return cls(panel, panel.weights, source, target, (across, down), names, turned=False)

    def title(self, width: float) -> list[str]:
        return wrapped(self.panel.title, width, LETTERS)

    def height(self, top: float, bands: int, width: float) -> float:
        """Inches, from the top of the title to the bottom of the last band."""
        lines = self.title(width - 2 * EDGE)
        return (LINE * len(lines) + EDGE if lines else 0.0) + self._place(top, bands) + 0.1

    def draw(self, figure: Figure, begin: float, left: float, top: float, bands: Sequence[slice]) -> None:
        """Draw the map below `begin` inches, where the labels take `left` and `top` inches."""
        width, height = figure.get_size_inches()
        lines = self.title(width - 2 * EDGE)
        write(figure, lines, EDGE, begin - EDGE, LETTERS, "0.3")
        begin -= LINE * len(lines) + EDGE if lines else 0.0
        tall, every_axes = CELL * len(self.down), []
        for number, band in enumerate(bands):
            bottom = begin - self._place(top, number) - 0.45 - top - tall
            wide = CELL * (band.stop - band.start)
            axes = figure.add_axes(((0.45 + left) / width, bottom / height, wide / width, tall / height))
            axes.imshow(self.weights[:, band], **colors(self.panel), aspect="auto", interpolation="nearest")
            _label_axes(axes, self.across[band], self.down)
            _color_labels(axes.get_xticklabels(), [place - band.start for place in self.unknown[0]])
            _color_labels(axes.get_yticklabels(), self.unknown[1])
            if LETTER * letters(self.names[1]) <= max(tall, CELL * LEAST_ROWS):
                axes.set_ylabel(self.names[1], color="0.4", labelpad=8)
            every_axes.append(axes)
        every_axes[0].set_xlabel(self.names[0], color="0.4", labelpad=8)
        if self.panel.adds_up != "column":
            _write_sums(every_axes[-1], self.panel.weights, self.turned, whole=len(bands) == 1)
        add_color_bar(figure, every_axes[0], self.panel, above=0.25 + top)

    def _place(self, top: float, number: int) -> float:
        """Inches from the first band's begin to that of another; beside the first there is room for the scale."""
        each = 0.45 + top + CELL * len(self.down) + (0.4 if self.turned else 0.0)
        return number * each + (max(0.45 + SHORTEST_BAR - each, 0.0) if number else 0.0)


def _across(m: _Map) -> list[str]:
    return m.across


def _down(m: _Map) -> list[str]:
    return m.down


def _bands(columns: int, high: float) -> list[slice]:
    """Cut the columns into bands of `high` cells each, so that the whole is at most about twice as wide as high."""
    count = math.ceil(math.sqrt(columns / (2 * high))) if columns > WIDEST else 1
    across = math.ceil(columns / count)
    return [slice(start, min(start + across, columns)) for start in range(0, columns, across)]


def _unknown(tokens: Sequence[str], unknown: Sequence[str]) -> frozenset[int]:
    return frozenset(place for place, token in enumerate(tokens) if holds(token, unknown))


def _color_labels(written: Sequence[Text], places: Iterable[int]) -> None:
    for place in places:
        if 0 <= place < len(written):
            written[place].set_color(UNKNOWN)


def _label_axes(axes: Axes, source: list[str], target: list[str]) -> None:
    text = text_style()
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(source)), source, rotation=90, **text)
    axes.set_yticks(range(len(target)), target, **text)
    axes.set_xticks(np.arange(len(source) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(target) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("0.6")


def _write_sums(axes: Axes, weights: np.ndarray, turned: bool, whole: bool) -> None:
    """Write the sums of the rows of weights at their ends, or below them where they are the columns of the map."""
    small = {"color": "0.35", "fontsize": LETTERS - 2, "textcoords": "offset points"}
    name = "sum" if whole else "sum of all"
    for row, total in enumerate(weights.sum(axis=1, dtype=np.float64)):
        if turned:
            beside = {"xycoords": ("data", "axes fraction"), "ha": "center", "va": "top", "rotation": 90}
            axes.annotate(f"{total:.2f}", (row, 0.0), (0, -5), **small, **beside)
        else:
            beside = {"xycoords": ("axes fraction", "data"), "va": "center"}
            axes.annotate(f"{total:.2f}", (1.0, row), (7, 0), **small, **beside)
    if turned:
        axes.annotate(name, (0.0, 0.0), (-4, -9), xycoords="axes fraction", ha="right", va="top", **small)
    else:
        axes.annotate(name, (1.0, 1.0), (7, 4), xycoords="axes fraction", **small)

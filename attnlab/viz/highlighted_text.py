"""Texts whose tokens are highlighted by their attention weights."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from attnlab.data.text.display import direction
from attnlab.tasks.attention_map import AttentionMap
from attnlab.viz.colors import add_color_bar, colors
from attnlab.viz.fonts import (
    DPI,
    EDGE,
    EVIDENCE,
    HEADING,
    LARGEST,
    LETTERS,
    LINE,
    UNKNOWN,
    labels,
    save,
    text_style,
    wrapped,
    write,
)
from attnlab.viz.panels import Panel, panels, scale_top
from attnlab.viz.text import caveat, contains_word, heading, unknown_words_message

WIDTH = 8.0
"""Width of the text in inches."""
ROW = 0.34
"""Line height of the text in inches."""
GAP = 0.07
"""Space between tokens in inches."""
PADDING = 0.03
"""Margin of the highlight on both sides of a token in inches."""
MAX_COPIES = 4
"""Largest number of rows that are drawn as separate copies of the text; otherwise their mean is drawn."""


def draw_highlighted_text(attention_map: AttentionMap, path: Path) -> str:
    """Draw the columns as a text, highlighted by the weights of each row (or by the mean over many rows).

    The color scale is that of a heat map (see `draw_heat_map`). Tokens that the data mark as evidence are underlined,
    words outside the vocabulary are red. A note below says that attention is not an explanation.

    Args:
        attention_map: with at least one row and one column; its row groups share one scale.
        path: the PNG to write.

    Returns: a message that names characters without a font, or "".
    """
    rows, columns = attention_map.weights.shape
    if not (rows and columns):
        raise ValueError(f"nothing to draw: {rows} rows and {columns} columns")
    copies = _copies(attention_map)
    tokens = labels(attention_map.column_labels)
    places = _places(tokens, _widths(tokens))
    lines = 1 + max(line for line, _, _ in places)
    above = wrapped(heading(attention_map), WIDTH, HEADING)
    unknown = wrapped(unknown_words_message(attention_map.unknown_words), WIDTH, LETTERS)
    notes = wrapped(caveat(), WIDTH, LETTERS - 2)
    titles = [wrapped(copy.group.title, WIDTH, LETTERS) for copy in copies]
    size = [LINE * len(title) + ROW * lines + 0.12 for title in titles]
    top = EDGE + LINE * (len(above) + len(unknown)) + 0.1
    bottom = LINE * (len(notes) + bool(attention_map.evidence)) + EDGE
    width, height = WIDTH + 2 * EDGE + 1.5, max(top + sum(size) + bottom, 2.6)
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / height), facecolor="white")
    write(figure, above, EDGE, height - EDGE, HEADING)
    write(figure, unknown, EDGE, height - EDGE - LINE * len(above), LETTERS, UNKNOWN)
    start = height - top
    axes = figure.add_axes((EDGE / width, bottom / height, WIDTH / width, (start - bottom) / height), frameon=False)
    axes.set(xlim=(0, WIDTH), ylim=(bottom, start), xticks=[], yticks=[])
    scale = colors(copies[0])
    image = ScalarMappable(scale["norm"], scale["cmap"])
    for copy, title, tall in zip(copies, titles, size, strict=True):
        write(figure, title, EDGE, start, LETTERS, "0.3")
        fills = image.to_rgba(copy.weights[0])
        for index, (line, x, wide) in enumerate(places):
            y = start - LINE * len(title) - ROW * (line + 1)
            axes.add_patch(Rectangle((x, y), wide, ROW - 0.05, facecolor=fills[index], linewidth=0))
            color = _text_color(
                fills[index], contains_word(attention_map.column_labels[index], attention_map.unknown_words)
            )
            axes.text(x + PADDING, y + 0.09, tokens[index], color=color, **text_style())
            if index in attention_map.evidence:
                axes.add_line(Line2D([x, x + wide], [y, y], color=EVIDENCE, linewidth=2.2))
        start -= tall
    if attention_map.evidence:
        write(figure, ["underlined: evidence marked in the data"], EDGE, bottom, LETTERS - 2, EVIDENCE)
    write(figure, notes, EDGE, LINE * len(notes) + EDGE / 2, LETTERS - 2, "0.35")
    add_color_bar(figure, axes, copies[0], aside=0.25, image=image)
    return save(figure, path)


def _copies(attention_map: AttentionMap) -> list[Panel]:
    """Return a panel for each copy of the text; all share one scale."""
    groups = panels(attention_map)
    if len(attention_map.weights) > MAX_COPIES:
        mean = attention_map.weights.mean(axis=0, keepdims=True)
        title = f"{groups[0].group.title or attention_map.row_label}: mean of {len(attention_map.weights)} rows"
        return [_copy(groups[0], title, mean, scale_top(mean))]
    top = scale_top(attention_map.weights)
    several = len(attention_map.weights) > 1
    return [
        _copy(group, label if several else group.group.title, group.weights[row : row + 1], top)
        for group in groups
        for row, label in enumerate(group.row_labels)
    ]


def _copy(panel: Panel, title: str, weights: np.ndarray, top: float) -> Panel:
    return Panel(replace(panel.group, rows=1, title=title), [title], weights, top)


def _widths(tokens: Sequence[str]) -> list[float]:
    """Return the width of each token in inches."""
    renderer = FigureCanvasAgg(Figure(dpi=DPI)).get_renderer()
    font = FontProperties(family=text_style()["fontfamily"], size=LETTERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a missing font is reported when the picture is saved
        return [renderer.get_text_width_height_descent(token or " ", font, False)[0] / DPI for token in tokens]


def _places(tokens: Sequence[str], widths: Sequence[float]) -> list[tuple[int, float, float]]:
    """Return the line, left edge and width of each token in lines of `WIDTH` inches."""
    places, line, x = [], 0, 0.0
    for width in widths:
        wide = width + 2 * PADDING
        if x and x + wide > WIDTH:
            line, x = line + 1, 0.0
        places.append((line, x, wide))
        x += wide + GAP
    if direction(tokens) == "rtl":
        return [(line, WIDTH - x - wide, wide) for line, x, wide in places]
    return places


def _text_color(fill: Sequence[float], unknown: bool) -> str:
    dark = float(np.dot(fill[:3], [0.299, 0.587, 0.114])) < 0.5
    return ("#ffb4ab" if dark else UNKNOWN) if unknown else ("white" if dark else "black")

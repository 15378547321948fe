"""Attention over the cells of an image, one copy of the image for each row of weights."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from attnlab.tasks.attention_map import ImageAttentionMap
from attnlab.viz.colors import add_color_bar, colors
from attnlab.viz.fonts import (
    DPI,
    EDGE,
    HEADING,
    LARGEST,
    LETTERS,
    LINE,
    NARROWEST,
    UNKNOWN,
    labels,
    save,
    text_style,
    wrapped,
    write,
)
from attnlab.viz.panels import image_panel
from attnlab.viz.text import contains_word, heading, unknown_words_message

OVERLAY = LinearSegmentedColormap.from_list("overlay", ["#5e3c99", "#ffffff", "#d94801"])
"""Colors over an image: orange, and violet below 0."""
OVERLAY_POSITIVE = LinearSegmentedColormap.from_list("overlay_positive", ["#ffffff", "#d94801"])
MOST_OPAQUE = 0.8
"""Opacity of the largest weight's color, so that the image remains visible."""


def draw_image_grid(attention_map: ImageAttentionMap, path: Path) -> str:
    """Draw the image, then a pale copy for each row of weights with the cells of the grid over it.

    The larger a weight, the stronger the color of its cell, on one scale for the whole picture from 0 to the largest
    weight; negative weights have another color. The largest weight of a cell stands above each copy.

    Args:
        attention_map: an image without any row is drawn alone.
        path: the PNG to write.

    Returns: a line that names characters without a font, or "".
    """
    panels = 1 + len(attention_map.row_labels)
    columns = panels if panels <= 6 else min((4, 5, 6), key=lambda few: (-panels % few, -few))
    rows = -(-panels // columns)
    width = max(2.1 * columns + 1.5, NARROWEST)
    lines = wrapped(heading(attention_map), width - 2 * EDGE, HEADING)
    notes = wrapped(unknown_words_message(attention_map.unknown_words), width - 2 * EDGE, LETTERS)
    which = wrapped(attention_map.title, width - 2 * EDGE, LETTERS)
    above, below = EDGE + LINE * (len(lines) + len(notes) + len(which)), 0.3
    height = above + 2.45 * rows + below
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / height), facecolor="white")
    write(figure, lines, EDGE, height - EDGE, HEADING)
    write(figure, notes, EDGE, height - EDGE - LINE * len(lines), LETTERS, UNKNOWN)
    write(figure, which, EDGE, height - EDGE - LINE * (len(lines) + len(notes)), LETTERS, "0.3")
    every_axes = [
        figure.add_axes(((EDGE + 2.1 * (n % columns)) / width, (height - above - 2.45 * (n // columns) - 2.35) / height,
                         2.0 / width, 2.0 / height))
        for n in range(panels)
    ]  # fmt: skip
    tall, wide = attention_map.image.shape[:2]
    whole = (-0.5, wide - 0.5, tall - 0.5, -0.5)
    for axes in every_axes:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.6")
    every_axes[0].imshow(attention_map.image, extent=whole)
    every_axes[0].set_title("image", color="0.4", fontsize=LETTERS, pad=4)
    panel = image_panel(attention_map)
    norm = colors(panel)["norm"]
    for axes, token, label, weights in zip(
        every_axes[1:], attention_map.row_labels, labels(attention_map.row_labels), attention_map.weights, strict=True
    ):
        axes.imshow(0.5 * attention_map.image.mean(axis=-1) + 127.5, cmap="gray", vmin=0, vmax=255, extent=whole)
        strength = np.clip(np.abs(norm(weights) - norm(0.0)) / (norm(panel.top) - norm(0.0)), 0.0, 1.0)
        axes.imshow(np.sign(weights), cmap=OVERLAY, vmin=-1, vmax=1, alpha=MOST_OPAQUE * strength, extent=whole,
                    interpolation="nearest")  # fmt: skip
        _draw_grid(axes, weights.shape, whole)
        largest = weights.flat[np.abs(weights).argmax()]
        color = UNKNOWN if contains_word(token, attention_map.unknown_words) else "black"
        axes.set_title(f"{label}  {largest:.2f}", **text_style(), pad=4, color=color)
    note = "beside each label: the largest weight of a cell" + (", by size" if panel.signed else "")
    if panel.normalized_axis == "row":
        note += "; the weights of each copy add up to 1"
    write(figure, [note], EDGE, below, LETTERS - 2, "0.35")
    if attention_map.row_labels:
        image = ScalarMappable(norm, OVERLAY if panel.signed else OVERLAY_POSITIVE)
        add_color_bar(figure, every_axes[columns - 1], panel, aside=0.25, image=image)
    return save(figure, path)


def _draw_grid(axes: Axes, shape: tuple[int, ...], whole: tuple[float, float, float, float]) -> None:
    """Draw the edges of the cells of a grid that covers an image."""
    rows, columns = shape
    left, right, bottom, top = whole
    axes.vlines(np.linspace(left, right, columns + 1)[1:-1], bottom, top, color="0.35", linewidth=0.4, alpha=0.35)
    axes.hlines(np.linspace(top, bottom, rows + 1)[1:-1], left, right, color="0.35", linewidth=0.4, alpha=0.35)

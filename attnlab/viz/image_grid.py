"""Attention over the cells of an image, drawn on a copy of the image for each row of weights."""

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
from attnlab.viz.text import caveat, contains_word, heading, unknown_words_message

OVERLAY = LinearSegmentedColormap.from_list("overlay", ["#5e3c99", "#ffffff", "#d94801"])
"""Colors of weights over an image: orange, and violet below 0."""
OVERLAY_POSITIVE = LinearSegmentedColormap.from_list("overlay_positive", ["#ffffff", "#d94801"])
MAX_OPACITY = 0.8
"""Opacity of the largest weight, below 1 so that the image remains visible."""


def draw_image_grid(attention_map: ImageAttentionMap, path: Path) -> str:
    """Draw the image, and a pale copy for each row of weights with colored grid cells.

    The color of a cell is stronger the larger its weight is, on a common scale from 0 to the largest weight of the
    picture; negative weights have a different color. The largest weight of a row is written above its copy. A note
    below says that attention is not an explanation.

    Args:
        attention_map: the attention map; without rows only the image is drawn.
        path: the PNG to write.

    Returns: a message that names characters without a font, or "".
    """
    panels = 1 + len(attention_map.row_labels)
    columns = panels if panels <= 6 else min((4, 5, 6), key=lambda count: (-panels % count, -count))
    rows = -(-panels // columns)
    width = max(2.1 * columns + 1.5, NARROWEST)
    lines = wrapped(heading(attention_map), width - 2 * EDGE, HEADING)
    notes = wrapped(unknown_words_message(attention_map.unknown_words), width - 2 * EDGE, LETTERS)
    title = wrapped(attention_map.title, width - 2 * EDGE, LETTERS)
    footer = wrapped(caveat(), width - 2 * EDGE, LETTERS - 2)
    above, below = EDGE + LINE * (len(lines) + len(notes) + len(title)), 0.3 + LINE * len(footer)
    height = above + 2.45 * rows + below
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / height), facecolor="white")
    write(figure, lines, EDGE, height - EDGE, HEADING)
    write(figure, notes, EDGE, height - EDGE - LINE * len(lines), LETTERS, UNKNOWN)
    write(figure, title, EDGE, height - EDGE - LINE * (len(lines) + len(notes)), LETTERS, "0.3")
    all_axes = [
        figure.add_axes(((EDGE + 2.1 * (n % columns)) / width, (height - above - 2.45 * (n // columns) - 2.35) / height,
                         2.0 / width, 2.0 / height))
        for n in range(panels)
    ]  # fmt: skip
    tall, wide = attention_map.image.shape[:2]
    extent = (-0.5, wide - 0.5, tall - 0.5, -0.5)
    for axes in all_axes:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.6")
    all_axes[0].imshow(attention_map.image, extent=extent)
    all_axes[0].set_title("image", color="0.4", fontsize=LETTERS, pad=4)
    panel = image_panel(attention_map)
    norm = colors(panel)["norm"]
    for axes, token, label, weights in zip(
        all_axes[1:], attention_map.row_labels, labels(attention_map.row_labels), attention_map.weights, strict=True
    ):
        axes.imshow(0.5 * attention_map.image.mean(axis=-1) + 127.5, cmap="gray", vmin=0, vmax=255, extent=extent)
        strength = np.clip(np.abs(norm(weights) - norm(0.0)) / (norm(panel.top) - norm(0.0)), 0.0, 1.0)
        axes.imshow(np.sign(weights), cmap=OVERLAY, vmin=-1, vmax=1, alpha=MAX_OPACITY * strength, extent=extent,
                    interpolation="nearest")  # fmt: skip
        _draw_grid(axes, weights.shape, extent)
        largest = weights.flat[np.abs(weights).argmax()]
        color = UNKNOWN if contains_word(token, attention_map.unknown_words) else "black"
        axes.set_title(f"{label}  {largest:.2f}", **text_style(), pad=4, color=color)
    note = "beside each label: the largest weight of a cell" + (" (by magnitude)" if panel.signed else "")
    if panel.normalized_axis == "row":
        note += "; the weights of each copy sum to 1"
    write(figure, [note, *footer], EDGE, below, LETTERS - 2, "0.35")
    if attention_map.row_labels:
        image = ScalarMappable(norm, OVERLAY if panel.signed else OVERLAY_POSITIVE)
        add_color_bar(figure, all_axes[columns - 1], panel, aside=0.25, image=image)
    return save(figure, path)


def _draw_grid(axes: Axes, shape: tuple[int, ...], extent: tuple[float, float, float, float]) -> None:
    """Draw the edges of the grid cells over an image."""
    rows, columns = shape
    left, right, bottom, top = extent
    axes.vlines(np.linspace(left, right, columns + 1)[1:-1], bottom, top, color="0.35", linewidth=0.4, alpha=0.35)
    axes.hlines(np.linspace(top, bottom, rows + 1)[1:-1], left, right, color="0.35", linewidth=0.4, alpha=0.35)

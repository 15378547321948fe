"""Attention over an image, word by word."""

import math
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from attnlab.tasks.attention_map import Panel, Part, Regarded, holds, unknown_words
from attnlab.viz.colors import add_color_bar, colors
from attnlab.viz.lettering import (
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

LIGHT = LinearSegmentedColormap.from_list("light", ["#5e3c99", "#ffffff", "#d94801"])
"""Over an image: orange, and violet below 0."""
LIGHT_UPPER = LinearSegmentedColormap.from_list("light_upper", ["#ffffff", "#d94801"])
DENSEST = 0.8
"""Share of the largest weight's color over an image, which shines through."""


def regarded(view: Regarded, path: Path) -> str:
    """Draw where on an image the model looked for each word: the image alone first, then a pale copy for each word.

    The cells of the grid lie over it in one color, the stronger the larger the weight, on one scale for the whole
    picture, from 0 to its largest weight. Negative weights have another color. Beside each word stands the largest
    weight of a cell.

    Args:
        view: image, words and weights.
        path: the PNG to write.

    Returns: a line on letters that no font here has; "" where all could be drawn.
    """
    panels = 1 + len(view.words)
    columns = panels if panels <= 6 else min((4, 5, 6), key=lambda few: (-panels % few, -few))
    rows = -(-panels // columns)
    width = max(2.1 * columns + 1.5, NARROWEST)
    lines = wrapped(view.heading or view.answer, width - 2 * EDGE, HEADING)
    notes = wrapped(unknown_words(view.unknown), width - 2 * EDGE, LETTERS)
    which = wrapped(view.title, width - 2 * EDGE, LETTERS)
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
    tall, wide = view.image.shape[:2]
    whole = (-0.5, wide - 0.5, tall - 0.5, -0.5)
    for axes in every_axes:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.spines[:].set_color("0.6")
    every_axes[0].imshow(view.image, extent=whole)
    every_axes[0].set_title("image", color="0.4", fontsize=LETTERS, pad=4)
    weights = view.weights.reshape(len(view.words), math.prod(view.weights.shape[1:]))
    panel = Panel(
        Part(len(weights), "", unit="attention weight of a cell"),
        view.words,
        weights,
        float(np.abs(weights).max(initial=0.0)) or 1.0,
    )
    norm = colors(panel)["norm"]
    for axes, token, word, weights in zip(every_axes[1:], view.words, labels(view.words), view.weights, strict=True):
        axes.imshow(0.5 * view.image.mean(axis=-1) + 127.5, cmap="gray", vmin=0, vmax=255, extent=whole)
        light = np.clip(np.abs(norm(weights) - norm(0.0)) / (norm(panel.top) - norm(0.0)), 0.0, 1.0)
        axes.imshow(np.sign(weights), cmap=LIGHT, vmin=-1, vmax=1, alpha=DENSEST * light, extent=whole,
                    interpolation="nearest")  # fmt: skip
        _draw_grid(axes, weights.shape, whole)
        largest = weights.flat[np.abs(weights).argmax()]
        color = UNKNOWN if holds(token, view.unknown) else "black"
        axes.set_title(f"{word}  {largest:.2f}", **text_style(), pad=4, color=color)
    note = "beside each word: the largest weight of a cell" + (", by size" if panel.signed else "")
    if panel.adds_up == "row":
        note += "; the weights of a word add up to 1"
    write(figure, [note], EDGE, below, LETTERS - 2, "0.35")
    if view.words:
        image = ScalarMappable(norm, LIGHT if panel.signed else LIGHT_UPPER)
        add_color_bar(figure, every_axes[columns - 1], panel, aside=0.25, image=image)
    return save(figure, path)


def _draw_grid(axes: Axes, shape: tuple[int, ...], whole: tuple[float, float, float, float]) -> None:
    """Draw the edges of the cells of a grid that covers an image."""
    rows, columns = shape
    left, right, bottom, top = whole
    axes.vlines(np.linspace(left, right, columns + 1)[1:-1], bottom, top, color="0.35", linewidth=0.4, alpha=0.35)
    axes.hlines(np.linspace(top, bottom, rows + 1)[1:-1], left, right, color="0.35", linewidth=0.4, alpha=0.35)

"""Color scales of weights, and the color bar."""

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, Normalize
from matplotlib.figure import Figure

from attnlab.viz.fonts import LETTERS
from attnlab.viz.panels import Panel

SHORTEST_BAR = 1.6
"""Smallest height of the color bar in inches."""
SCALE = "Blues"
SIGNED_SCALE = "RdBu"
"""Color map for panels with negative weights: red below 0."""


def colors(panel: Panel) -> dict[str, Any]:
    """Return the color map and norm of a panel: from white at 0 to blue, and to red below 0."""
    low, top = -panel.top if panel.signed else 0.0, panel.top
    norm = FuncNorm((_root, _square), vmin=low, vmax=top) if panel.square_root else Normalize(low, top)
    return {"cmap": SIGNED_SCALE if panel.signed else SCALE, "norm": norm}


def _root(weights: np.ndarray) -> np.ndarray:
    return np.sign(weights) * np.sqrt(np.abs(weights))


def _square(roots: np.ndarray) -> np.ndarray:
    return np.sign(roots) * np.square(roots)


def add_color_bar(
    figure: Figure,
    axes: Axes,
    panel: Panel,
    above: float = 0.0,
    aside: float = 0.7,
    image: ScalarMappable | None = None,
) -> None:
    """Draw the color bar `aside` inches to the right of the axes.

    Where the axes are lower than `SHORTEST_BAR`, it extends up to `above` inches above them, and then below them.
    """
    box = axes.get_position()
    width, height = figure.get_size_inches()
    bar_height = min(max(box.height * height, SHORTEST_BAR), 4.0)
    top = box.y1 * height + min(above, max(bar_height - box.height * height, 0.0))
    bar = figure.add_axes((box.x1 + aside / width, (top - bar_height) / height, 0.16 / width, bar_height / height))
    ticks = (
        [0, 0.05, 0.2, 0.5, 1] if panel.square_root else [0, 0.25, 0.5, 0.75, 1] if panel.top == 1.0 else [0, 0.5, 1]
    )
    ticks = [-tick for tick in ticks[:0:-1]] + ticks if panel.signed else ticks
    number_format = "%.2f" if panel.top == 1.0 else "%.2g"
    label = panel.group.value_label + ("\n(color: square root)" if panel.square_root else "")
    figure.colorbar(
        image or axes.images[0], cax=bar, ticks=[panel.top * tick for tick in ticks], format=number_format, label=label
    )
    bar.minorticks_off()
    bar.tick_params(labelsize=LETTERS - 2)

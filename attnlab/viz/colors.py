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
"""Inches of the color bar beside a short sentence."""
SCALE = "Blues"
SIGNED_SCALE = "RdBu"
"""Where weights are negative: red below 0."""


def colors(panel: Panel) -> dict[str, Any]:
    """Return colormap and norm of a panel: from white at 0 to blue, and to red below 0."""
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
    """Draw the scale `aside` inches right of the axes; beside low ones it reaches `above` inches higher, then lower."""
    box = axes.get_position()
    width, height = figure.get_size_inches()
    tall = min(max(box.height * height, SHORTEST_BAR), 4.0)
    top = box.y1 * height + min(above, max(tall - box.height * height, 0.0))
    beside = figure.add_axes((box.x1 + aside / width, (top - tall) / height, 0.16 / width, tall / height))
    shares = (
        [0, 0.05, 0.2, 0.5, 1] if panel.square_root else [0, 0.25, 0.5, 0.75, 1] if panel.top == 1.0 else [0, 0.5, 1]
    )
    shares = [-share for share in shares[:0:-1]] + shares if panel.signed else shares
    number_format = "%.2f" if panel.top == 1.0 else "%.2g"
    label = panel.group.value_label + ("\n(color: its square root)" if panel.square_root else "")
    figure.colorbar(
        image or axes.images[0], cax=beside, ticks=[panel.top * s for s in shares], format=number_format, label=label
    )
    beside.minorticks_off()
    beside.tick_params(labelsize=LETTERS - 2)

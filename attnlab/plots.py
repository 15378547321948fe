"""Pictures: where a translation attended, and how a training went. Written as PNG, without a screen."""

import math
import re
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from attnlab.tasks.views import Attended, Regarded

CELL = 0.32
"""Inches of one token's row or column: room for its letters at `LETTERS` points at any length of sentence."""
LETTERS = 11
LETTER = LETTERS / 72 * 0.68
"""Inches of a letter's width."""
LONGEST_LABEL = 24
"""Letters of a token that are shown; the rest becomes an ellipsis."""
WIDEST = 60
"""Columns from which on a picture much wider than high is cut into bands."""
LARGEST = 60.0
"""Inches of the longest side of a picture (7,200 pixels)."""
SHORTEST_BAR = 1.6
"""Inches of the color bar beside a short sentence."""
DPI = 120
SCALE = "Blues"
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "MS Gothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
"""Fonts to try, where they are installed, for letters that matplotlib's own font lacks."""
LOSSES = {"nats": ("loss", "nll")}
"""The first panel of a training curve: its title -> the values of a logged row that are drawn in it."""


def alignment(attended: Attended, path: Path) -> None:
    """Draw attention weights as a heat map: source words across, target words down, the sum of each row at its end.

    The scale goes from 0 (white) to 1, so that two pictures can be compared; only where every weight is below
    `views.FAINT` does it end at the largest one. The picture grows with the sentence: every word stays legible. Long
    passages are cut into bands, one below the other.

    Args:
        attended: tokens and weights [t s].
        path: the PNG to write.
    """
    rows, columns = attended.weights.shape
    if not (rows and columns):
        raise ValueError(f"nothing to draw: {rows} target and {columns} source tokens")
    source, target = _labels(attended.source_tokens), _labels(attended.target_tokens)
    top, left = (LETTER * max(map(_letters, labels)) for labels in (source, target))
    bands = _bands(columns, high=rows + top / CELL)
    figure, every_axes = _fitted_axes(rows, bands, top, left)
    for axes, band in zip(every_axes, bands, strict=True):
        image = axes.imshow(attended.weights[:, band], cmap=SCALE, vmin=0.0, vmax=attended.top, aspect="auto")
        image.set_interpolation("nearest")
        _label_axes(axes, source[band], target)
        axes.set_ylabel(attended.down, color="0.4", labelpad=8)
    every_axes[0].set_xlabel(attended.across, color="0.4", labelpad=8)
    _write_row_sums(every_axes[-1], attended.weights, whole=len(bands) == 1)
    _add_color_bar(figure, every_axes[0], every_axes[0].images[0])
    _save(figure, path)


def regarded(view: Regarded, path: Path) -> None:
    """Draw where on an image the model looked for each word: the image alone first, then lit up word by word.

    Each word has its own scale, from no weight (dark) to its largest, which stands beside it with the word.

    Args:
        view: image, words and weights.
        path: the PNG to write.
    """
    panels = 1 + len(view.words)
    columns = min(panels, 5)
    rows = -(-panels // columns)
    figure = Figure(figsize=(2.1 * columns, 2.4 * rows + 0.5), dpi=DPI, layout="constrained", facecolor="white")
    text = {"parse_math": False, "fontfamily": _font_families(), "fontsize": LETTERS}
    every_axes = figure.subplots(rows, columns, squeeze=False).ravel()
    height, width = view.image.shape[:2]
    whole = (-0.5, width - 0.5, height - 0.5, -0.5)
    for axes in every_axes:
        axes.axis("off")
    every_axes[0].imshow(view.image, extent=whole)
    for axes, word, weights in zip(every_axes[1:], _labels(view.words), view.weights, strict=False):
        largest = float(weights.max())
        axes.imshow(view.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=whole)
        light = weights / largest if largest else weights
        axes.imshow(light, cmap="inferno", vmin=0, vmax=1, alpha=0.6, extent=whole, interpolation="bilinear")
        axes.set_title(f"{word}  {largest:.2f}", **text)
    figure.suptitle(_label(view.answer) if len(view.answer) <= LONGEST_LABEL else view.answer, **text)
    _save(figure, path)


def training_curve(
    rows: Sequence[Mapping[str, Any]], path: Path, panels: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Draw logged values over the steps, one panel above the other, and mark the best score on dev.

    Args:
        rows: logged rows as read from `metrics.jsonl`; each has a `step` and any of the values.
        path: the PNG to write.
        panels: title of a panel -> names of values; what no row holds is left out. None is the losses, and every
            score on dev.
    """
    if panels is None:
        names = sorted({name for row in rows for name in row if name.startswith("dev_")})
        panels = LOSSES | {name.replace("_", " "): (name,) for name in names}
    shown = {title: lines for title, names in panels.items() if (lines := _lines(rows, names))}
    if not shown:
        raise ValueError(f"nothing to draw: no row holds any of {[n for names in panels.values() for n in names]}")
    figure = Figure(figsize=(8, 2.8 * len(shown)), dpi=DPI, layout="constrained", facecolor="white")
    every_axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(every_axes, shown.items(), strict=True):
        _draw_lines(axes, title, lines)
    every_axes[-1].set_xlabel("step")
    _save(figure, path)


def _labels(tokens: Sequence[str]) -> list[str]:
    return [_label(token) for token in tokens]


def _label(token: str) -> str:
    """Make a token printable on one line: white space at its ends and control characters become visible, a long one is
    cut."""
    marked = re.sub(r"^\s+|\s+$", lambda found: "␣" * len(found[0]), token)
    one_line = re.sub(r"\s+", " ", marked)
    shown = "".join("�" if unicodedata.category(c) in ("Cc", "Cs") else c for c in one_line)
    return shown if len(shown) <= LONGEST_LABEL else shown[: LONGEST_LABEL - 1] + "…"


def _letters(label: str) -> float:
    """How long a label is, in letters of common width."""
    wide = {"W": 1.5, "F": 1.5}
    return sum(1.4 if one in "WM@%—" else wide.get(unicodedata.east_asian_width(one), 1.0) for one in label)


def _bands(columns: int, high: float) -> list[slice]:
    """Cut the columns into bands of `high` cells each, so that the whole is at most about twice as wide as high."""
    count = math.ceil(math.sqrt(columns / (2 * high))) if columns > WIDEST else 1
    across = math.ceil(columns / count)
    return [slice(start, min(start + across, columns)) for start in range(0, columns, across)]


def _fitted_axes(rows: int, bands: Sequence[slice], top: float, left: float) -> tuple[Figure, list[Axes]]:
    """Make axes of square cells for each band, below `top` and right of `left` inches of labels."""
    widths, tall = [CELL * (band.stop - band.start) for band in bands], CELL * rows
    margin_left, margin_top = 0.45 + left, 0.45 + top
    width = margin_left + widths[0] + 1.9
    each = [margin_top + max(tall, SHORTEST_BAR)] * len(bands)
    height = sum(each) + 0.25
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / max(width, height)), facecolor="white")
    bottoms = height - margin_top - tall - np.cumsum([0.0, *each[:-1]])
    return figure, [
        figure.add_axes((margin_left / width, bottom / height, wide / width, tall / height))
        for bottom, wide in zip(bottoms, widths, strict=True)
    ]


def _label_axes(axes: Axes, source: list[str], target: list[str]) -> None:
    text = {"parse_math": False, "fontfamily": _font_families(), "fontsize": LETTERS}
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(source)), source, rotation=90, **text)
    axes.set_yticks(range(len(target)), target, **text)
    axes.set_xticks(np.arange(len(source) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(target) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("0.6")


def _write_row_sums(axes: Axes, weights: np.ndarray, whole: bool) -> None:
    beside = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "va": "center", "color": "0.35"}
    for row, total in enumerate(weights.sum(axis=1, dtype=np.float64)):
        axes.annotate(f"{total:.2f}", (1.0, row), (7, 0), fontsize=LETTERS - 2, **beside)
    above = {"xycoords": "axes fraction", "textcoords": "offset points", "color": "0.35", "fontsize": LETTERS - 2}
    axes.annotate("sum" if whole else "sum of all", (1.0, 1.0), (7, 4), **above)


def _add_color_bar(figure: Figure, axes: Axes, image: AxesImage) -> None:
    box = axes.get_position()
    width, height = figure.get_size_inches()
    tall = min(max(box.height, SHORTEST_BAR / height), 4.0 / height)
    beside = figure.add_axes((box.x1 + 0.7 / width, box.y1 - tall, 0.16 / width, tall))
    top = float(image.get_clim()[1] or 1.0)
    ticks = [0, 0.25, 0.5, 0.75, 1] if top == 1.0 else [0, top / 2, top]
    figure.colorbar(image, cax=beside, ticks=ticks, format="%.2f" if top == 1.0 else "%.2g", label="attention weight")
    beside.tick_params(labelsize=LETTERS - 2)


def _font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    points = {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}
    return {name: line for name, line in points.items() if line}


def _draw_lines(axes: Axes, title: str, lines: Mapping[str, list[tuple[int, float]]]) -> None:
    for name, line in lines.items():
        steps, values = zip(*line, strict=True)
        axes.plot(steps, values, label=name, marker="o" if len(line) < 40 else None, markersize=3.5)
        if name.startswith("dev_"):
            _mark_best(axes, steps, values)
    if len(lines) > 1:
        axes.legend(frameon=False)
    axes.set_ylabel(title)
    axes.grid(color="0.9")
    axes.spines[["top", "right"]].set_visible(False)


def _mark_best(axes: Axes, steps: Sequence[int], values: Sequence[float]) -> None:
    best = int(np.argmax(values))
    axes.plot(steps[best], values[best], "o", markersize=9, markerfacecolor="none", color="0.3")
    axes.set_title(f"best {values[best]:.1f} at step {steps[best]:,}", loc="right", fontsize="medium", color="0.3")


def _save(figure: Figure, path: Path) -> None:
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})

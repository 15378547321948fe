"""Pictures: where a translation attended, and how a training went. Written as PNG, without a screen."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import FuncNorm, LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure

from attnlab.tasks.views import Attended, Panel, Part, Regarded

CELL = 0.32
"""Inches of one token's row or column: room for its letters at `LETTERS` points at any length of sentence."""
LETTERS = 11
LETTER = LETTERS / 72 * 0.68
"""Inches of a letter's width."""
LONGEST_LABEL = 24
"""Letters of a token that are shown; the rest becomes an ellipsis."""
LONGEST_SENTENCE = 80
"""The same of a sentence."""
LINE = 0.24
"""Inches of a line of a heading."""
HEADING = LETTERS + 1
"""Points of its letters."""
MOST_LINES = 4
"""Lines that are shown of what was asked; the rest becomes an ellipsis."""
EDGE = 0.15
"""Inches around what stands at the edge of a picture."""
NARROWEST = 5.0
"""Inches of the width of a picture with a heading."""
WIDEST = 60
"""Columns from which on a picture much wider than high is cut into bands."""
LARGEST = 60.0
"""Inches of the longest side of a picture (7,200 pixels)."""
SHORTEST_BAR = 1.6
"""Inches of the color bar beside a short sentence."""
DPI = 120
SCALE = "Blues"
SIGNED_SCALE = "RdBu"
"""Where weights are negative: red below 0."""
LIGHT = LinearSegmentedColormap.from_list("light", ["#5e3c99", "#ffffff", "#d94801"])
"""Over an image: orange, and violet below 0."""
LIGHT_UPPER = LinearSegmentedColormap.from_list("light_upper", ["#ffffff", "#d94801"])
DENSEST = 0.8
"""Share of the largest weight's color over an image, which shines through."""
LEAST_ROWS = 3
"""Rows whose height is left for the name of the rows."""
OTHER_SCRIPTS = (
    "Noto Sans CJK JP", "Noto Sans CJK SC", "WenQuanYi Zen Hei", "Droid Sans Fallback", "Hiragino Sans", "MS Gothic",
    "Noto Sans Arabic", "Noto Sans Hebrew", "Noto Sans Devanagari", "Noto Sans Thai", "Arial Unicode MS",
)  # fmt: skip
"""Fonts to try, where they are installed, for letters that matplotlib's own font lacks."""
LOSSES = {"loss (nats)": ("loss", "nll")}
"""The first panel of a training curve: its title -> the values of a logged row that are drawn in it."""


def alignment(attended: Attended, path: Path) -> None:
    """Draw attention weights as heat maps: source words across, target words down, the sum of each row at its end.

    Every panel of the view has its own map, title and scale. A scale goes from 0 (white) to 1, so that two pictures can
    be compared; only where every weight is below `views.FAINT` does it end at the largest one, and where some weight
    is negative it is red below 0. Where the words are so many that an even spread could not be seen, colours follow
    the square root of the weights, and the color bar says so. The picture grows with the sentence: every word stays
    legible. Long passages are cut into bands, one below the other. Columns that are sentences become rows.

    Args:
        attended: tokens and weights [t s].
        path: the PNG to write.
    """
    rows, columns = attended.weights.shape
    if not (rows and columns):
        raise ValueError(f"nothing to draw: {rows} target and {columns} source tokens")
    maps = [_Map.of(attended, panel) for panel in attended.panels]
    top, left = (LETTER * max(_letters(one) for m in maps for one in labels(m)) for labels in (_across, _down))
    bands = _bands(len(maps[0].across), high=max(len(m.down) for m in maps) + top / CELL)
    width = max(0.45 + left + CELL * bands[0].stop + 1.9, NARROWEST if attended.heading else 0.0)
    lines = _wrapped(attended.heading, width - 2 * EDGE, HEADING)
    above = EDGE + LINE * len(lines) if lines else 0.0
    heights = [m.height(top, len(bands), width) for m in maps]
    height = above + sum(heights) + 0.25
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / max(width, height)), facecolor="white")
    _write(figure, lines, EDGE, height - EDGE, HEADING)
    for m, begin in zip(maps, height - above - np.cumsum([0.0, *heights[:-1]]), strict=True):
        m.draw(figure, begin, left, top, bands)
    _save(figure, path)


@dataclass(frozen=True)
class _Map:
    """A heat map as it is drawn, in bands of columns."""

    panel: Panel
    weights: np.ndarray
    """[down across]"""
    across: list[str]
    down: list[str]
    names: tuple[str, str]
    """What is across and what is down."""
    turned: bool
    """Whether the columns of the view are the rows of the map."""

    @classmethod
    def of(cls, attended: Attended, panel: Panel) -> "_Map":
        source = _labels(attended.source_tokens, LONGEST_SENTENCE if attended.sentences else LONGEST_LABEL)
        target, names = _labels(panel.tokens), (attended.across, panel.part.down)
        if attended.sentences:
            return cls(panel, panel.weights.T, target, source, (names[1], names[0]), turned=True)
        return cls(panel, panel.weights, source, target, names, turned=False)

    def title(self, width: float) -> list[str]:
        return _wrapped(self.panel.title, width, LETTERS)

    def height(self, top: float, bands: int, width: float) -> float:
        """Inches, from the top of the title to the bottom of the last band."""
        lines = self.title(width - 2 * EDGE)
        return (LINE * len(lines) + EDGE if lines else 0.0) + self._place(top, bands) + 0.1

    def draw(self, figure: Figure, begin: float, left: float, top: float, bands: Sequence[slice]) -> None:
        """Draw the map below `begin` inches, where the labels take `left` and `top` inches."""
        width, height = figure.get_size_inches()
        lines = self.title(width - 2 * EDGE)
        _write(figure, lines, EDGE, begin - EDGE, LETTERS, "0.3")
        begin -= LINE * len(lines) + EDGE if lines else 0.0
        tall, every_axes = CELL * len(self.down), []
        for number, band in enumerate(bands):
            bottom = begin - self._place(top, number) - 0.45 - top - tall
            wide = CELL * (band.stop - band.start)
            axes = figure.add_axes(((0.45 + left) / width, bottom / height, wide / width, tall / height))
            axes.imshow(self.weights[:, band], **_colors(self.panel), aspect="auto", interpolation="nearest")
            _label_axes(axes, self.across[band], self.down)
            if LETTER * _letters(self.names[1]) <= max(tall, CELL * LEAST_ROWS):
                axes.set_ylabel(self.names[1], color="0.4", labelpad=8)
            every_axes.append(axes)
        every_axes[0].set_xlabel(self.names[0], color="0.4", labelpad=8)
        if self.panel.adds_up != "column":
            _write_sums(every_axes[-1], self.panel.weights, self.turned, whole=len(bands) == 1)
        _add_color_bar(figure, every_axes[0], self.panel, above=0.25 + top)

    def _place(self, top: float, number: int) -> float:
        """Inches from the first band's begin to that of another; beside the first there is room for the scale."""
        each = 0.45 + top + CELL * len(self.down) + (0.4 if self.turned else 0.0)
        return number * each + (max(0.45 + SHORTEST_BAR - each, 0.0) if number else 0.0)


def _across(m: _Map) -> list[str]:
    return m.across


def _down(m: _Map) -> list[str]:
    return m.down


def regarded(view: Regarded, path: Path) -> None:
    """Draw where on an image the model looked for each word: the image alone first, then a pale copy for each word.

    The cells of the grid lie over it in one color, the stronger the larger the weight, on one scale for the whole
    picture, from 0 to its largest weight. Negative weights have another color. Beside each word stands the largest
    weight of a cell.

    Args:
        view: image, words and weights.
        path: the PNG to write.
    """
    panels = 1 + len(view.words)
    columns = panels if panels <= 6 else min((4, 5, 6), key=lambda few: (-panels % few, -few))
    rows = -(-panels // columns)
    width = max(2.1 * columns + 1.5, NARROWEST)
    lines = _wrapped(view.heading or view.answer, width - 2 * EDGE, HEADING)
    above, below = EDGE + LINE * len(lines), 0.3
    height = above + 2.45 * rows + below
    figure = Figure(figsize=(width, height), dpi=min(DPI, DPI * LARGEST / height), facecolor="white")
    _write(figure, lines, EDGE, height - EDGE, HEADING)
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
    weights = view.weights.reshape(len(view.words), -1)
    panel = Panel(
        Part(len(weights), "", unit="attention weight of a cell"),
        view.words,
        weights,
        float(np.abs(weights).max(initial=0.0)) or 1.0,
    )
    norm = _colors(panel)["norm"]
    for axes, word, weights in zip(every_axes[1:], _labels(view.words), view.weights, strict=True):
        axes.imshow(0.5 * view.image.mean(axis=-1) + 127.5, cmap="gray", vmin=0, vmax=255, extent=whole)
        light = np.clip(np.abs(norm(weights) - norm(0.0)) / (norm(panel.top) - norm(0.0)), 0.0, 1.0)
        axes.imshow(np.sign(weights), cmap=LIGHT, vmin=-1, vmax=1, alpha=DENSEST * light, extent=whole,
                    interpolation="nearest")  # fmt: skip
        _draw_grid(axes, weights.shape, whole)
        largest = weights.flat[np.abs(weights).argmax()]
        axes.set_title(f"{word}  {largest:.2f}", **_text(), pad=4)
    note = "beside each word: the largest weight of a cell" + (", by size" if panel.signed else "")
    if panel.adds_up == "row":
        note += "; the weights of a word add up to 1"
    _write(figure, [note], EDGE, below, LETTERS - 2, "0.35")
    if view.words:
        image = ScalarMappable(norm, LIGHT if panel.signed else LIGHT_UPPER)
        _add_color_bar(figure, every_axes[columns - 1], panel, aside=0.25, image=image)
    _save(figure, path)


def training_curve(
    rows: Sequence[Mapping[str, Any]], path: Path, panels: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Draw logged values over the steps, one panel above the other, and mark the best score on dev.

    Args:
        rows: logged rows as read from `metrics.jsonl`; each has a `step` and any of the values.
        path: the PNG to write.
        panels: title of a panel -> names of values; what no row holds is left out. None is the losses, and every
            score on dev. Of lines of a panel that fall on one another the first is drawn.
    """
    if panels is None:
        names = sorted({name for row in rows for name in row if name.startswith("dev_")})
        panels = LOSSES | {_percent(name): (name,) for name in names}
    shown = {title: lines for title, names in panels.items() if (lines := _lines(rows, names))}
    if not shown:
        raise ValueError(f"nothing to draw: no row holds any of {[n for names in panels.values() for n in names]}")
    figure = Figure(figsize=(8, 2.8 * len(shown)), dpi=DPI, layout="constrained", facecolor="white")
    every_axes = figure.subplots(len(shown), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(every_axes, shown.items(), strict=True):
        _draw_lines(axes, title, lines)
    every_axes[-1].set_xlabel("step")
    _save(figure, path)


def _labels(tokens: Sequence[str], longest: int = LONGEST_LABEL) -> list[str]:
    return [_label(token, longest) for token in tokens]


def _label(token: str, longest: int = LONGEST_LABEL) -> str:
    """Make a token printable on one line: white space at its ends and control characters become visible, a long one is
    cut."""
    marked = re.sub(r"^\s+|\s+$", lambda found: "␣" * len(found[0]), token)
    shown = _printable(re.sub(r"\s+", " ", marked))
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def _printable(text: str) -> str:
    return "".join("�" if unicodedata.category(c) in ("Cc", "Cs") else c for c in text)


def _wrapped(text: str, width: float, points: int) -> list[str]:
    """Break lines so that each fits `width` inches; at most `MOST_LINES` are left of each."""
    lines = []
    for given in filter(None, map(_printable, text.splitlines())):
        wide = max(_letters(given) / len(given), 1.0)
        fit = max(int(width / (points / 72 * 0.56 * wide)), 10)
        lines += textwrap.wrap(given, fit, max_lines=MOST_LINES, placeholder=" …")
    return lines


def _text(points: int = LETTERS) -> dict[str, Any]:
    return {"parse_math": False, "fontfamily": _font_families(), "fontsize": points}


def _write(figure: Figure, lines: Sequence[str], x: float, y: float, points: int, color: str = "0.1") -> None:
    """Write lines from `y` inches downward."""
    width, height = figure.get_size_inches()
    for number, line in enumerate(lines):
        figure.text(x / width, (y - LINE * number) / height, line, va="top", color=color, **_text(points))


def _letters(label: str) -> float:
    """How long a label is, in letters of common width."""
    wide = {"W": 1.5, "F": 1.5}
    return sum(1.4 if one in "WM@%—" else wide.get(unicodedata.east_asian_width(one), 1.0) for one in label)


def _bands(columns: int, high: float) -> list[slice]:
    """Cut the columns into bands of `high` cells each, so that the whole is at most about twice as wide as high."""
    count = math.ceil(math.sqrt(columns / (2 * high))) if columns > WIDEST else 1
    across = math.ceil(columns / count)
    return [slice(start, min(start + across, columns)) for start in range(0, columns, across)]


def _label_axes(axes: Axes, source: list[str], target: list[str]) -> None:
    text = _text()
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set_xticks(range(len(source)), source, rotation=90, **text)
    axes.set_yticks(range(len(target)), target, **text)
    axes.set_xticks(np.arange(len(source) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(target) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_color("0.6")


def _draw_grid(axes: Axes, shape: tuple[int, ...], whole: tuple[float, float, float, float]) -> None:
    """Draw the edges of the cells of a grid that covers an image."""
    rows, columns = shape
    left, right, bottom, top = whole
    axes.vlines(np.linspace(left, right, columns + 1)[1:-1], bottom, top, color="0.35", linewidth=0.4, alpha=0.35)
    axes.hlines(np.linspace(top, bottom, rows + 1)[1:-1], left, right, color="0.35", linewidth=0.4, alpha=0.35)


def _colors(panel: Panel) -> dict[str, Any]:
    """Colors of a panel's weights: from white at 0 to blue, and where any is negative to red."""
    low, top = -panel.top if panel.signed else 0.0, panel.top
    norm = FuncNorm((_root, _square), vmin=low, vmax=top) if panel.rooted else Normalize(low, top)
    return {"cmap": SIGNED_SCALE if panel.signed else SCALE, "norm": norm}


def _root(weights: np.ndarray) -> np.ndarray:
    return np.sign(weights) * np.sqrt(np.abs(weights))


def _square(roots: np.ndarray) -> np.ndarray:
    return np.sign(roots) * np.square(roots)


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


def _add_color_bar(
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
    shares = [0, 0.05, 0.2, 0.5, 1] if panel.rooted else [0, 0.25, 0.5, 0.75, 1] if panel.top == 1.0 else [0, 0.5, 1]
    shares = [-share for share in shares[:0:-1]] + shares if panel.signed else shares
    form = "%.2f" if panel.top == 1.0 else "%.2g"
    label = panel.part.unit + ("\n(its root as color)" if panel.rooted else "")
    figure.colorbar(
        image or axes.images[0], cax=beside, ticks=[panel.top * s for s in shares], format=form, label=label
    )
    beside.minorticks_off()
    beside.tick_params(labelsize=LETTERS - 2)


def _font_families() -> list[str]:
    installed = set(font_manager.get_font_names())
    return ["DejaVu Sans", *(name for name in OTHER_SCRIPTS if name in installed)]


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    points = {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}
    return _told_apart({name: line for name, line in points.items() if line})


def _told_apart(lines: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Leave out a line that would hide an earlier one, as the negative log-likelihood does where it is the loss."""
    kept: dict[str, list[tuple[int, float]]] = {}
    for name, line in lines.items():
        others = [np.array(other) for other in kept.values() if len(other) == len(line)]
        if not any(np.allclose(line, other, rtol=1e-4, atol=1e-6) for other in others):
            kept[name] = line
    return kept


def _percent(name: str) -> str:
    """Title of a score on dev; all but BLEU and chrF, whose unit is their own, are in percent."""
    own = name.removeprefix("dev_").startswith(("bleu", "chrf"))
    return name.replace("_", " ") + ("" if own else " (%)")


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

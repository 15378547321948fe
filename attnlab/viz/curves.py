"""Training curves: logged losses and validation metrics over the steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.viz.fonts import DPI, save

LOSSES = {"loss (nats)": ("loss", "nll")}
"""The first panel of a training curve: its title -> the values of a logged row that are drawn in it."""


def training_curve(
    rows: Sequence[Mapping[str, Any]], path: Path, panels: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Draw logged values over the steps, one panel below the other, and mark the best validation metric.

    Args:
        rows: logged rows as read from `metrics.jsonl`; each has a `step` and any of the values.
        path: the PNG to write.
        panels: title of a panel -> names of values; those that no row has are left out. None: the losses and every
            validation metric. Of lines that coincide the first is drawn.
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
    save(figure, path)


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    points = {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}
    return _distinct({name: line for name, line in points.items() if line})


def _distinct(lines: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Drop a line that coincides with an earlier one, as the negative log-likelihood does when it is the loss."""
    kept: dict[str, list[tuple[int, float]]] = {}
    for name, line in lines.items():
        others = [np.array(other) for other in kept.values() if len(other) == len(line)]
        if not any(np.allclose(line, other, rtol=1e-4, atol=1e-6) for other in others):
            kept[name] = line
    return kept


def _percent(name: str) -> str:
    """Return the title of a validation metric; all but BLEU and chrF, which have their own unit, are in percent."""
    unitless = name.removeprefix("dev_").startswith(("bleu", "chrf"))
    return name.replace("_", " ") + ("" if unitless else " (%)")


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

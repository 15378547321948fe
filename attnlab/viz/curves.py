"""Training curves: losses and validation metrics over the training steps."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.viz.fonts import DPI, save

LOSSES = {"loss (nats)": ("loss", "nll")}
"""The first panel of a training curve: title -> names of the logged values."""


def training_curve(
    rows: Sequence[Mapping[str, Any]], path: Path, panels: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Plot logged values over the training steps in stacked panels, and mark the best value of validation metrics.

    Args:
        rows: rows of `metrics.jsonl`; each has a `step` and some of the values.
        path: the PNG to write.
        panels: title of a panel -> names of values; values without a row are left out. None for the losses and all
            validation metrics. Of coinciding lines only the first is drawn.

    Raises:
        ValueError: no row has any of the values.
    """
    if panels is None:
        names = sorted({name for row in rows for name in row if name.startswith("dev_")})
        panels = LOSSES | {_percent(name): (name,) for name in names}
    drawn = {title: lines for title, names in panels.items() if (lines := _lines(rows, names))}
    if not drawn:
        raise ValueError(f"nothing to draw: no row has any of {[n for names in panels.values() for n in names]}")
    figure = Figure(figsize=(8, 2.8 * len(drawn)), dpi=DPI, layout="constrained", facecolor="white")
    all_axes = figure.subplots(len(drawn), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (title, lines) in zip(all_axes, drawn.items(), strict=True):
        _draw_lines(axes, title, lines)
    all_axes[-1].set_xlabel("step")
    save(figure, path)


def _lines(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
    points = {name: [(row["step"], row[name]) for row in rows if row.get(name) is not None] for name in names}
    return _distinct({name: line for name, line in points.items() if line})


def _distinct(lines: Mapping[str, list[tuple[int, float]]]) -> dict[str, list[tuple[int, float]]]:
    """Drop lines that coincide with an earlier line, e.g. the negative log-likelihood when it is the loss."""
    kept: dict[str, list[tuple[int, float]]] = {}
    for name, line in lines.items():
        others = [np.array(other) for other in kept.values() if len(other) == len(line)]
        if not any(np.allclose(line, other, rtol=1e-4, atol=1e-6) for other in others):
            kept[name] = line
    return kept


def _percent(name: str) -> str:
    """Return the title of a validation metric; all except BLEU and chrF are in percent."""
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

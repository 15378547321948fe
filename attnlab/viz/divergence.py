"""Pictures of how far runs are from a base run: predictions over attention weights, and weights by the largest one."""

from collections.abc import Sequence
from pathlib import Path
from textwrap import shorten
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.results.divergence import DivergenceReport, GroupDivergence, Kind
from attnlab.viz.fonts import DPI, save

COLORS: dict[Kind, str] = {"seed": "0.3", "adversary": "tab:red", "other": "tab:blue"}
MARKERS: dict[Kind, str] = {"seed": "s", "adversary": "o", "other": "^"}
LINES = ("-", "--", ":", "-.")
"""Styles of the curves of adversaries."""
JSD, TVD = "JSD of attention weights from base (nats)", "TVD of predictions from base"
LONGEST_LABEL = 40
"""Characters of the name of a group."""
MOST_PANELS = 6
"""Largest number of groups whose distributions are drawn."""


def draw_divergence(report: DivergenceReport, path: Path) -> str:
    """Draw the runs in the plane of JSD and TVD, and the distribution of the JSD by the largest weight, as PNG.

    Args:
        report: the runs; adversaries of one config are joined by a line, in the order of the JSD.
        path: the PNG to write.
    Returns: a message that names characters without a font, or "".
    """
    shown = report.groups[:MOST_PANELS]
    columns = min(3, max(1, len(shown)))
    rows = 1 + -(-len(shown) // columns)
    figure = Figure(figsize=(10, 4.2 + 2.4 * (rows - 1)), dpi=DPI, layout="constrained", facecolor="white")
    heights = [1.7] + [1.0] * (rows - 1)
    grid = figure.add_gridspec(rows, columns, height_ratios=heights)
    _draw_plane(figure.add_subplot(grid[0, :]), report)
    top = max((part.quantiles[4] for group in shown for part in group.bins if part.quantiles), default=0.0)
    for place, group in enumerate(shown):
        axes = figure.add_subplot(grid[1 + place // columns, place % columns])
        _draw_bins(axes, group)
        axes.set_xlim(0.0, max(1.05 * top, 1e-3))
    return save(figure, path)


def _draw_plane(axes: Axes, report: DivergenceReport) -> None:
    for number, curve in enumerate(report.curves):
        x, y = [0.0, *curve.weight_jsd], [0.0, *curve.prediction_tvd]
        style = LINES[number % len(LINES)]
        axes.plot(
            x,
            y,
            style,
            color=COLORS["adversary"],
            linewidth=1.0,
            zorder=1,
            label=shorten(curve.label, 2 * LONGEST_LABEL, placeholder=" …"),
        )
    if len(report.curves) > 1:
        axes.legend(title="adversaries", fontsize="small", frameon=False)
    for group in report.groups:
        style: Any = {"color": COLORS[group.kind], "marker": MARKERS[group.kind]}
        axes.scatter(_values(group, "weight_jsd"), _values(group, "prediction_tvd"), s=14, alpha=0.4, **style)
        place = group.divergence.weight_jsd, group.divergence.prediction_tvd
        axes.scatter(*place, s=46, **style)
        axes.annotate(_label(group), place, (5, 5), textcoords="offset points")
    axes.set_xlabel(JSD)
    axes.set_ylabel(TVD)
    axes.set_xlim(left=0.0)
    axes.set_ylim(bottom=0.0)
    axes.set_title(f"{report.split}: {report.texts:,} texts; base {report.base}", fontsize="medium", color="0.3")
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _label(group: GroupDivergence) -> str:
    return shorten(group.label, LONGEST_LABEL, placeholder=" …")


def _values(group: GroupDivergence, name: str) -> Sequence[float]:
    return [getattr(run.divergence, name) for run in group.runs]


def _draw_bins(axes: Axes, group: GroupDivergence) -> None:
    """Draw a box for each bin of the largest weight: quartiles, and lines to the smallest and largest value."""
    names = ("whislo", "q1", "med", "q3", "whishi")
    filled = [(place, part) for place, part in enumerate(group.bins) if part.quantiles]
    boxes: list[dict[str, Any]] = [dict(zip(names, part.quantiles or (), strict=True)) for _, part in filled]
    axes.bxp(boxes, positions=[place for place, _ in filled], orientation="horizontal", showfliers=False, widths=0.6)
    labels = [f"{part.low:g} to {part.high:g}" for part in group.bins]
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(-0.6, len(labels) - 0.4)
    axes.set_ylabel("largest weight")
    axes.set_title(_label(group), fontsize="medium")
    axes.set_xlabel("JSD of weights")
    axes.spines[["top", "right"]].set_visible(False)

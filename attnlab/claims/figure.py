"""The figure of a claim: its groups of runs or costs, and its effects with intervals and the smallest that counts."""

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

from attnlab.claims import costs
from attnlab.claims.evidence import Evidence, Measured, sample, total
from attnlab.claims.verdict import FAILS, HOLDS, UNDECIDED, Effect
from attnlab.config.claim import Claim
from attnlab.config.claim_effects import CostPanel, RunsPanel
from attnlab.results.groups import RunGroup
from attnlab.viz.fonts import DPI, save

INK, RUN = "#1c2024", "#56b4e9"
"""Colors of means with intervals, and of single runs."""
LINES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b8860b", "#56b4e9", "#8a63d2", "#7f9f2f")
"""Colors of lines, in turn."""
MARKS = ("o", "s", "^", "D", "v", "P", "X", "*")
OUTCOMES = {HOLDS: "#0072b2", FAILS: "#d55e00", UNDECIDED: "#6b7a8f"}
"""Color of an effect by its outcome."""
SHADE = "#e8f1f8"
"""Color of what is as claimed."""
RATIO = "×"
"""Unit of ratios, which are drawn on a logarithmic scale."""
WIDTH = 10.0
"""Inches."""
ROW, PANEL = 0.36, 3.0
"""Inches of a line of a panel, and of a panel with an x axis."""
LABEL = 42
"""Characters of a line of a label."""


def draw(claim: Claim, evidence: Evidence, effects: Sequence[Effect], path: Path) -> bool:
    """Draw the figure of a claim; return whether there was anything to draw.

    Args:
        claim: the claim.
        evidence: what has been measured.
        effects: its effects; those that have not been measured are left out.
        path: the PNG to write.
    """
    panels = [panel for panel in claim.figure if _has_points(panel, evidence)]
    shown = [effect for effect in effects if effect.value is not None]
    if not panels and not shown:
        return False
    units = list(dict.fromkeys(effect.unit for effect in shown))
    rows = _rows(panels)
    heights = [max(_height(panel, evidence) for panel in row) for row in rows]
    heights += [ROW * (sum(_lines(e.label) for e in shown if e.unit == unit) + 2.4) for unit in units]
    figure = Figure(figsize=(WIDTH, sum(heights) + 0.4), dpi=DPI, layout="constrained", facecolor="white")
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    for number, row in enumerate(rows):
        for column, panel in enumerate(row):
            axes = figure.add_subplot(grid[number, column] if len(row) > 1 else grid[number, :])
            if isinstance(panel, CostPanel):
                _draw_cost(axes, panel, evidence)
            elif panel.x is None:
                _draw_groups(axes, panel, evidence)
            else:
                _draw_curves(axes, panel, evidence, panel.x)
    for number, unit in enumerate(units, start=len(rows)):
        members = [effect for effect in shown if effect.unit == unit]
        _draw_effects(figure.add_subplot(grid[number, :]), members, unit, evidence.quick)
    save(figure, path)
    return True


@dataclass(frozen=True, eq=False)
class GroupMean:
    """A metric of a group of runs.

    Attributes:
        name: what it is, and the values of the setting.
        setting: the values of the setting's axes.
        group: the runs.
        values: of every run.
        mean: their mean with its interval.
    """

    name: str
    setting: Mapping[str, str]
    group: RunGroup
    values: np.ndarray
    mean: Measured


def means(panel: RunsPanel, evidence: Evidence) -> list[GroupMean]:
    """Return the metrics of a panel for every setting that has runs."""
    found = []
    for series in panel.series:
        for name, group in evidence.studies[series.study].groups.items():
            values, setting = sample(group, series.metric, series.file), coordinates(name)
            words = [series.label, *(name_of(axis, value) for axis, value in setting.items())]
            label = ", ".join(filter(None, words))
            found.append(GroupMean(label, setting, group, values.runs, total([values])))
    return found


def name_of(axis: str, value: str) -> str:
    """Return the name of a point of an axis; a number is named with its axis.

    >>> name_of("width", "1024"), name_of("mask", "window_8"), name_of("attention", "none")
    ('width 1,024', 'window 8', 'no attention')
    """
    if value == "none":
        return f"no {axis}"
    return f"{axis} {int(value):,}" if value.isdecimal() else value.replace("_", " ")


def coordinates(setting: str) -> dict[str, str]:
    """Return the values of a setting's axes.

    >>> coordinates("scale=none,width=16")
    {'scale': 'none', 'width': '16'}
    """
    return dict(part.split("=", 1) for part in setting.split(",") if "=" in part)


def _has_points(panel: RunsPanel | CostPanel, evidence: Evidence) -> bool:
    return panel.cost in evidence.costs if isinstance(panel, CostPanel) else _count(panel, evidence) > 0


def _count(panel: RunsPanel, evidence: Evidence) -> int:
    """Return the number of groups of a panel."""
    return sum(len(evidence.studies[series.study].groups) for series in panel.series)


def _lines(label: str) -> float:
    """Return the height of a label, in lines of a panel."""
    return max(0.6 * (_wrapped(label).count("\n") + 1), 1.0)


def _rows(panels: Sequence[RunsPanel | CostPanel]) -> list[list[RunsPanel | CostPanel]]:
    """Return the panels by row: two curves side by side, or a list of groups alone."""
    rows: list[list[RunsPanel | CostPanel]] = []
    for panel in panels:
        curve = panel.x is not None
        if curve and rows and len(rows[-1]) == 1 and rows[-1][0].x is not None:
            rows[-1].append(panel)
        else:
            rows.append([panel])
    return rows


def _height(panel: RunsPanel | CostPanel, evidence: Evidence) -> float:
    if isinstance(panel, CostPanel) or panel.x is not None:
        return PANEL
    return ROW * (_count(panel, evidence) + 2)


def _draw_groups(axes: Axes, panel: RunsPanel, evidence: Evidence) -> None:
    """Draw a line for every setting: its runs, their mean and its interval."""
    found = means(panel, evidence)
    for place, one in enumerate(found):
        axes.plot(one.values, [place] * len(one.values), "o", color=RUN, markersize=5, alpha=0.8, zorder=3)
        _interval(axes, place, one.mean.value, one.mean.interval, INK)
    _finish_lines(axes, [_wrapped(one.name or "the model") for one in found], panel.title)


def _draw_curves(axes: Axes, panel: RunsPanel, evidence: Evidence, x: str) -> None:
    """Draw a line of means with intervals for every setting of the other axes."""
    lines: dict[str, list[tuple[float, Measured]]] = {}
    for one in means(panel, evidence):
        others = (name_of(axis, value) for axis, value in one.setting.items() if axis != x)
        label = next((s.label for s in panel.series if one.name.startswith(s.label)), "")
        name = ", ".join(filter(None, (label, *others)))
        lines.setdefault(name, []).append((float(one.setting[x]), one.mean))
    for number, (name, points) in enumerate(lines.items()):
        points.sort(key=lambda point: point[0])
        shift = 1.03 ** (number - (len(lines) - 1) / 2)
        xs, ys = [place * shift for place, _ in points], [mean.value for _, mean in points]
        color = LINES[number % len(LINES)]
        axes.plot(xs, ys, "-", color=color, marker=MARKS[number % len(MARKS)], markersize=5, label=name)
        for place, (_, mean) in zip(xs, points, strict=True):
            if mean.interval is not None:
                axes.plot((place, place), mean.interval, "-", color=color, linewidth=1.2)
    _finish_curve(axes, sorted({place for points in lines.values() for place, _ in points}), panel.title, x)


def _draw_cost(axes: Axes, panel: CostPanel, evidence: Evidence) -> None:
    """Draw the cost of every variant, on logarithmic scales."""
    report, places = evidence.costs[panel.cost], set[float]()
    for number, variant in enumerate(dict.fromkeys(result.case.variant for result in report.results)):
        points = costs.curve(report, variant, panel.mode, panel.quantity, panel.x)
        if points:
            color, mark = LINES[number % len(LINES)], MARKS[number % len(MARKS)]
            axes.plot(*zip(*points, strict=True), "-", color=color, marker=mark, markersize=5, label=variant)
            places |= {x for x, _ in points}
            for x, low, high in costs.spreads(report, variant, panel.mode, panel.quantity, panel.x):
                axes.plot((x, x), (low, high), "-", color=color, linewidth=1.2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    _finish_curve(axes, sorted(places), panel.title, panel.x)


def _finish_curve(axes: Axes, places: Sequence[float], title: str, x: str) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [f"{place:,g}" for place in places])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x)
    axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")


def _draw_effects(axes: Axes, effects: Sequence[Effect], unit: str, quick: bool) -> None:
    """Draw effects with their intervals; the claimed side of the smallest effect that counts is shaded."""
    if unit == RATIO:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
    else:
        axes.axvline(0.0, color="0.6", linewidth=1)
    for place, effect in enumerate(effects):
        color = OUTCOMES.get(effect.outcome, INK) if effect.claimed else "0.6"
        color = INK if quick else color
        assert effect.value is not None
        _interval(axes, place, effect.value, effect.interval, color)
        for end in (effect.at_least, *([-effect.at_least] if effect.two_sided else [])):
            axes.plot((end, end), (place - 0.4, place + 0.4), "--", color="0.35", linewidth=1.2)
    axes.margins(x=0.08)
    low, high = axes.get_xlim()
    for place, effect in enumerate(effects):
        axes.fill_betweenx((place - 0.4, place + 0.4), effect.at_least, max(high, effect.at_least), color=SHADE)
        if effect.two_sided:
            axes.fill_betweenx((place - 0.4, place + 0.4), min(low, -effect.at_least), -effect.at_least, color=SHADE)
    axes.set_xlim(low, high)
    names = [_wrapped(effect.label) for effect in effects]
    _finish_lines(axes, names, "effects with 95% intervals; shaded: as claimed, from the smallest that counts (dashed)")
    axes.set_xlabel("times" if unit == RATIO else unit)


def _wrapped(label: str) -> str:
    return "\n".join(textwrap.wrap(label, LABEL, break_on_hyphens=False))


def _interval(axes: Axes, place: int, value: float, ends: tuple[float, float] | None, color: str) -> None:
    if ends is not None and ends[1] > ends[0]:
        axes.plot(ends, (place, place), "-", color=color, linewidth=1.5)
        axes.plot(ends, (place, place), "|", color=color, markersize=8)
    axes.plot([value], [place], "D", color=color, markersize=5)


def _finish_lines(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(axis="x", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)

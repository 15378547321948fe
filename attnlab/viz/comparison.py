"""The plot of a comparison: scores of all runs and differences with intervals, and quality against cost."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from attnlab.results.comparison import Comparison
from attnlab.results.group_costs import GroupCost, group_cost
from attnlab.results.group_scores import GroupDifference, GroupScore
from attnlab.tasks.base import Metric
from attnlab.viz.fonts import DPI, save

INK, RUN, CLEAR = "#1c2024", "#56b4e9", "#d55e00"
"""Colors of means and intervals, of single runs, and of differences whose (corrected) p is below 0.05."""
GROUPS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b8860b", "#8a63d2", "#7f9f2f")
"""Colors of groups, in turn."""
LINE = 0.34
"""Height of a line in inches."""
LONGEST = 46
"""Longest name of a group, in characters."""


def draw_comparison(comparison: Comparison, path: Path) -> None:
    """Draw the main metric of every test set: scores on the left, differences on the right, and cost below.

    Args:
        comparison: the comparison.
        path: the PNG to write.
    """
    metrics = main_metrics(comparison)
    costs = [group_cost(group) for group in comparison.groups]
    lines = max(len(comparison.groups), len(comparison.pairs)) + 3
    heights = [lines * LINE] * len(metrics) + [2.6]
    figure = Figure(figsize=(11, sum(heights)), dpi=DPI, layout="constrained", facecolor="white")
    rows = figure.subplots(len(heights), 2, squeeze=False, height_ratios=heights)
    for axes, (split, metric) in zip(rows, metrics, strict=False):
        scores = [s for s in comparison.scores if (s.split, s.metric) == (split, metric)]
        differences = [d for d in comparison.differences if (d.split, d.metric) == (split, metric)]
        _draw_scores(axes[0], scores, comparison.names, f"{metric.heading}, {split}")
        _draw_differences(axes[1], differences, comparison.names, f"difference of {metric.heading}, {split}")
    split, metric = metrics[0]
    scores = [s for s in comparison.scores if (s.split, s.metric) == (split, metric)]
    _draw_cost(rows[-1][0], scores, comparison.names, costs, metric)
    rows[-1][1].axis("off")
    rows[-1][1].legend(*rows[-1][0].get_legend_handles_labels(), loc="upper left", frameon=False, fontsize="small")
    save(figure, path)


def main_metrics(comparison: Comparison) -> list[tuple[str, Metric]]:
    """Return every test set with the first metric that is compared on it."""
    first: dict[str, Metric] = {}
    for difference in comparison.differences:
        first.setdefault(difference.split, difference.metric)
    return list(first.items())


def _draw_scores(axes: Axes, scores: Sequence[GroupScore], names: Sequence[str], title: str) -> None:
    for place, score in enumerate(scores):
        axes.plot(score.runs, [place] * len(score.runs), "o", color=RUN, markersize=5, alpha=0.8)
        _interval(axes, place, score.mean, score.interval, INK)
    _lines(axes, [names[score.group] for score in scores], title)


def _draw_differences(axes: Axes, differences: Sequence[GroupDifference], names: Sequence[str], title: str) -> None:
    axes.axvline(0.0, color="0.6", linewidth=1)
    for place, entry in enumerate(differences):
        p = entry.p if entry.p_holm is None else entry.p_holm
        _interval(axes, place, entry.value, entry.interval, CLEAR if p is not None and p < 0.05 else INK)
    _lines(axes, [f"{_short(names[d.first])} − {_short(names[d.second])}" for d in differences], title)


def _interval(axes: Axes, place: int, value: float, ends: tuple[float, float] | None, color: str) -> None:
    if ends is not None:
        axes.plot(ends, (place, place), "-", color=color, linewidth=1.5)
        axes.plot(ends, (place, place), "|", color=color, markersize=8)
    axes.plot([value], [place], "D", color=color, markersize=5)


def _lines(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), [_short(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_title(title, fontsize="medium", loc="left")
    axes.grid(axis="x", color="0.92")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _draw_cost(
    axes: Axes, scores: Sequence[GroupScore], names: Sequence[str], costs: Sequence[GroupCost], metric: Metric
) -> None:
    steps = [cost.step for cost in costs]
    known = all(step is not None for step in steps)
    for score in scores:
        step, color = steps[score.group], GROUPS[score.group % len(GROUPS)]
        spent = step.flops if known and step is not None else costs[score.group].seconds
        if score.interval is not None:
            axes.plot((spent, spent), score.interval, "-", color=color, linewidth=1.2)
        axes.plot([spent], [score.mean], "D", color=color, markersize=6, label=_short(names[score.group]))
    axes.set_xlabel("FLOPs of a training step" if known else "seconds of training")
    axes.set_ylabel(metric.heading)
    axes.margins(x=0.15, y=0.15)
    axes.set_title("quality against cost", fontsize="medium", loc="left")
    axes.grid(color="0.92")
    axes.spines[["top", "right"]].set_visible(False)


def _short(name: str) -> str:
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"

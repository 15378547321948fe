"""Plots of cost against length: time and memory of every implementation, each with a fitted power law."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from attnlab.bench.cases import OURS
from attnlab.bench.results import Result, exponent

COLUMNS = 2
PANEL = (7.4, 3.9)
"""Inches of a panel with its legend."""
DPI = 120
MIN_PEAK = 5e5
"""Bytes. Smaller peaks are not plotted: the system's resolution is a few hundred kilobytes."""
COLORS = {
    "dense": "#6b7a8f", "streaming": "#1f77b4", "block_sparse": "#17a2a2", "plan": "#0b3c8c",
    "torch": "#d62728", "flex": "#ff7f0e", "jax.nn": "#8c6d31", "flax": "#b5a642",
    "cudnn": "#2ca02c", "torch_flash": "#e377c2", "torch_efficient": "#9467bd", "torch_cudnn": "#7f1d1d",
}  # fmt: skip
"""Blue and gray for attnlab, other colors for other libraries."""
Cost = Callable[[Result, str], float | None]
Lines = Mapping[str, list[tuple[int, float]]]


def draw(results: Sequence[Result], directory: Path) -> list[str]:
    """Draw the plots of all variants that were measured at two or more lengths.

    Time is divided by examples × heads, so that all shapes of the same width share a line. Memory is not divided,
    because heads that are computed sequentially share memory: each number of examples and heads has its own panel.

    Returns: names of the files that were written.
    """
    written = []
    pictures: list[tuple[str, str, Cost, bool]] = [
        ("time.png", "ms of a call ÷ (examples × heads)", _milliseconds, True),
        ("memory.png", "peak MB of a call", _megabytes, False),
    ]
    for name, label, cost, all_heads in pictures:
        panels = _panels(results, cost, all_heads)
        if panels:
            _picture(panels, label, directory / name)
            written.append(name)
    return written


def _milliseconds(result: Result, peer: str) -> float | None:
    return result.milliseconds(peer).median / (result.case.shape.batch * result.case.shape.heads)


def _megabytes(result: Result, peer: str) -> float | None:
    peak = result.timed[peer].peak_bytes
    return None if peak is None or peak < MIN_PEAK else peak / 1e6


def _panels(results: Sequence[Result], cost: Cost, all_heads: bool) -> dict[str, Lines]:
    """Return the lines of points (length, cost) of each panel: one per variant, mode, width and dtype.

    Panels with fewer than two lengths are left out. `all_heads` shares a panel among all numbers of examples and heads.
    """
    panels: dict[str, dict[str, list[tuple[int, float]]]] = {}
    for result in results:
        case = result.case
        title = f"{case.variant}, {case.mode.replace('_', ' + ')}, width {case.shape.width}, {case.dtype}"
        if not all_heads:
            title += f", {case.shape.batch} × {case.shape.heads} heads"
        lines = panels.setdefault(title, {})
        for peer in result.timed:
            value = cost(result, peer)
            if value is not None:
                lines.setdefault(peer, []).append((case.shape.length, value))
    ordered = {title: {peer: sorted(points) for peer, points in lines.items()} for title, lines in panels.items()}
    return {
        title: lines for title, lines in ordered.items()
        if len({length for points in lines.values() for length, _ in points}) > 1
    }  # fmt: skip


def _picture(panels: Mapping[str, Lines], label: str, path: Path) -> None:
    columns = min(COLUMNS, len(panels))
    rows = -(-len(panels) // columns)
    size = (PANEL[0] * columns, PANEL[1] * rows)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (title, lines) in zip(grid, panels.items(), strict=False):
        _draw_panel(axes, title, lines, label)
    for axes in grid[len(panels) :]:
        axes.remove()
    FigureCanvasAgg(figure).print_png(path, metadata={"Software": None})


def _draw_panel(axes: Axes, title: str, lines: Lines, label: str) -> None:
    """Draw a panel. Its legend is sorted by the right ends of the lines, the costliest first."""
    for peer, points in sorted(lines.items(), key=lambda item: -item[1][-1][1]):
        name, _, devices = peer.partition(" ×")
        fit = exponent(points)
        axes.plot(
            *zip(*points, strict=True),
            label=peer if fit is None else f"{peer}:  {fit}",
            color=COLORS.get(name, "0.5"),
            linestyle="--" if devices else "-",
            marker="o" if name in OURS else "s",
            markersize=4,
            linewidth=2.0 if name in OURS else 1.4,
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    lengths = sorted({length for points in lines.values() for length, _ in points})
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_title(title, fontsize="medium", loc="left")
    axes.set_xlabel("length T (queries and keys)")
    axes.set_ylabel(label, fontsize="small")
    axes.grid(color="0.9", which="both")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(
        frameon=False, fontsize="small", handlelength=3.2, loc="center left", bbox_to_anchor=(1.0, 0.5),
        title="fit: cost ∝ T to the power of",
    )  # fmt: skip

"""The HTML page of a faithfulness report: tables with intervals, mean curves, tests, and what is left out."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnlab.analysis.battery import FaithfulnessReport
from attnlab.analysis.battery.metric_table import GROUPS, TESTS, MetricGroup
from attnlab.analysis.battery.settings import ATTENTION, CEILING, FLOOR
from attnlab.data.text.display import printable
from attnlab.viz.page import template

REMOVAL = {
    "pad": "its embedding is replaced by that of padding",
    "zeros": "its embedding is replaced by zeros",
    "mean": "its embedding is replaced by the mean embedding of its text",
    "mask": "it is masked in every attention to the input; what it contributes elsewhere remains",
}
DIFFERENCES = {
    "minus_random": "Difference from random attributions, on the same examples",
    "minus_raw_attention": "Difference from raw attention, on the same examples",
}
FURTHER = DIFFERENCES | {"correct": "Correct predictions only"}
"""Further means of each metric, with the titles of their tables."""
MARKS = {FLOOR: "floor", CEILING: "ceiling", ATTENTION: "attention"}
ARROWS = {"higher": "↑", "lower": "↓", "": ""}
CURVES = {"deletion_curve": ("Deletion", "removed"), "insertion_curve": ("Insertion", "kept")}
WIDTH, HEIGHT, LEFT, RIGHT, BOTTOM = 480, 300, 44, 20, 36
"""Size and margins of a figure."""


def render(report: FaithfulnessReport, *, title: str, split: str = "", command: str = "") -> str:
    """Render a report as a self-contained HTML page, which needs no network and no script.

    Args:
        report: the report.
        title: heading of the page.
        split: name of the data.
        command: the command that made it.
    """
    summary = report.summary
    settings, environment = summary.get("settings", {}), summary.get("environment", {})
    checkpoint = ", ".join(map(str, summary.get("checkpoint", {}).get("steps", [])))
    details = {
        "split": split,
        "examples": f"{summary['examples']:,}",
        "checkpoint": f"step {checkpoint}" if checkpoint else "",
        "attnlab": environment.get("attnlab", ""),
        "machine": ", ".join(environment.get("devices", [])),
    }
    removal = settings.get("removal", "")
    return template("faithfulness.html").render(
        title=printable(title),
        input=[],
        unknown_words="",
        details={name: value for name, value in details.items() if value},
        maps=[],
        left_out=0,
        caveat="Read these numbers with care",
        caveat_details="they are of this model and these examples; another seed of training gives another model",
        target=summary["target"],
        removal=_removal(removal, summary.get("removal_note", "")),
        groups=[group for group in (_group(group, summary["methods"]) for group in GROUPS) if group["columns"]],
        curves=_curves(summary["curves"]),
        tests=_tests(summary["tests"]),
        tests_question=TESTS.question,
        by_weight=_by_weight(summary["tests"]),
        omitted=_omitted(summary["left_out"]),
        failed={number: printable(reason) for number, reason in list(summary["failed"].items())[:20]},
        failures=len(summary["failed"]),
        rationale_size=summary["rationale_size"],
        command=printable(command),
    )


def _removal(removal: str, note: str) -> str:
    meaning = f"Removed ({removal}) means: {REMOVAL[removal]}." if removal in REMOVAL else ""
    return f"{meaning} {note}".strip()


def _group(group: MetricGroup, methods: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in group.metrics if any(name in found for found in methods.values())]
    tables = [{"title": "", "rows": _rows(methods, names, None), "difference": False}]
    for key, title in FURTHER.items():
        rows = [row for row in _rows(methods, names, key) if any(cell["mean"] for cell in row["cells"])]
        if rows:
            tables.append({"title": title, "rows": rows, "difference": key in DIFFERENCES})
    return {
        "title": group.title,
        "question": group.question,
        "columns": [
            {"name": name, "arrow": ARROWS[group.metrics[name].better], "better": group.metrics[name].better,
             "text": group.metrics[name].text}
            for name in names
        ],
        "tables": tables,
    }  # fmt: skip


def _rows(methods: Mapping[str, Any], names: Sequence[str], key: str | None) -> list[dict[str, Any]]:
    rows = []
    for method, found in methods.items():
        entries = [found.get(name) for name in names]
        if key is not None:
            entries = [entry and entry.get(key) for entry in entries]
        rows.append(
            {
                "method": method,
                "mark": MARKS.get(method, ""),
                "cells": [_cell(entry, key in DIFFERENCES) for entry in entries],
            }
        )
    return rows


def _cell(entry: Mapping[str, Any] | None, difference: bool = False) -> dict[str, str]:
    if entry is None or entry["mean"] is None:
        return {"mean": "", "interval": "", "n": "", "bold": ""}
    low, high = entry["ci95"] or (None, None)
    clear = difference and low is not None and high is not None and (low > 0 or high < 0)
    return {
        "mean": f"{entry['mean']:+.3f}" if difference else f"{entry['mean']:.3f}",
        "interval": "" if low is None else f"{low:.3f} to {high:.3f}",
        "n": f"{entry['n']:,}",
        "bold": "bold" if clear else "",
    }


def _tests(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "text": text.text, **_cell(tests[name])} for name, text in TESTS.metrics.items() if name in tests
    ]


def _by_weight(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"weights": weights, **_cell(entry)} for weights, entry in tests.get("permutation_by_weight", {}).items()]


def _omitted(left_out: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    return [
        {"kind": kind.removesuffix("s"), "name": name, "reason": reason}
        for kind, reasons in left_out.items()
        for name, reason in reasons.items()
    ]


def _curves(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the two figures: lines in the coordinates of an SVG."""
    lines = [line for name in CURVES for line in curves[name].values()]
    top = max([1e-6, *(value for line in lines for value in line)])
    figures = []
    for name, (title, verb) in CURVES.items():
        places = [
            [_point(share, value / top) for share, value in zip(curves["shares"], line, strict=True)]
            for line in curves[name].values()
        ]
        lines = [
            {"method": method, "mark": MARKS.get(method, ""), "number": number % 8, "points": " ".join(points)}
            for number, (method, points) in enumerate(zip(curves[name], places, strict=True))
        ]
        text = f"share of tokens {verb}, the largest attributions first"
        figures.append({"title": title, "lines": lines, "ticks": _ticks(top), "text": text})
    return [figure for figure in figures if figure["lines"]]


def _point(share: float, height: float) -> str:
    return f"{LEFT + share * (WIDTH - LEFT - RIGHT):.1f},{8 + (1 - height) * (HEIGHT - BOTTOM - 8):.1f}"


def _ticks(top: float) -> dict[str, list[tuple[str, str]]]:
    """Return the labels along both axes with their place."""
    across = [(f"{share:.0%}", _point(share, 0.0).split(",")[0]) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    up = [(f"{part * top:.2g}", _point(0.0, part).split(",")[1]) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return {"across": across, "up": up}

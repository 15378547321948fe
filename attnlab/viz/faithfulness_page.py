"""The HTML page of a faithfulness report: tables with intervals, mean curves, tests, and what is left out."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from attnlab.analysis.battery import FaithfulnessReport
from attnlab.analysis.battery.metric_table import GROUPS, OF_TASK, TESTS, MetricGroup
from attnlab.analysis.battery.report import WEIGHTS
from attnlab.analysis.battery.settings import CEILING, FLOOR, ROLES, displayed_order
from attnlab.analysis.battery.task_metrics import DIFFERENCE
from attnlab.data.text.display import printable
from attnlab.training import metric_names
from attnlab.viz.page import template

REMOVAL = {
    "pad": "its embedding is replaced by that of padding",
    "zeros": "its embedding is replaced by zeros",
    "mean": "its embedding is replaced by the mean embedding of its text",
    "drop": "it is cut out of the text, and the others close up",
    "mask": "it is masked in every attention to the input; what it contributes elsewhere remains",
}
DIFFERENCES = {
    "minus_random": "Difference from random attributions, on the same examples",
    "minus_raw_attention": "Difference from raw attention, on the same examples",
}
FURTHER = DIFFERENCES | {"correct": "Correct predictions only"}
"""Further means of each metric, with the titles of their tables."""
ARROWS = {"higher": "↑", "lower": "↓", "": ""}
CURVES = {"deletion_curve": ("Deletion", "removed"), "insertion_curve": ("Insertion", "kept")}
COLORS = 8
"""Colors of the lines; of more methods the lines are dashed, and the colors begin again."""
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
        "machine": _machine(environment.get("devices", [])),
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
        task_metrics=_task_metrics(summary["task_metrics"]),
        of_task=OF_TASK,
        weights=[text for key, text in WEIGHTS.items() if any(key in m for m in summary["task_metrics"].values())],
        notes=[printable(note) for note in summary["notes"]],
        tests=_tests(summary["tests"]),
        tests_question=TESTS.question,
        by_weight=_by_weight(summary["tests"]),
        omitted=_omitted(summary["left_out"]),
        failed={number: printable(reason) for number, reason in list(summary["failed"].items())[:20]},
        failures=len(summary["failed"]),
        rationale_size=summary["rationale_size"],
        command=printable(command),
    )


def _machine(devices: Sequence[str]) -> str:
    """Return the devices with their number.

    >>> _machine(["cpu: cpu", "cpu: cpu"]), _machine(["gpu: NVIDIA H100"])
    ('2 × cpu', 'gpu: NVIDIA H100')
    """
    numbers = Counter("cpu" if name == "cpu: cpu" else name for name in devices)
    return ", ".join(name if number == 1 else f"{number} × {name}" for name, number in numbers.items())


def _removal(removal: str, note: str) -> str:
    meaning = f"Removed ({removal}) means: {REMOVAL[removal]}." if removal in REMOVAL else ""
    return f"{meaning} {note}".strip()


def _group(group: MetricGroup, methods: Mapping[str, Any]) -> dict[str, Any]:
    names = [name for name in group.metrics if any(name in found for found in methods.values())]
    roles = {method: role for method, role in ROLES.items() if group.ceiling or method != CEILING}
    tables = [{"title": "", "rows": _rows(methods, names, None, roles), "difference": False}]
    for key, title in FURTHER.items():
        rows = [row for row in _rows(methods, names, key, roles) if any(cell["mean"] for cell in row["cells"])]
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


def _rows(
    methods: Mapping[str, Any], names: Sequence[str], key: str | None, roles: Mapping[str, str]
) -> list[dict[str, Any]]:
    rows = []
    for method in displayed_order(methods):
        entries = [methods[method].get(name) for name in names]
        if key is not None:
            entries = [entry and entry.get(key) for entry in entries]
        rows.append(
            {
                "method": method,
                "mark": roles.get(method, ""),
                "cells": [_cell(entry, key in DIFFERENCES) for entry in entries],
            }
        )
    return rows


def _cell(entry: Mapping[str, Any] | None, difference: bool = False, digits: int = 3) -> dict[str, str]:
    if entry is None or entry["mean"] is None:
        return {"mean": "", "interval": "", "n": "", "bold": ""}
    interval, bold = "", ""
    if entry["ci95"] is not None:
        low, high = entry["ci95"]
        interval = f"{_number(low, digits)} to {_number(high, digits)}"
        bold = "bold" if difference and (low > 0 or high < 0) else ""
    mean = _number(entry["mean"], digits, "+" if difference else "")
    return {"mean": mean, "interval": interval, "n": f"{entry['n']:,}", "bold": bold}


def _task_metrics(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    shown = [key for key in WEIGHTS if any(key in found for found in metrics.values())]
    return [
        {"name": metric_names.name(name), "cells": [_cell(found.get(key), key == DIFFERENCE, 2) for key in shown]}
        for name, found in metrics.items()
    ]


def _number(value: float, digits: int, sign: str = "") -> str:
    return f"{value:{sign}.{digits}f}".replace("-", "−")


def _tests(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "text": text.text, **_cell(tests[name])} for name, text in TESTS.metrics.items() if name in tests
    ]


def _by_weight(tests: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"weights": weights, **_cell(entry)} for weights, entry in tests.get("permutation_by_weight", {}).items()]


def _omitted(left_out: Mapping[str, Mapping[str, str]]) -> list[dict[str, str]]:
    return [
        {"kind": kind.removesuffix("s"), "name": name, "reason": reason.removeprefix(f"{name} ")}
        for kind, reasons in left_out.items()
        for name, reason in reasons.items()
    ]


def _curves(curves: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the two figures: lines in the coordinates of an SVG."""
    lines = [line for name in CURVES for line in curves[name].values()]
    top = max([1e-6, *(value for line in lines for value in line)])
    figures = []
    for name, (title, verb) in CURVES.items():
        places = {
            method: [_point(share, value / top) for share, value in zip(curves["shares"], line, strict=True)]
            for method, line in curves[name].items()
        }
        styles = _styles(displayed_order(places))
        lines = [
            {"method": method, "mark": ROLES.get(method, ""), "style": style, "points": " ".join(places[method])}
            for method, style in styles.items()
        ]
        text = f"share of tokens {verb}, the largest attributions first"
        figures.append({"title": title, "lines": lines, "ticks": _ticks(top), "text": text})
    return [figure for figure in figures if figure["lines"]]


def _styles(methods: Sequence[str]) -> dict[str, str]:
    """Return the classes of the line of each method; floor and ceiling, which are gray and black, take no color."""
    colored = [method for method in methods if method not in (FLOOR, CEILING)]
    styles = {method: f"line{n % COLORS}" + (" again" if n >= COLORS else "") for n, method in enumerate(colored)}
    return {method: styles.get(method, "") for method in methods}


def _point(share: float, height: float) -> str:
    return f"{LEFT + share * (WIDTH - LEFT - RIGHT):.1f},{8 + (1 - height) * (HEIGHT - BOTTOM - 8):.1f}"


def _ticks(top: float) -> dict[str, list[tuple[str, str]]]:
    """Return the labels along both axes with their place."""
    across = [(f"{share:.0%}", _point(share, 0.0).split(",")[0]) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    up = [(f"{part * top:.2g}", _point(0.0, part).split(",")[1]) for part in (0.0, 0.25, 0.5, 0.75, 1.0)]
    return {"across": across, "up": up}

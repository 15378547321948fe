"""The HTML page of a comparison: plot, scores, differences, cost, settings, and what the numbers account for."""

import base64
from pathlib import Path

from attnlab.data.text.display import printable
from attnlab.results.comparison import Comparison
from attnlab.results.comparison_text import differences_table, notes, scores_table
from attnlab.results.group_costs import costs_table, group_cost
from attnlab.viz.page import template


def render(comparison: Comparison, picture: Path, *, command: str = "") -> str:
    """Render a comparison as a self-contained HTML page, which needs no network and no script.

    Args:
        comparison: the comparison.
        picture: the plot, a PNG, which is included.
        command: the command that made it.
    """
    costs = [group_cost(group) for group in comparison.groups]
    paragraphs = list(notes(comparison, costs))
    settings = next(text for text in paragraphs if text.startswith("The configs "))
    heading, *places = settings.splitlines()
    named = zip(comparison.names, comparison.groups, strict=True)
    seeds = {name: ", ".join(str(run.seed) for run in group.runs) for name, group in named}
    tables = {
        "Differences": differences_table(comparison),
        "Scores": scores_table(comparison),
        "Cost": costs_table(comparison.names, costs),
    }
    return template("comparison.html").render(
        title=printable(f"Comparison: {', '.join(comparison.names)}"),
        input=[],
        unknown_words="",
        details={
            "task": comparison.groups[0].kind,
            **{printable(name): f"seeds {text}" for name, text in seeds.items()},
        },
        maps=[],
        left_out=0,
        caveat="Read these numbers with care",
        caveat_details="they are of these data, sizes and training budgets, and of the metrics named",
        image=f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}",
        tables={title: [[_plain(cell) for cell in row] for row in rows] for title, rows in tables.items()},
        text=("test set", "metric", "comparison", "group", "seeds"),
        paragraphs=[_plain(text) for text in paragraphs if text is not settings],
        settings_heading=heading,
        settings=[_plain(place.removeprefix("- ")) for place in places if place],
        command=printable(command),
    )


def _plain(text: str) -> str:
    """Return a text without the marks of Markdown."""
    return printable(text.replace("`", ""))

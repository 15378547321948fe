"""Comparison of groups of runs: a table, a plot, a page and the numbers as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from attnlab.training.atomic_files import write_whole

if TYPE_CHECKING:
    from attnlab.results.comparison import Comparison

NAME = "comparison"
"""Stem of the files."""


def compare(
    runs: Sequence[Path],
    against: Sequence[Path] = (),
    out: Path | None = None,
    *,
    unfinished: bool = False,
    allow_differences: bool = False,
    command: str = "",
    wrote: Callable[[Path], None] = lambda _: None,
) -> Comparison:
    """Compare groups of runs that differ in the seed, and write comparison.json, .md, .png and .html.

    Args:
        runs: runs, archives, directories of runs or patterns; they are grouped by config,
            except for two runs of the same config.
        against: the same, of the baselines; without any, all pairs of groups are compared.
        out: directory of the files; None writes none.
        unfinished: accept runs whose training is not complete.
        allow_differences: accept groups that differ in more than what is varied.
        command: the command line, for the page.
        wrote: called with every file.
    Raises:
        UserError: the runs cannot be compared; says why.
    """
    from attnlab.results import comparison, comparison_text
    from attnlab.results.groups import read_groups

    groups, baselines = read_groups(runs, unfinished, apart=not against), read_groups(against, unfinished)
    compared = comparison.compare(groups, baselines, allow_differences=allow_differences)
    if out is None:
        return compared
    from attnlab.viz import comparison_page
    from attnlab.viz.comparison import draw_comparison

    out.mkdir(parents=True, exist_ok=True)
    picture = out / f"{NAME}.png"
    draw_comparison(compared, picture)
    texts = {
        out / f"{NAME}.json": json.dumps(comparison_text.as_json(compared), indent=1, allow_nan=False) + "\n",
        out / f"{NAME}.md": comparison_text.render(compared),
        out / f"{NAME}.html": comparison_page.render(compared, picture, command=command),
    }
    for path, text in texts.items():
        write_whole(path, text)
    for path in (picture, *texts):
        wrote(path)
    return compared

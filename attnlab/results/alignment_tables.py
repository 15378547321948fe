"""Tables of `attnlab align`, in GitHub-flavored Markdown."""

from collections.abc import Mapping, Sequence
from typing import Any

from attnlab.results.record import RunRecord
from attnlab.results.run_files import ALIGNMENT
from attnlab.results.tables import NONE, line, with_interval

MARK = "alignment"
"""Name of the markers in a file between which the tables are."""
HEADS = ("alignment", "layer", "head", "AER", "precision", "recall", "AER minus that of the first row")


def render(runs: Sequence[RunRecord]) -> str:
    """Return a table for each run that was compared with gold alignment; other runs are left out."""
    blocks = [_table(run.name, found) for run in runs if (found := run.analysis(ALIGNMENT))]
    return "\n\n".join(blocks or [NONE]) + "\n"


def _table(name: str, found: Mapping[str, Any]) -> str:
    title = (
        f"`{name}`, {found['test_sentences']} sentences with gold alignment; layer and head are those with the lowest "
        f"AER on {found['dev_sentences']} others:\n"
    )
    groups = found.get("by_length", [])  # missing in older runs
    heads = [*HEADS, *("AER, " + "–".join(map(str, group["words"])) + " words" for group in groups)]
    rows = [
        line([*_cells(row), *(f"{group['aer'][i]:.1f}" for group in groups)]) for i, row in enumerate(found["test"])
    ]
    return "\n".join([title, line(heads), "|---|---|---|" + "---:|" * (len(heads) - 3), *rows])


def _cells(row: Mapping[str, Any]) -> list[str]:
    choice = row.get("choice")
    places = [("mean" if choice[key] is None else str(choice[key])) if choice else "" for key in ("layer", "head")]
    difference = "—"
    if "minus_first" in row:
        difference = with_interval(row["minus_first"], row["minus_first_ci95"], "+.1f")
    scores = [
        with_interval(row["aer"], row["aer_ci95"], ".1f"),
        f"{row['precision']:.1f}",
        f"{row['recall']:.1f}",
        difference,
    ]
    return [row["name"], *places, *scores]

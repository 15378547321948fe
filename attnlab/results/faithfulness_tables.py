"""Tables of `attnlab faithfulness` for many runs side by side, in GitHub-flavored Markdown."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlab.analysis.battery.metric_table import METRICS, TESTS
from attnlab.analysis.battery.settings import displayed_order
from attnlab.results.groups import RunGroup, group_by_config
from attnlab.results.record import RunRecord
from attnlab.results.run_files import FAITHFULNESS
from attnlab.results.tables import NONE, line, mean_cell

MARK = "faithfulness"
"""Name of the markers in a file between which the tables are."""
COMPARED = ("aopc_compr", "aopc_suff", "taucorr_loo", "auprc_plau")
"""Metrics with a table, whose columns are methods."""
TESTED = (
    "permutation_median_tvd", "uniform_tvd", "uniform_same_decision", "adversarial_jsd", "adversarial_found",
)  # fmt: skip
"""Tests of attention that are columns of the last table."""


@dataclass(frozen=True)
class Row:
    """Runs that differ in the seed only, with what was found on one split."""

    name: str
    split: str
    found: tuple[Mapping[str, Any], ...]
    """The entry of the split in faithfulness.json of each run."""

    def cell(self, *place: str) -> str:
        """Format a mean: with its interval for one run, as mean ± standard deviation of several, — if it is missing.

        Args:
            place: keys of the entry.
        """
        entries = [entry for entry in (_at(found, place) for found in self.found) if entry is not None]
        if len(entries) < len(self.found) or not entries:
            return "—"
        return mean_cell([entry["mean"] for entry in entries], entries[0]["ci95"], 2)

    @property
    def label(self) -> str:
        """Experiment, split and number of examples, as the first cells of a row."""
        counts = sorted({found["examples"] for found in self.found})
        seeds = f" × {len(self.found)} seeds" if len(self.found) > 1 else ""
        return f"{'–'.join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))} {self.split}{seeds}"


def render(runs: Sequence[RunRecord]) -> str:
    """Return a table for each of `COMPARED` with a column a method, and one of the tests of attention.

    Runs without results of the battery are left out.

    Raises:
        UserError: two runs are the same experiment with the same seed.
    """
    rows = list(_rows(runs))
    if not rows:
        return f"{NONE}\n"
    ordered = displayed_order({name for row in rows for found in row.found for name in found["methods"]})
    blocks = [_compared(metric, rows, ordered) for metric in COMPARED]
    return "\n\n".join([block for block in (*blocks, _tested(rows)) if block]) + "\n"


def _rows(runs: Sequence[RunRecord]) -> Iterator[Row]:
    for group in group_by_config({run.directory.resolve(): run for run in runs}.values()):
        found = [run.analysis(FAITHFULNESS) for run in group.runs]
        for split in dict.fromkeys(split for one in found for split in one):
            yield Row(_name(group), split, tuple(one[split] for one in found if split in one))


def _name(group: RunGroup) -> str:
    return f"`{group.name}`"


def _compared(metric: str, rows: Sequence[Row], methods: Sequence[str]) -> str:
    """Return the table of a metric; "" if no run has it."""
    cells = [[row.name, row.label, *(row.cell("methods", method, metric) for method in methods)] for row in rows]
    text = METRICS[metric]
    title = f"`{metric}`: {text.text}" + (f" ({text.better} is better)" if text.better else "")
    return _table(title, ["run", "examples", *(f"`{method}`" for method in methods)], cells)


def _tested(rows: Sequence[Row]) -> str:
    cells = [[row.name, row.label, *(row.cell("tests", test) for test in TESTED)] for row in rows]
    table = _table(
        "Other weights in the place of the model's own", ["run", "examples", *map("`{}`".format, TESTED)], cells
    )
    notes = "; ".join(f"`{name}`: {TESTS.metrics[name].text}" for name in TESTED)
    return table and f"{table}\n\n{notes}."


def _table(title: str, heads: Sequence[str], cells: Sequence[Sequence[str]]) -> str:
    """Return a table without rows and columns that hold nothing; "" if nothing is left."""
    kept = [row for row in cells if any(cell != "—" for cell in row[2:])]
    columns = [n for n in range(len(heads)) if n < 2 or any(row[n] != "—" for row in kept)]
    if not kept:
        return ""
    lines = [line([row[n] for n in columns]) for row in (heads, *kept)]
    return "\n".join([f"{title}\n", lines[0], "|---|---|" + "---:|" * (len(columns) - 2), *lines[1:]])


def _at(found: Any, place: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the mean at a place, or None if there is none."""
    for key in place:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) and found.get("mean") is not None else None

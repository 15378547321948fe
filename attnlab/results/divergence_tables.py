"""Tables of `attnlab divergence`, in GitHub-flavored Markdown."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.results.record import RunRecord
from attnlab.results.tables import NONE, line, with_interval

MARK = "divergence"
"""Name of the markers in a file between which the tables are."""
HEADS = ("runs compared with the base run", "seeds", "JSD of the weights", "TVD of the predictions", "accuracy")


def render(runs: Sequence[RunRecord]) -> str:
    """Return a table for each base run and split; runs that are no base run are left out."""
    blocks = [_table(run.name, Path(file).stem, run.analysis(file)) for run in runs for file in run.divergences()]
    return "\n\n".join(blocks or [NONE]) + "\n"


def _table(name: str, split: str, report: Mapping[str, Any]) -> str:
    title = f"`{name}`, {report['texts']:,} texts of {split}, accuracy of the base run {report['accuracy']:.1f}:\n"
    rows = [line(_cells(group)) for group in report["groups"]]
    return "\n".join([title, line(HEADS), "|---|---:|---:|---:|---:|", *rows])


def _cells(group: Mapping[str, Any]) -> list[str]:
    if "divergence" not in group:
        raise UserError(f"divergence of {group['label']}: is of an earlier version; attnlab divergence writes it anew")
    found = group["divergence"]
    distances = [with_interval(found[name], found[f"{name}_ci95"], ".3f") for name in ("weight_jsd", "prediction_tvd")]
    return [group["label"], str(len(group["runs"])), *distances, f"{found['accuracy']:.1f}"]

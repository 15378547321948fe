"""The report of the battery: a record with the means, for Python and notebooks."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlab.analysis.battery.metric_table import METRICS

SHOWN = (
    "aopc_compr", "aopc_suff", "deletion_auc", "insertion_auc", "decision_flip_fraction", "taucorr_loo", "mprt",
    "auprc_plau", "token_f1_plau", "pointing_game",
)  # fmt: skip
"""The metrics in the table of a notebook."""
PRINTED = ("aopc_compr", "aopc_suff", "taucorr_loo", "auprc_plau")
"""The metrics that a command prints."""


@dataclass(frozen=True, eq=False)
class FaithfulnessReport:
    """Means of all metrics of all methods, with intervals.

    Attributes:
        summary: as `faithfulness.json` holds it: `methods`, `curves`, `tests`, `left_out`, `settings`, and more.
        records: the results of each example.
    """

    summary: Mapping[str, Any]
    records: Sequence[Mapping[str, Any]]

    @property
    def methods(self) -> list[str]:
        """The methods in the report."""
        return list(self.summary["methods"])

    def mean(self, method: str, metric: str) -> float | None:
        """Return the mean of a metric; None if it is defined for no example."""
        entry = self.summary["methods"][method].get(metric)
        if metric not in METRICS:
            raise KeyError(f"{metric!r}; the metrics are {', '.join(METRICS)}")
        return None if entry is None else entry["mean"]

    def table(self) -> str:
        """Return the main metrics of all methods as lines of text, with 95% intervals."""
        shown = [name for name in PRINTED if any(name in found for found in self.summary["methods"].values())]
        rows = [["method", *shown]]
        rows += [
            [method, *(cell(found.get(name)) for name in shown)] for method, found in self.summary["methods"].items()
        ]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

    def __repr__(self) -> str:
        return f"<FaithfulnessReport of {self.summary['examples']} examples by {', '.join(self.methods)}>"

    def _repr_html_(self) -> str:
        shown = [name for name in SHOWN if any(name in found for found in self.summary["methods"].values())]
        rows = [
            f"<tr><th>{html.escape(method)}</th>{''.join(f'<td>{cell(found.get(name))}</td>' for name in shown)}</tr>"
            for method, found in self.summary["methods"].items()
        ]
        heads = "".join(f"<th>{name}</th>" for name in shown)
        return f"<table><tr><th>method</th>{heads}</tr>{''.join(rows)}</table>"


def cell(entry: Mapping[str, Any] | None) -> str:
    """Return a mean with its interval as text.

    >>> cell({"mean": 0.5, "ci95": [0.25, 0.75], "n": 40}), cell(None)
    ('0.500 [0.250, 0.750]', '—')
    """
    if entry is None or entry["mean"] is None:
        return "—"
    interval = "" if entry["ci95"] is None else " [{:.3f}, {:.3f}]".format(*entry["ci95"])
    return f"{entry['mean']:.3f}{interval}"

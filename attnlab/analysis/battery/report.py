"""The report of the battery: a record with the means, for Python and notebooks."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from attnlab.analysis.battery.metric_table import METRICS
from attnlab.analysis.battery.settings import CEILING, FLOOR, displayed_order
from attnlab.analysis.battery.task_metrics import DIFFERENCE, LEARNED, UNIFORM
from attnlab.training import metric_names

SHOWN = (
    "aopc_compr", "aopc_suff", "deletion_auc", "insertion_auc", "decision_flip_fraction", "taucorr_loo", "mprt",
    "auprc_plau", "token_f1_plau", "pointing_game",
)  # fmt: skip
"""The metrics in the table of a notebook."""
PRINTED = (
    ("aopc_compr", "aopc_suff", "taucorr_loo"),
    ("auprc_plau", "token_f1_plau", "token_iou_plau", "pointing_game"),
)
"""The metrics that a command prints, in two tables: faithfulness and plausibility."""
WEIGHTS = {LEARNED: "learned attention", UNIFORM: "uniform attention", DIFFERENCE: "uniform minus learned"}


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
        """Return the main metrics of all methods, and those of the task, as lines of text with 95% intervals."""
        tables = [self._method_table(names, ceiling=names is PRINTED[0]) for names in PRINTED]
        if metrics := self.summary["task_metrics"]:
            columns = [weights for weights in WEIGHTS if any(weights in found for found in metrics.values())]
            rows = [
                [metric_names.name(name), *(cell(found.get(key), 2) for key in columns)]
                for name, found in metrics.items()
            ]
            tables.append(_aligned([["metric", *(WEIGHTS[key] for key in columns)], *rows]))
        return "\n\n".join([table for table in tables if table] + ["\n".join(self.summary["notes"])]).rstrip()

    def _method_table(self, names: Sequence[str], *, ceiling: bool) -> str:
        """Return some metrics of all methods; "" if no example has them."""
        methods = self.summary["methods"]
        shown = [name for name in names if any(name in found for found in methods.values())]
        roles = {FLOOR: " (floor)"} | ({CEILING: " (ceiling)"} if ceiling else {})
        rows = [
            [f"{method}{roles.get(method, '')}", *(cell(methods[method].get(name)) for name in shown)]
            for method in displayed_order(methods)
        ]
        return _aligned([["method", *shown], *rows]) if shown else ""

    def __repr__(self) -> str:
        return f"<FaithfulnessReport of {self.summary['examples']} examples by {', '.join(self.methods)}>"

    def _repr_html_(self) -> str:
        shown = [name for name in SHOWN if any(name in found for found in self.summary["methods"].values())]
        rows = [
            f"<tr><th>{html.escape(method)}</th>{''.join(f'<td>{cell(found.get(name))}</td>' for name in shown)}</tr>"
            for method, found in ((name, self.summary["methods"][name]) for name in displayed_order(self.methods))
        ]
        heads = "".join(f"<th>{name}</th>" for name in shown)
        return f"<table><tr><th>method</th>{heads}</tr>{''.join(rows)}</table>"


def cell(entry: Mapping[str, Any] | None, digits: int = 3) -> str:
    """Return a mean with its interval as text.

    >>> cell({"mean": 0.5, "ci95": [0.25, 0.75], "n": 40}), cell(None)
    ('0.500 [0.250, 0.750]', '—')
    """
    if entry is None or entry["mean"] is None:
        return "—"
    interval = "" if entry["ci95"] is None else f" [{', '.join(f'{end:.{digits}f}' for end in entry['ci95'])}]"
    return f"{entry['mean']:.{digits}f}{interval}"


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)

"""`attnlab divergence`."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attnlab.cli.arguments import add_command, add_data, add_trust, data_dir_of
from attnlab.cli.host import prepare_host
from attnlab.system.interrupt import interruptible_import
from attnlab.training.signals import exit_on_signal

if TYPE_CHECKING:
    from attnlab.results.divergence import Divergence, DivergenceReport


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    purpose = "compare the attention of classifiers with that of a base run: other seeds, adversaries, other models"
    divergence = add_command(commands, "divergence", _divergence, purpose)
    divergence.add_argument("base", type=Path, metavar="BASE", help="run directory of the base model")
    divergence.add_argument(
        "runs", nargs="+", type=Path, metavar="RUN",
        help="run directory, directory of runs, or pattern such as 'runs/sst2_additive-s*'; BASE is left out",
    )  # fmt: skip
    add_trust(divergence)
    add_data(divergence)
    divergence.add_argument("--split", metavar="NAME", help="a test set, or dev (default: the first test set)")


def _divergence(options: argparse.Namespace) -> int:
    data_dir = data_dir_of(options)
    prepare_host()
    written: list[Path] = []
    with exit_on_signal("stopped; nothing was written; the same command starts over"):
        with interruptible_import():
            from attnlab.lab.divergence import compare_attention

        report = compare_attention(
            options.base, options.runs, data_dir, options.split, written.append, trust=options.trust
        )
    print("\n".join(_lines(report)))
    for path in written:
        print(f"written: {path}")
    return 0


def _lines(report: "DivergenceReport") -> Iterator[str]:
    """Yield the lines of the table: a group of runs that differ only in the seed, then its runs."""
    yield f"{report.split}: {report.texts:,} texts; base {report.base} (accuracy {report.accuracy:.2f})"
    rows = [["", "accuracy", "JSD of weights", "95% interval", "TVD of predictions", "95% interval"]]
    for group in report.groups:
        rows.append(_row(_name(group.label, len(group.runs)), group.divergence))
        rows += [_row(f"  {Path(run.run).name}", run.divergence) for run in group.runs if len(group.runs) > 1]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            f"{row[0]:<{widths[0]}}",
            *(f"{cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True)),
        ]
        yield f"  {'  '.join(cells)}".rstrip()
    for curve in report.curves:
        yield (
            f"area under the TVD over JSD of the adversaries {curve.label}: {curve.area:.5f}, "
            f"up to a JSD of {curve.weight_jsd[-1]:.4f}"
        )


def _name(label: str, runs: int) -> str:
    return f"{label}, mean of {runs} runs" if runs > 1 else label


def _row(name: str, record: "Divergence") -> list[str]:
    jsd, tvd = (f"{getattr(record, field):.4f}" for field in ("weight_jsd", "prediction_tvd"))
    return [
        name, f"{record.accuracy:.2f}", jsd, _interval(record.weight_jsd_ci95), tvd,
        _interval(record.prediction_tvd_ci95),
    ]  # fmt: skip


def _interval(bounds: Sequence[float] | None) -> str:
    return "—" if bounds is None else f"{bounds[0]:.4f} to {bounds[1]:.4f}"

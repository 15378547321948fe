"""`attnlab bench attention`: measure, print one table per case, and write numbers, tables and plots."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from attnlab.bench import attention, cost_plot, results, tables
from attnlab.bench.cases import Plan
from attnlab.config.errors import UserError

WIDTH = 160
"""Columns of a table that is written to a file or a pipe."""


def bench(plan: Plan, out: Path | None = None) -> Path:
    """Measure all cases of a plan.

    Args:
        plan: cases, peers and rounds to measure.
        out: output directory; None for `runs/bench-attention-TIME`.

    Returns: the directory with results.json (all times), tables.md, and plots of time and memory against length.
    """
    directory = out or Path("runs") / time.strftime("bench-attention-%Y%m%d-%H%M%S")
    _make_empty(directory)
    begin = time.strftime("%Y-%m-%d %H:%M:%S %z")
    environment = attention.machine(plan.dtype or "float32")
    backend, devices = environment["backend"], environment["device_count"]
    environment |= {"command": sys.argv, "begun": begin, "rounds": plan.rounds}
    console = _console()
    report = attention.benchmark(
        plan.cases(backend),
        plan.select_peers(devices, backend),
        plan.rounds,
        environment,
        plan.against,
        directory,
        log=lambda line: print(f"attnlab: {line}", file=sys.stderr, flush=True),
        on_result=lambda result: console.print(tables.table(result), ""),
    )
    _write(report, directory, console)
    return directory


def report(directory: Path) -> None:
    """Print the tables of an earlier benchmark, and write its tables and plots again."""
    earlier, console = results.read(directory), _console()
    for result in earlier.results:
        console.print(tables.table(result), "")
    _write(earlier, directory, console)


def _write(report: results.Report, directory: Path, console: Console) -> None:
    (directory / "tables.md").write_text(tables.markdown(report), encoding="utf-8")
    written = ["results.json", "tables.md", *cost_plot.draw(report.results, directory)]
    console.print(tables.HOW.format(rounds=report.environment.get("rounds", "the")), style="dim")
    _print_line(f"written to {directory}: {', '.join(written)}", console)


def _print_line(line: str, console: Console) -> None:
    console.print(line, soft_wrap=True, markup=False, highlight=False)


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=WIDTH)


def _make_empty(directory: Path) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        contents: Sequence[Path] = list(directory.iterdir())
    except OSError as error:
        raise UserError(f"--out {directory}: cannot be written: {error.strerror}") from error
    if contents:
        raise UserError(f"--out {directory}: is not empty; --report {directory} prints the results of an earlier run")

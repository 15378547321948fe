"""`attnlab results`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command
from attnlab.system.interrupt import interruptible_import

RUN_HELP = "run directory, archived run, directory of runs, or pattern such as 'runs/dates-s*'"


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    results = add_command(commands, "results", _results, "print a Markdown table of the results of runs")
    results.add_argument("runs", nargs="+", type=Path, metavar="RUN", help=RUN_HELP)
    results.add_argument(
        "--into",
        type=Path,
        metavar="FILE",
        help="write each table whose markers are in FILE between them: results, faithfulness, alignment, divergence",
    )
    results.add_argument("--save", type=Path, metavar="DIR", help="archive the numbers of every run in DIR/NAME")
    results.add_argument("--unfinished", action="store_true", help="accept runs whose training is not complete")


def _results(options: argparse.Namespace) -> int:
    with interruptible_import():
        from attnlab.results import (
            alignment_tables,
            archive,
            divergence_tables,
            faithfulness_tables,
            groups,
            marked_text,
            record,
            tables,
        )

    paths = [run for path in options.runs for run in groups.find_runs(path)]
    records = [record.read(path, options.unfinished) for path in paths]
    if options.into is None:
        print(tables.render(records), end="")
    else:
        kinds = {kind.MARK: kind.render for kind in (tables, faithfulness_tables, alignment_tables, divergence_tables)}
        for mark in marked_text.present(options.into, kinds) or [tables.MARK]:
            marked_text.insert(kinds[mark](records), options.into, mark)
        print(f"written: {options.into}", file=sys.stderr)
    for run in records if options.save else ():
        print(f"archived: {archive.archive(run, options.save)}", file=sys.stderr)
    return 0

"""`attnlab compare`."""

import argparse
import shlex
import sys
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command
from attnlab.cli.results import RUN_HELP
from attnlab.system.interrupt import interruptible_import

FLAGS = ("unfinished", "allow-differences")


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "compare groups of runs that differ in the seed: means, differences, intervals over seeds and examples"
    parser = add_command(commands, "compare", _compare, purpose)
    parser.needs = (
        "compare needs two runs or groups: attnlab compare RUN RUN, or attnlab compare RUN... --against RUN..."
    )
    parser.add_argument(
        "runs",
        nargs="+",
        type=Path,
        metavar="RUN",
        help=f"{RUN_HELP}; runs are grouped by config, and all pairs of groups are compared, first minus second",
    )
    text = "compare the groups only with these baselines"
    parser.add_argument("--against", nargs="+", type=Path, default=[], metavar="RUN", help=text)
    text = "write comparison.json, .md, .png and .html (a self-contained page) to DIR"
    parser.add_argument("--out", type=Path, metavar="DIR", help=text)
    text = "accept groups that differ in more than what is varied: one setting, or the overrides that both have"
    parser.add_argument("--allow-differences", action="store_true", help=text)
    parser.add_argument("--unfinished", action="store_true", help="accept runs whose training is not complete")


def _compare(options: argparse.Namespace) -> int:
    if not options.against and len(options.runs) == 1 and not _may_hold_runs(options.runs[0]):
        options.parser.error(options.parser.needs)
    with interruptible_import():
        from attnlab import lab
        from attnlab.results import comparison_text

    written: list[Path] = []
    found = lab.compare(
        options.runs, options.against, options.out, unfinished=options.unfinished,
        allow_differences=options.allow_differences, command=_command(options), wrote=written.append,
    )  # fmt: skip
    print(comparison_text.render(found), end="")
    for path in written:
        print(f"written: {path}", file=sys.stderr)
    return 0


def _may_hold_runs(path: Path) -> bool:
    """Return whether a path is a pattern, or a directory that is no run."""
    return any(letter in str(path) for letter in "*?[") or (path.is_dir() and not (path / "config.yaml").is_file())


def _command(options: argparse.Namespace) -> str:
    words = ["attnlab", "compare", *map(str, options.runs)]
    words += ["--against", *map(str, options.against)] if options.against else []
    words += [f"--{name}" for name in FLAGS if getattr(options, name.replace("-", "_"))]
    return shlex.join([*words, *(["--out", str(options.out)] if options.out else [])])

"""The argument parser of all commands."""

import argparse
import re
from collections.abc import Sequence
from itertools import takewhile

from attnlab import __version__
from attnlab.cli import (
    alignment,
    bench,
    claims,
    compare,
    cost,
    data,
    divergence,
    explain,
    faithfulness,
    results,
    runs,
    sweep,
)
from attnlab.cli.arguments import Parser, print_help


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the command line; raise `UserError` for invalid arguments."""
    parser = _parser()
    if dashed := next(filter(_is_short_option, takewhile(lambda text: text != "--", arguments)), None):
        parser.error(f"unknown argument {dashed}; put a text that starts with '-' after '--': -- {dashed}")
    options, rest = parser.parse_known_args(arguments)
    several = next((name for name in ("overrides", "inputs") if hasattr(options, name)), None)
    unknown = [text for text in rest if text.startswith("-") or several is None]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}")
    if rest and several:  # behind an option: argparse has taken the list for complete
        setattr(options, several, [*getattr(options, several), *rest])
    return options


def _is_short_option(text: str) -> bool:
    """Return whether a word such as -good is neither a valid option (-h, --NAME) nor a negative number."""
    return re.fullmatch(r"-[^-\s\d.]\S*", text) is not None and text != "-h"


def _parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="attnlab", description="Train models with attention, evaluate them and inspect their attention maps."
    )
    parser.add_argument("--version", action="version", version=f"attnlab {__version__}")
    parser.set_defaults(command=print_help(parser))
    commands = parser.add_subparsers(metavar="COMMAND")
    for group in (
        runs,
        sweep,
        claims,
        explain,
        faithfulness,
        alignment,
        divergence,
        results,
        compare,
        cost,
        data,
        bench,
    ):
        group.add_commands(commands)
    return parser

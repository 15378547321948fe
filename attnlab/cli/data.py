"""`attnlab list` and `attnlab data`."""

import argparse
from typing import Any

from attnlab.cli.arguments import (
    add_command,
    add_config,
    data_dir_of,
    default_directory,
    experiment_of,
    print_help,
)
from attnlab.cli.host import prepare_host
from attnlab.config import catalog
from attnlab.system.interrupt import interruptible_import


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    listing = add_command(commands, "list", _list, "list the experiments and the choices of every setting")
    listing.add_argument("topics", nargs="*", metavar="TOPIC", help="a folder of experiments, settings, or all")

    data = commands.add_parser("data", help="inspect data", allow_abbrev=False)
    data.set_defaults(command=print_help(data))
    check = add_command(data.add_subparsers(metavar="COMMAND"), "check", _check, "print counts, lengths and problems")
    add_config(check)


def _list(options: argparse.Namespace) -> int:
    for line in catalog.listed(options.topics):
        print(line)
    return 0


def _check(options: argparse.Namespace) -> int:
    experiment = experiment_of(options)
    prepare_host(default_directory(options.config, experiment))  # batches depend on the number of devices
    with interruptible_import():
        from attnlab.tasks.registry import task_class

    print(task_class(experiment).check(experiment, data_dir_of(options)))
    return 0

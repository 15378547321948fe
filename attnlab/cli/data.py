"""`attnlab list` and `attnlab data`."""

import argparse
import json
from pathlib import Path
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
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.system.interrupt import interruptible_import


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    listing = add_command(commands, "list", _list, "list experiments, settings and their valid values")
    listing.add_argument("topics", nargs="*", metavar="TOPIC", help="a folder of experiments, 'settings', or 'all'")

    data = commands.add_parser("data", help="check or export data", allow_abbrev=False)
    data.set_defaults(command=print_help(data))
    data_commands = data.add_subparsers(metavar="COMMAND")
    add_config(add_command(data_commands, "check", _check, "check the data of an experiment and print statistics"))
    export = add_command(data_commands, "export", _export, "write generated data to files that attnlab can read")
    export.add_argument("config", type=Path, metavar="EXPERIMENT", help="YAML file of an experiment")
    export.add_argument("directory", type=Path, metavar="DIR", help="new directory for the files")
    export.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting, e.g. task.data.seed=1")
    export.add_argument("--examples", type=int, metavar="N", help="at most N examples of each split (default: all)")


def _list(options: argparse.Namespace) -> int:
    for line in catalog.describe(options.topics):
        print(line)
    return 0


def _check(options: argparse.Namespace) -> int:
    experiment = experiment_of(options)
    prepare_host(default_directory(options.config, experiment))  # batches depend on the number of devices
    with interruptible_import():
        from attnlab.tasks.registry import task_class

    print(task_class(experiment).check(experiment, data_dir_of(options)))
    return 0


def _export(options: argparse.Namespace) -> int:
    if options.examples is not None and options.examples < 1:
        raise UserError(f"--examples {options.examples}: must be at least 1")
    config = load(catalog.find_config(options.config), options.overrides)
    with interruptible_import():
        from attnlab.data.export import export

    written = export(config.task.data, options.directory, options.examples)
    data = {"kind": written.kind, **written.model_dump(mode="json", exclude_unset=True)}
    print(f"written: {options.directory}; to train on these files:")
    print(f"attnlab train {options.config} --data {options.directory} 'task.data={json.dumps(data)}'")
    return 0

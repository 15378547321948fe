"""`attnlab cost`."""

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_config, add_trust, data_dir_of, trusted_experiment
from attnlab.cli.host import prepare_host
from attnlab.config import catalog
from attnlab.config.code import announced, code_of
from attnlab.system.stages import stage
from attnlab.training.signals import exit_on_signal

STEPS = 5


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "parameters, FLOPs, compiled peak memory and seconds of a training step, before training"
    parser = add_command(commands, "cost", _cost, purpose)
    add_config(parser)
    add_trust(parser)
    text = f"steps to time for every shape of batch (default: {STEPS})"
    parser.add_argument("--steps", type=int, default=STEPS, metavar="N", help=text)
    parser.add_argument("--json", action="store_true", help="print all numbers as JSON instead of a table")


def _cost(options: argparse.Namespace) -> int:
    experiment = trusted_experiment(options)
    data_dir, run = data_dir_of(options), _run_of(options)
    if code := code_of(experiment):
        print(f"attnlab: {announced(code)}", file=sys.stderr)
    prepare_host(run)
    with exit_on_signal("stopped; nothing was written"):
        with stage("import"):
            from attnlab import lab
            from attnlab.results.step_cost import write_cost

        found = lab.cost(experiment, data_dir, options.steps)
    print(json.dumps(found.as_json()) if options.json else found.table(experiment.name))
    if run is not None:
        print(f"written: {write_cost(run, found)}", file=sys.stderr)
    return 0


def _run_of(options: argparse.Namespace) -> Path | None:
    """Return the run whose own config is meant, unchanged; None for any other config."""
    path = catalog.find_config(options.config)
    changed = options.overrides or options.tiny or options.seed is not None
    own = path.name == "config.yaml" and (path.parent / "environment.json").is_file()
    return path.parent if own and not changed else None

"""`attnlab sweep`."""

import argparse
import math
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_data, add_trust, data_dir_of
from attnlab.config import catalog
from attnlab.config.axes import parse_setting
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.match import Match
from attnlab.config.study import Study, parse_seeds, read_study
from attnlab.sweep.devices import devices_of
from attnlab.sweep.plan import Plan, check_directory, make_plan
from attnlab.system.interrupt import interruptible_import
from attnlab.training.signals import Interrupted, graceful_shutdown


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "train and evaluate all settings of an experiment, each with several seeds; the same command goes on"
    parser = add_command(commands, "sweep", _sweep, purpose)
    add = parser.add_argument
    add("config", type=Path, metavar="CONFIG", help="YAML file of an experiment, or of a study")
    add("overrides", nargs="*", metavar="key=a,b", help="a setting with its values, or key=value for all runs")
    add("--seeds", metavar="SEEDS", help="seeds of every setting, e.g. 1-5 or 1,3,7 (default: those of CONFIG)")
    add("--jobs", type=int, metavar="N", help="runs at a time (default: one for each core and device)")
    add("--devices", type=int, metavar="N", help="host devices of every run, fixed when the sweep begins (default: 1)")
    add("--out", type=Path, metavar="DIR", help="directory of the runs (default: runs/NAME-AXES)")
    add("--tiny", action="store_true", help="quick check: shrink model, steps and generated data")
    add(
        "--launcher",
        choices=("local", "slurm", "ray"),
        default="local",
        help="what carries out the runs (default: local, processes)",
    )
    add("--option", action="append", default=[], metavar="key=value", help="option of slurm or ray (repeatable)")
    add("--match", choices=("parameters", "flops"), help="give all settings equal parameters or FLOPs by --match-field")
    add("--match-field", metavar="KEY", help="width that --match adjusts, e.g. model.decoder.hidden")
    add("--match-to", metavar="SETTING", help="setting whose width is kept (default: the first)")
    add("--match-tolerance", type=float, metavar="SHARE", help="largest deviation (default: 0.02)")
    add("--dry-run", action="store_true", help="print the commands of the runs, and the script for Slurm")
    add_data(parser)
    add_trust(parser)


def _sweep(options: argparse.Namespace) -> int:
    for name in ("jobs", "devices"):
        if (value := getattr(options, name)) is not None and value < 1:
            raise UserError(f"--{name} {value}: must be at least 1")
    data_dir = data_dir_of(options)
    plan, minutes, lines = _plan(options, data_dir)
    devices = devices_of(plan.directory, options.devices)
    with interruptible_import():
        from attnlab.sweep.sweep import Engine, describe, sweep

    print("".join(f"# {line}\n" if options.dry_run else f"{line}\n" for line in lines), end="", flush=True)
    engine = Engine(options.launcher, options.jobs, devices, tuple(options.option), data_dir, options.trust)
    if options.dry_run:
        print("\n".join(describe(plan, engine)))
        return 0
    with graceful_shutdown() as stop:
        try:
            complete = sweep(plan, engine, minutes, stop.poll)
        except Interrupted as interrupted:
            with suppress(OSError):  # the terminal may be closed; the exit code is still returned
                again = shlex.join(["attnlab", *sys.argv[1:]])
                print(f"stopped; the state of every run was saved. To go on: {again}", file=sys.stderr, flush=True)
            return 128 + interrupted.signal_number
    if complete:
        print(f"next: attnlab {'compare' if len(plan.settings) > 1 else 'results'} {plan.directory}")
    return 0 if complete else 1


def _plan(options: argparse.Namespace, data_dir: Path | None) -> tuple[Plan, float | None, list[str]]:
    """Return the plan that the options describe, the minutes of its budget, and lines about adjusted widths."""
    study = read_study(catalog.find_config(options.config))
    if study is None:
        base, fixed, seeds, directory, minutes = options.config, [], (), None, None
    else:
        base, fixed, seeds = Path(study.base), study.settings(options.tiny), study.seeds
        directory, minutes = Path("runs") / study.run_name(options.tiny), study.budget.minutes
    if options.seeds is not None:
        try:
            seeds = parse_seeds(options.seeds)
        except ValueError as error:
            raise UserError(f"--seeds: {error}") from None

    def is_value(text: str) -> bool:
        with suppress(UserError):
            load(catalog.find_config(base), [text])
            return True
        return False

    given = [*fixed, *(parse_setting(text, is_value) for text in options.overrides)]
    plan, lines = make_plan(base, given, seeds, options.out or directory, options.tiny), []
    if match := _match(options, study):
        with interruptible_import():
            from attnlab.sweep.match import describe_match, match_settings

        plan, found = match_settings(plan, match, data_dir)
        lines = describe_match(match, found)
    check_directory(plan)
    return plan, minutes, lines


def _match(options: argparse.Namespace, study: Study | None) -> Match | None:
    """Return the match of the options, or else that of the study."""
    names = {"by": "match", "field": "match_field", "to": "match_to", "tolerance": "match_tolerance"}
    given = {key: value for key, name in names.items() if (value := getattr(options, name)) is not None}
    if not given:
        return study.match if study else None
    if not {"by", "field"} <= given.keys():
        raise UserError("--match and --match-field belong together, as in --match parameters --match-field KEY")
    if not 0.0 < (tolerance := given.get("tolerance", 1.0)) < math.inf:
        raise UserError(f"--match-tolerance {tolerance}: must be a finite number above 0")
    return Match(**given)

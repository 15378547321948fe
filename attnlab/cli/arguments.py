"""Arguments that several commands share, and functions that resolve them. Imports no jax."""

import argparse
import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from attnlab.config import Experiment, catalog, run_paths
from attnlab.config.code import CODE, TRUST, code_of, recorded_code, refuse_other_code
from attnlab.config.custom import custom_parts
from attnlab.config.custom_source import functions_with_source
from attnlab.config.errors import UserError
from attnlab.config.load import load


class Parser(argparse.ArgumentParser):
    """A parser that raises `UserError` for invalid arguments."""

    needs = ""
    """Message for missing arguments; empty to list their names."""

    def error(self, message: str) -> NoReturn:
        """Raise `UserError` with a message that refers to the help of the command."""
        if self.needs and "are required" in message:
            message = self.needs
        raise UserError(f"{message} (see {self.prog} --help)")


def print_help(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """Return a command that prints the help of a group of commands."""

    def command(_: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    return command


def add_command(commands: Any, name: str, function: Any, purpose: str) -> Parser:
    """Add a command and return its parser."""
    parser = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
    parser.set_defaults(command=function, parser=parser)
    return parser


def add_config(parser: argparse.ArgumentParser) -> None:
    """Add CONFIG, overrides, --seed, --tiny and --data."""
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of an experiment, or RUN/config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="override a setting, e.g. model.dropout=0.2")
    parser.add_argument("--seed", type=int, metavar="N", help="seed of the experiment")
    parser.add_argument("--tiny", action="store_true", help="quick check: shrink model, steps and generated data")
    add_data(parser)


def add_run(parser: argparse.ArgumentParser) -> None:
    """Add RUN and --trust."""
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory, written by `attnlab train`")
    add_trust(parser)


def add_trust(parser: argparse.ArgumentParser) -> None:
    """Add --trust."""
    text = "execute the code of custom parts even if it differs from the code recorded at training"
    parser.add_argument("--trust", action="store_true", help=text)


def add_data(parser: argparse.ArgumentParser) -> None:
    """Add --data."""
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of the datasets (default: $ATTNLAB_DATA)")


def experiment_of(options: argparse.Namespace) -> Experiment:
    """Load the config that the options name."""
    return load(catalog.find_config(options.config), options.overrides, seed=options.seed, tiny=options.tiny)


def trusted_experiment(options: argparse.Namespace) -> Experiment:
    """Load the config; raise if it contains code, as a run's config does, that was not recorded at training."""
    experiment = experiment_of(options)
    if not options.trust and (
        functions := functions_with_source(catalog.find_config(options.config), options.overrides)
    ):
        files = {f"{CODE}{part.file}" for part in custom_parts(experiment) if part.function in functions}
        code = {name: sha for name, sha in code_of(experiment).items() if name in files}
        refuse_other_code(options.config, code, recorded_code(options.config.parent), TRUST)
    return experiment


def experiment_of_run(options: argparse.Namespace) -> Experiment:
    """Load the config of a run directory; an invalid directory raises before jax is imported."""
    if not (options.run / "config.yaml").is_file():
        raise run_paths.missing_run(options.run)
    return load(options.run / "config.yaml")


def data_dir_of(options: argparse.Namespace) -> Path | None:
    """Return the directory of the datasets: --data, otherwise $ATTNLAB_DATA, otherwise None."""
    directory = options.data or (Path(os.environ["ATTNLAB_DATA"]) if os.environ.get("ATTNLAB_DATA") else None)
    if options.data and not options.data.is_dir():
        raise UserError(f"--data {options.data}: no such directory")
    return directory


def default_directory(config: Path, experiment: Experiment) -> Path:
    """Return the run directory of a run's own config.yaml, otherwise runs/NAME-sSEED."""
    if config.name == "config.yaml" and (config.parent / "environment.json").exists():
        return config.parent
    return Path("runs") / f"{experiment.name}-s{experiment.seed}"


def overrides_of(options: argparse.Namespace) -> list[str]:
    """Return all overrides of a config; for a run's own config.yaml, the recorded overrides come first."""
    recorded: list[str] = []
    if options.config.name == "config.yaml":
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            environment = json.loads((options.config.parent / "environment.json").read_text(encoding="utf-8"))
            recorded = [str(text) for text in environment["overrides"]]
    return [*recorded, *options.overrides]


def methods_of(text: str | None) -> tuple[str, ...]:
    """Return the names of methods between commas; empty for the default.

    Raises:
        UserError: there is no name, or an empty one, or `all` has company.
    """
    if text is None:
        return ()
    names = tuple(name.strip() for name in text.split(","))
    if not all(names):
        raise UserError(f"--methods {text!r}: expected names with commas between them, or all")
    if "all" in names and len(names) > 1:
        raise UserError(f"--methods {text}: all stands alone")
    return names

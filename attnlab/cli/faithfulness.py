"""`attnlab faithfulness`."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_data, add_run, data_dir_of, experiment_of_run, methods_of
from attnlab.cli.host import prepare_host
from attnlab.config.analysis import FAITHFULNESS_EXAMPLES as EXAMPLES
from attnlab.config.analysis import check_seed
from attnlab.system.stages import stage
from attnlab.training.signals import exit_on_signal

SPLITS = "a test set, dev, or for classification yelp_hat: reviews with human marks (default: the first test set)"
REMOVALS = (
    "pad, zeros or mean replace the embeddings of removed tokens, mask removes them in the attention, "
    "drop cuts them out of the text"
)


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "measure how faithful and plausible attributions are; write faithfulness.json and a page"
    parser = add_command(commands, "faithfulness", _faithfulness, purpose)
    add_run(parser)
    add_data(parser)
    parser.add_argument("--split", metavar="NAME", help=SPLITS)
    parser.add_argument(
        "--examples", type=int, default=EXAMPLES, metavar="N", help=f"examples, drawn at random (default: {EXAMPLES})"
    )
    parser.add_argument(
        "--methods", metavar="A,B", help="methods of attribution, or all (default: those that are fast)"
    )
    parser.add_argument("--removal", default="pad", metavar="KIND", help=f"{REMOVALS} (default: pad)")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all that is random (default: 0)")
    parser.add_argument("--restart", action="store_true", help="compute again what is already done")


def _faithfulness(options: argparse.Namespace) -> int:
    experiment_of_run(options)
    check_seed(options.seed)
    data_dir, methods = data_dir_of(options), methods_of(options.methods)
    prepare_host()
    with exit_on_signal("stopped; finished examples are kept, and the same command goes on with the others"):
        with stage("import"):
            from attnlab import lab

        written: list[Path] = []
        report = lab.measure_faithfulness(
            options.run, data_dir, options.split, options.examples, methods, options.removal,
            options.seed, written.append, restart=options.restart, trust=options.trust, command=_command(options),
        )  # fmt: skip
    print(report.table())
    for path in written:
        print(f"written: {path}")
    return 0


def _command(options: argparse.Namespace) -> str:
    """Return the command line, with the values of defaults, so that it means the same with other defaults."""
    words = ["attnlab", "faithfulness", str(options.run)]
    for name in ("data", "split", "examples", "methods", "removal", "seed"):
        if (value := getattr(options, name)) is not None:
            words += [f"--{name}", str(value)]
    words += ["--trust"] if options.trust else []
    return shlex.join(words)

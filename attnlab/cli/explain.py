"""`attnlab explain`."""

import argparse
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_data, add_run, data_dir_of, experiment_of_run, methods_of
from attnlab.cli.host import prepare_host
from attnlab.cli.runs import displayed, print_prediction
from attnlab.config.errors import UserError
from attnlab.system.interrupt import interruptible_import

GRANULARITIES = ("token", "word", "sentence")


def add_commands(commands: Any) -> None:
    """Add the command of this file to the parser."""
    purpose = "explain a prediction by several methods, on an HTML page"
    explain = add_command(commands, "explain", _explain, purpose)
    add_run(explain)
    text = "inputs of the task, e.g. a sentence in quotes (default: the first examples of the first test set)"
    explain.add_argument("inputs", nargs="*", metavar="INPUT", help=text)
    explain.add_argument("--methods", metavar="A,B", help="names of methods, or all (default: quick ones)")
    text = "explain this class, answer or output text (default: the prediction)"
    explain.add_argument("--target", metavar="TEXT", help=text)
    explain.add_argument("--contrast", metavar="TEXT", help="explain why the target rather than this one")
    explain.add_argument("--position", type=int, metavar="N", help="explain one token of a generated text, from 1")
    text = "sum attributions over words (default) or sentences"
    explain.add_argument("--granularity", choices=GRANULARITIES, default="word", help=text)
    text = "the page to write (default: RUN/explain/explanation_N.html)"
    explain.add_argument("--out", type=Path, metavar="FILE", help=text)
    add_data(explain)


def _explain(options: argparse.Namespace) -> int:
    experiment_of_run(options)
    data_dir = data_dir_of(options)
    methods = methods_of(options.methods)
    if options.out and options.out.is_dir():
        raise UserError(f"--out {options.out}: is a directory; expected the name of an HTML file")
    prepare_host()
    with interruptible_import():
        from attnlab import lab
        from attnlab.tasks.explained_prediction import TargetSelection

    selection = TargetSelection(options.target, options.contrast, options.position)
    settings = lab.ExplanationSettings(methods, selection, options.granularity)
    pages = lab.explain(
        options.run, options.inputs, settings, data_dir=data_dir, out=options.out, command=_command_of(options),
        predicted=print_prediction, trust=options.trust,
    )  # fmt: skip
    for path in pages:
        print(f"page: {displayed(path)}", flush=True)
    return 0


def _command_of(options: argparse.Namespace) -> list[str]:
    """Return the command line that makes the same page."""
    given = {name: getattr(options, name) for name in ("methods", "target", "contrast", "position", "data", "out")}
    if options.granularity != "word":
        given["granularity"] = options.granularity
    named = [f"--{name}={value}" for name, value in given.items() if value is not None]
    dashes = ["--"] if any(text.startswith("-") for text in options.inputs) else []
    trust = ["--trust"] if options.trust else []
    return ["attnlab", "explain", *named, *trust, str(options.run), *dashes, *options.inputs]

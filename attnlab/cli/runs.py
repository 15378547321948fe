"""`attnlab train`, `evaluate`, `predict` and `show`."""

import argparse
import io
import sys
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from attnlab.cli.alignment import add_alignment, alignment_of
from attnlab.cli.arguments import (
    add_command,
    add_config,
    add_data,
    add_run,
    add_trust,
    data_dir_of,
    default_directory,
    experiment_of_run,
    overrides_of,
    trusted_experiment,
)
from attnlab.cli.host import prepare_host
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.text.lines import LONGEST_LINE
from attnlab.system.interrupt import interruptible_import
from attnlab.system.stages import stage
from attnlab.training import metric_names
from attnlab.training.signals import Interrupted, exit_on_signal

SPLITS = "only this test set, dev, or for classification yelp_hat (repeatable)"


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    train = add_command(commands, "train", _train, "train an experiment, or resume its training")
    add_config(train)
    add_trust(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME-sSEED)")
    train.add_argument("--restart", action="store_true", help="start at step 0; existing files are moved aside")
    train.add_argument("--evaluate", action="store_true", help="then evaluate the run on its test sets")

    purpose = "evaluate a run on its test sets; write results.json and per_example/"
    evaluate = add_command(commands, "evaluate", _evaluate, purpose)
    add_run(evaluate)
    add_data(evaluate)
    evaluate.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override decoding, e.g. task.decoding.beam=1; writes nothing"
    )
    evaluate.add_argument("--split", action="append", metavar="NAME", help=SPLITS)

    predict = add_command(commands, "predict", _predict, "predict an output for every line of standard input")
    add_run(predict)
    predict.add_argument(
        "overrides", nargs="*", metavar="key=value", help="override decoding, e.g. task.decoding.beam=5"
    )
    predict.add_argument("--n-best", type=int, metavar="N", help="print N outputs per line: number ||| text ||| score")
    add_alignment(predict)

    show = add_command(commands, "show", _show, "predict one example and draw its attention")
    add_run(show)
    show.add_argument("inputs", nargs="+", metavar="INPUT", help="inputs of the task, e.g. a sentence in quotes")
    show.add_argument("--attention", metavar="KIND", help="attention of a Transformer: cross, encoder or decoder")
    show.add_argument("--layer", type=int, metavar="N", help="layer of a Transformer, from 1")
    show.add_argument("--head", type=int, metavar="N", help="head of that layer, from 1 (default: mean over heads)")


def _train(options: argparse.Namespace) -> int:
    experiment, data_dir = trusted_experiment(options), data_dir_of(options)
    directory = options.out or default_directory(options.config, experiment)
    prepare_host(directory)
    with interruptible_import():
        from attnlab import lab

    try:
        lab.train(experiment, directory, data_dir, options.restart, overrides_of(options), trust=options.trust)
    except Interrupted as stop:
        with suppress(OSError):  # the terminal may be closed; the exit code is still returned
            resume = lab.resume_command(directory, data_dir)
            print(f"stopped; the state was saved. To resume: {resume}", file=sys.stderr, flush=True)
        return 128 + stop.signal_number
    print(f"trained: {directory}", flush=True)
    if options.evaluate:
        return _evaluate_run(experiment, directory, data_dir, trust=options.trust)
    print(f"next: attnlab evaluate {directory}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    experiment = experiment_of_run(options)
    data_dir = data_dir_of(options)
    prepare_host()
    splits, overrides = options.split, options.overrides
    return _evaluate_run(experiment, options.run, data_dir, splits, overrides, trust=options.trust)


def _evaluate_run(
    experiment: Experiment,
    run: Path,
    data_dir: Path | None,
    splits: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    *,
    trust: bool,
) -> int:
    """Evaluate a run, and print its metrics and the files that are written."""
    with exit_on_signal("evaluation stopped; results.json is unchanged; the same command starts over"):
        with stage("import"):
            from attnlab import lab
            from attnlab.results.scores import UnwrittenScores
            from attnlab.tasks.registry import task_class

        main = [column.name for column in task_class(experiment).reported_metrics]
        written: list[Path] = []
        try:
            results = lab.evaluate(run, data_dir, splits, overrides, written.append, trust=trust)
            failure = None
        except UnwrittenScores as unwritten:
            results, failure = unwritten.scores, unwritten
    for split, metrics in results.items():
        print("\n".join(format_metrics(split, metrics, main)))
    if failure:
        raise failure
    if overrides:
        print("not written: results.json holds only results without overrides")
    for path in written:
        print(f"written: {displayed(path)}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    experiment_of_run(options)
    settings = {"alignment": alignment_of(options), "trust": options.trust}
    prepare_host()
    with interruptible_import():
        from attnlab import lab

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    lines = read_lines(sys.stdin.buffer)
    for output in lab.predict(options.run, lines, options.n_best, options.overrides, **settings):
        print(output)
    return 0


def _show(options: argparse.Namespace) -> int:
    experiment_of_run(options)
    prepare_host()
    with interruptible_import():
        from attnlab import lab
        from attnlab.tasks.layer_attention import Selection

    selection = Selection(options.attention, options.layer, options.head)
    for path in lab.show(options.run, options.inputs, selection, print_prediction, trust=options.trust):
        print(f"{'page' if path.suffix == '.html' else 'picture'}: {displayed(path)}")
    return 0


def displayed(path: Path) -> Path:
    """Return a path relative to the current directory if it is inside."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def print_prediction(text: str) -> None:
    """Print the prediction of an example."""
    print(f"prediction: {text}")


def read_lines(stream: Iterable[bytes]) -> Iterator[str]:
    """Yield decoded lines; only newlines end a line, so that output line i belongs to input line i."""
    for number, raw in enumerate(stream, start=1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {raw[error.start]:#04x} is not UTF-8 text") from None
        if len(text) > LONGEST_LINE:
            raise UserError(f"standard input, line {number}: {len(text):,} characters; the limit is {LONGEST_LINE:,}")
        yield text.rstrip("\r\n")


def format_metrics(split: str, metrics: dict[str, Any], main: Collection[str]) -> Iterator[str]:
    """Yield the lines of a table of name, value and 95% interval, with signatures and notes below it.

    Args:
        split: name of the split.
        metrics: metrics of the split.
        main: names of the metrics that are printed first.
    """
    printed = {
        name: metrics[name]
        for name in sorted(metrics, key=lambda name: name not in main)
        if not name.endswith(("_ci95", "_signature", "_note")) and not isinstance(metrics[name], dict | list)
    }
    names = {name: metric_names.name(name) for name in printed}
    width = max(map(len, ("metric", *names.values())))
    yield f"{split}:"
    yield f"  {'metric':<{width}} {'value':>9}  95% interval"
    for name, value in printed.items():
        number = "—" if value is None else str(value)
        if isinstance(value, int | float):
            number = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        low, high = metrics.get(f"{name}_ci95") or (None, None)
        interval = "" if low is None else f"  {low:,.2f} to {high:,.2f}"
        yield f"  {names[name]:<{width}} {number:>9}{interval}"
    for name in printed:
        if signature := metrics.get(f"{name}_signature"):
            yield f"  signature of {names[name]}: {signature}"
    from attnlab.tasks import notes

    yield from (f"  {text}" for text in notes.lines(metrics, names))

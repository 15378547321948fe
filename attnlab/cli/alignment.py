"""`attnlab align`, and the options of `attnlab predict --alignment`."""

import argparse
import sys
from pathlib import Path
from typing import Any

from attnlab.cli.arguments import add_command, add_data, add_run, data_dir_of, experiment_of_run
from attnlab.cli.host import prepare_host
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.system.interrupt import interruptible_import

FORMATS = ("pharaoh", "talp", "naacl", "jsonl")


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    purpose = "score a translation run's attention against gold word alignment; write alignment.json"
    align = add_command(commands, "align", _align, purpose)
    add_run(align)
    add = align.add_argument
    add("--gold", type=Path, required=True, metavar="FILE", help="gold alignment, a sentence a line, plain or .gz")
    add("--source", type=Path, metavar="FILE", help="its source sentences, words separated by single spaces")
    add("--target", type=Path, metavar="FILE", help="its target sentences (a .jsonl file holds both)")
    add("--format", choices=FORMATS, help="format of --gold (default: by the file's extension, or else pharaoh)")
    add("--base", type=int, choices=(0, 1), help="index of the first word (default: 1 for talp and naacl, or else 0)")
    add("--swap", action="store_true", help="exchange source and target of --gold, for a run of the other direction")
    add("--detokenize", action="store_true", help="join punctuation marks to the words before the model reads them")
    add(
        "--dev",
        type=int,
        default=100,
        metavar="N",
        help="choose layer and head on the first N (default: 100)",
    )
    add("--reverse", type=Path, metavar="RUN", help="run of the other direction, to symmetrize with")
    add(
        "--aligners",
        metavar="NAME,...",
        help="baselines besides the diagonal: ibm1, fast_align, eflomal, or none (default: ibm1 and those on PATH)",
    )
    add(
        "--text",
        nargs=2,
        type=Path,
        metavar=("SOURCE", "TARGET"),
        help="texts to train these baselines on, besides those of --gold (default: the run's training pairs)",
    )
    add_data(align)


def add_alignment(predict: argparse.ArgumentParser) -> None:
    """Add the options of word alignment to the parser of `predict`."""
    add = predict.add_argument
    add("--alignment", action="store_true", help="add ||| and the word alignment of each translation: 0-0 1-2 ...")
    add("--layer", type=int, metavar="N", help="layer to align by, from 1 (default: chosen by attnlab align)")
    help_of_head = "head of that layer, from 1 (default: chosen by attnlab align; with --layer the mean of its heads)"
    add("--head", type=int, metavar="N", help=help_of_head)
    help_of_reading = (
        "align a word at the step that outputs it, or that reads it (default: likewise; with --layer output)"
    )
    add("--reading", choices=("output", "input"), help=help_of_reading)


def alignment_of(options: argparse.Namespace) -> dict[str, Any] | None:
    """Return the options of word alignment, or None without --alignment."""
    given = {name: getattr(options, name) for name in ("layer", "head", "reading")}
    if options.alignment:
        return given
    for name, value in given.items():
        if value is not None:
            raise UserError(f"--{name} {value}: needs --alignment")
    return None


def _align(options: argparse.Namespace) -> int:
    direction = _direction(experiment_of_run(options))
    data_dir, aligners = data_dir_of(options), _aligners(options.aligners)
    if options.text and aligners == []:
        raise UserError("--text: it is the aligners that are trained on it, and --aligners none leaves them out")
    prepare_host()
    with interruptible_import():
        from rich.console import Console

        from attnlab import lab
        from attnlab.data.translation.gold_alignment import read_gold
        from attnlab.data.translation.parallel_text import read_pairs
        from attnlab.viz import alignment as tables

    gold = read_gold(options.gold, options.source, options.target, format=options.format, base=options.base)
    text = [(pair.source, pair.target) for pair in read_pairs(*options.text)] if options.text else None
    report, _ = lab.align(
        options.run,
        [sentence.reversed() for sentence in gold] if options.swap else gold,
        dev=options.dev,
        reverse=options.reverse,
        detokenize=options.detokenize,
        aligners=aligners,
        text=text,
        data_dir=data_dir,
        trust=options.trust,
    )
    console = Console() if sys.stdout.isatty() else Console(width=tables.WIDTH)
    console.print(tables.choices_table(report))
    for table in tables.rows_tables(report, console.width):
        print()
        console.print(table)
    print(f"\n{tables.notes(report, direction)}\nwritten: {options.run / 'alignment.json'}")
    return 0


def _direction(experiment: Experiment) -> str:
    """Return the direction of a translation, `de→en`; nothing if the data do not name the languages."""
    data = getattr(experiment.task, "data", None)
    names = [name for side in ("source", "target") if isinstance(name := getattr(data, side, None), str)]
    return "→".join(names) if len(names) == 2 else ""


def _aligners(names: str | None) -> list[str] | None:
    """Return the names of the aligners; None for the default."""
    if names is None:
        return None
    return [] if names == "none" else [name.strip() for name in names.split(",")]

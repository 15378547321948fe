"""The command line: reads arguments and config, then calls the lab. `--help`, `list` and mistakes import no jax."""

import argparse
import contextlib
import io
import json
import os
import re
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Any, NoReturn

from attnlab import __version__
from attnlab.bench import cases
from attnlab.config import Experiment, catalog
from attnlab.config.code import CODE, TRUST, announced, code_of, recorded_code, refuse_other_code
from attnlab.config.custom import custom_parts
from attnlab.config.errors import UserError
from attnlab.config.explain import cut
from attnlab.config.load import held_code, load
from attnlab.data.text.lines import LONGEST_LINE
from attnlab.results import marked_text
from attnlab.system.cores import host_devices
from attnlab.system.heap import keep_freed_memory
from attnlab.system.interrupt import interruptible_import
from attnlab.training import metric_names
from attnlab.training.signals import Interrupted, stopping

LONG_WORD = re.compile(r"\S{300,}")
"""What is cut in a message: no path or key is so long that is not a mistake."""

GPU_PARTS = ("conformance", "attention", "training", "resume", "blocks")
"""Of `bench gpu`."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 what a person can mend (told in one line), 130 Ctrl-C."""
    _write_any_letter(sys.stdout)
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        code = options.command(options)
        sys.stdout.flush()  # a full disk shows here
        return code
    except UserError as error:
        return _told(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `attnlab predict RUN | head`
        _flush()
        return 141
    except OSError as error:  # a disk that is full, a file without permission, too many open files
        if error.strerror is None:
            raise
        return _told(f"{error.filename or 'output'}: {error.strerror}")
    except MemoryError:
        return _told("out of memory")


def _told(line: str) -> int:
    _flush()
    _say(f"attnlab: {re.sub(LONG_WORD, lambda word: cut(word[0], 200), line)}")
    return 2


def _say(line: str) -> None:
    with suppress(OSError):  # the terminal is gone: the exit code still tells
        print(line, file=sys.stderr, flush=True)


def _flush() -> None:
    """Write what was printed so far; what cannot be written is dropped, lest Python try again on its way out."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _write_any_letter(stream: Any) -> None:
    """Let a terminal that lacks a letter (as an ASCII one lacks ×) show its number, as Python does on stderr."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")


class _Parser(argparse.ArgumentParser):
    needs = ""
    """What to say when arguments are missing; nothing: their names."""

    def error(self, message: str) -> NoReturn:
        if self.needs and "are required" in message:
            message = self.needs
        raise UserError(f"{message} (see {self.prog} --help)")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    if dashed := next(filter(_looks_like_an_option, takewhile(lambda text: text != "--", arguments)), None):
        parser.error(f"unknown argument {dashed}; a text that begins with '-' goes after '--': -- {dashed}")
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}")
    if rest:  # overrides that stand after an option
        options.overrides = [*options.overrides, *rest]
    return options


def _looks_like_an_option(text: str) -> bool:
    """Tell a word such as -good from options, which all but -h begin with two dashes, and from negative numbers."""
    return re.fullmatch(r"-[^-\s\d.]\S*", text) is not None and text != "-h"


def _help_of(parser: argparse.ArgumentParser) -> Callable[[argparse.Namespace], int]:
    """The command of a group of commands that is named alone."""

    def command(_: argparse.Namespace) -> int:
        parser.print_help()
        return 0

    return command


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="attnlab", description="Attention, trained and looked at: an experiment is a config file.")
    parser.add_argument("--version", action="version", version=f"attnlab {__version__}")
    parser.set_defaults(command=_help_of(parser))
    commands = parser.add_subparsers(metavar="COMMAND")

    train = _command(commands, "train", _train, "train an experiment, or go on where it was broken off")
    _takes_config(train)
    _takes_trust(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME-sSEED)")
    train.add_argument("--restart", action="store_true", help="begin at step 0; what is there is kept, set aside")

    evaluate = _command(commands, "evaluate", _evaluate, "score a run on its test sets; writes results.json and each/")
    _takes_run(evaluate)
    _takes_data(evaluate)
    evaluate.add_argument(
        "overrides", nargs="*", metavar="key=value", help="search otherwise, e.g. task.decoding.beam=1; writes nothing"
    )
    evaluate.add_argument("--split", action="append", metavar="NAME", help="only this test set, or dev (repeatable)")

    predict = _command(commands, "predict", _predict, "answer standard input, one line out for every line in")
    _takes_run(predict)
    predict.add_argument(
        "overrides", nargs="*", metavar="key=value", help="search otherwise, e.g. task.decoding.beam=5"
    )
    predict.add_argument("--n-best", type=int, metavar="N", help="N lines for each instead: number ||| text ||| score")

    show = _command(commands, "show", _show, "answer one example and draw where the model looks")
    _takes_run(show)
    show.add_argument("inputs", nargs="+", metavar="INPUT", help="what the task asks for, e.g. a sentence in quotes")
    show.add_argument("--attention", metavar="KIND", help="cross, encoder, decoder, pooling, ...: what the model has")
    show.add_argument("--layer", type=int, metavar="N", help="counted from 1")
    show.add_argument("--head", type=int, metavar="N", help="of that layer, counted from 1 (default: the heads' mean)")

    results = _command(commands, "results", _results, "print a table of the results of runs, in Markdown")
    results.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run directory, or what --save kept of one")
    results.add_argument("--into", type=Path, metavar="FILE", help="put the table between the marks of this file")
    results.add_argument("--save", type=Path, metavar="DIR", help="keep the numbers of each run as DIR/NAME")
    results.add_argument("--unfinished", action="store_true", help="show also runs that are not trained to their end")

    compare = _command(commands, "compare", _compare, "tell how far two runs of a task are apart, and how sure that is")
    compare.needs = "compare takes two runs: attnlab compare RUN RUN"
    compare.add_argument("first", type=Path, metavar="RUN", help="run directory")
    compare.add_argument("second", type=Path, metavar="RUN", help="run directory; differences are first minus second")
    compare.add_argument("--unfinished", action="store_true", help="take also runs that are not trained to their end")

    listing = _command(commands, "list", _list, "list the experiments at hand and the choices of every setting")
    listing.add_argument("topics", nargs="*", metavar="TOPIC", help="a folder of experiments, settings, or all")

    data = commands.add_parser("data", help="look at data", allow_abbrev=False)
    data.set_defaults(command=_help_of(data))
    check = _command(data.add_subparsers(metavar="COMMAND"), "check", _check, "counts, lengths, problems")
    _takes_config(check)

    bench = commands.add_parser("bench", help="measure speed", allow_abbrev=False)
    bench.set_defaults(command=_help_of(bench))
    benches = bench.add_subparsers(metavar="COMMAND")
    training = _command(benches, "training", _bench, "training speed beside PyTorch's")
    _takes_config(training)
    _takes_trust(training)
    training.add_argument("--json", action="store_true", help="print all measurements as JSON instead of a table")
    decoding = _command(benches, "decoding", _bench_decoding, "greedy search of a Transformer with and without a cache")
    _takes_run(decoding)
    _takes_data(decoding)
    decoding.add_argument("--length", type=int, metavar="N", help="make every translation N tokens long")
    decoding.add_argument(
        "--sentences", type=int, default=200, metavar="N", help="of the first test set (default: 200)"
    )
    decoding.add_argument("--json", action="store_true", help="print all measurements as JSON instead of a table")
    _takes_attention(
        _command(benches, "attention", _bench_attention, "time and memory of attention beside other libraries'")
    )
    _takes_gpu(_command(benches, "gpu", _bench_gpu, "all that only a GPU can show, within some minutes"))
    return parser


def _command(commands: Any, name: str, function: Any, purpose: str) -> _Parser:
    parser = commands.add_parser(name, help=purpose, description=purpose, allow_abbrev=False)
    parser.set_defaults(command=function)
    return parser


def _takes_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file of an experiment, or RUN/config.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="a setting, e.g. model.dropout=0.2")
    parser.add_argument("--seed", type=int, metavar="N", help="the experiment's seed")
    parser.add_argument("--tiny", action="store_true", help="shrink model, steps and generated data")
    _takes_data(parser)


def _takes_attention(parser: argparse.ArgumentParser) -> None:
    names = (*cases.OURS, *cases.OTHERS)
    add = parser.add_argument
    add("--shape", action="append", default=[], metavar="B,H,T,D", help="examples, heads, length, width (repeatable)")
    add("--length", metavar="T,...", help="one example of 8 heads of 64 at these lengths, for cost against length")
    add("--variant", metavar="NAME,...", help=f"of {', '.join(cases.VARIANTS)} (default: all)")
    add("--mode", choices=[*cases.MODES, "both"], help="default: both")
    add("--dtype", choices=cases.DTYPES, help="default: float32, on a GPU bfloat16")
    add("--peers", metavar="NAME,...", help=f"of {', '.join(names)}; on a GPU {', '.join(cases.ON_GPU)} (default: all)")
    add("--devices", choices=["one", "all", "both"], help="that ours run on (default: both)")
    add("--against", metavar="NAME", help="whom ratios are taken against (default: torch, else flex, else jax.nn)")
    add("--rounds", type=int, metavar="N", help="turns of each (default: 11)")
    add("--quick", action="store_true", help="short lengths, full and causal, forward, 3 rounds: does it all work?")
    add("--out", type=Path, metavar="DIR", help="where results go (default: runs/bench-attention-TIME)")
    add("--report", type=Path, metavar="DIR", help="measure nothing: print and draw the results that are there")


def _takes_gpu(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, metavar="M", help="for all parts together (default: 8)")
    add("--parts", metavar="NAME,...", help=f"of {', '.join(GPU_PARTS)} (default: all)")
    add("--out", type=Path, default=Path("docs/results/gpu"), metavar="DIR", help="records (default: docs/results/gpu)")
    add("--into", type=Path, metavar="FILE", help="put the tables between the marks of this file")
    add("--tiny", action="store_true", help="small sizes on whatever device there is: does it all work?")
    add("--restart", action="store_true", help="measure again what was measured before on this card")
    _takes_data(parser)


def _takes_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory that `attnlab train` made")
    _takes_trust(parser)


def _takes_trust(parser: argparse.ArgumentParser) -> None:
    told = "execute the code of a custom part that a run holds even if it is not the one recorded at its training"
    parser.add_argument("--trust", action="store_true", help=told)


def _takes_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of data sets (default: $ATTNLAB_DATA)")


def _train(options: argparse.Namespace) -> int:
    experiment, data_dir = _to_be_executed(options), _data_dir(options)
    directory = options.out or _default_directory(options.config, experiment)
    _ready_for_jax(directory)
    with interruptible_import():
        from attnlab import lab

    try:
        lab.train(experiment, directory, data_dir, options.restart, _overrides(options), trust=options.trust)
    except Interrupted as stop:
        _say(f"stopped; all is saved. To go on: {lab.resume_command(directory, data_dir)}")
        return 128 + stop.signal_number
    print(f"trained: {directory}\nnext: attnlab evaluate {directory}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    experiment = _run(options)
    data_dir = _data_dir(options)
    _ready_for_jax()
    with stopping("evaluation stopped; what is in results.json stays, the same command scores again"):
        from attnlab import lab
        from attnlab.results.scores import Unwritten
        from attnlab.tasks.registry import task_class

        main = [column.name for column in task_class(experiment).reported_metrics]
        written: list[Path] = []
        how = {"wrote": written.append, "trust": options.trust}
        try:
            found = lab.evaluate(options.run, data_dir, options.split, options.overrides, **how)
            failure = None
        except Unwritten as unwritten:
            found, failure = unwritten.scores, unwritten
    for split, metrics in found.items():
        print("\n".join(_table(split, metrics, main)))
    if failure:
        raise failure
    if options.overrides:
        print("not written: results.json keeps the scores of the run as it was trained, without overrides")
    for path in written:
        print(f"written: {path}")
    return 0


def _predict(options: argparse.Namespace) -> int:
    _run(options)
    _ready_for_jax()
    with interruptible_import():
        from attnlab import lab

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    answers = lab.predict(options.run, _lines(sys.stdin.buffer), options.n_best, options.overrides, trust=options.trust)
    for line in answers:
        print(line)
    return 0


def _show(options: argparse.Namespace) -> int:
    _run(options)
    _ready_for_jax()
    with interruptible_import():
        from attnlab import lab
        from attnlab.tasks.layer_attention import Selection

    wanted = Selection(options.attention, options.layer, options.head)
    for path in lab.show(options.run, options.inputs, wanted, trust=options.trust):
        print(f"{'page' if path.suffix == '.html' else 'picture'}: {path}")
    return 0


def _results(options: argparse.Namespace) -> int:
    with interruptible_import():
        from attnlab.results import record, tables

    found = [record.read(run, options.unfinished) for run in options.runs]
    table = tables.page(found)
    if options.into is None:
        print(table, end="")
    else:
        tables.insert(table, options.into)
        print(f"written: {options.into}", file=sys.stderr)
    for run in found if options.save else ():
        print(f"kept: {record.save(run, options.save)}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace) -> int:
    with interruptible_import():
        from attnlab.results import comparison, record

    runs = (record.read(run, options.unfinished) for run in (options.first, options.second))
    print(comparison.page(*runs), end="")
    return 0


def _list(options: argparse.Namespace) -> int:
    for line in catalog.listed(options.topics):
        print(line)
    return 0


def _check(options: argparse.Namespace) -> int:
    experiment = _experiment(options)
    _ready_for_jax(_default_directory(options.config, experiment))  # batches are cut as in the training
    with interruptible_import():
        from attnlab.tasks.registry import task_class

    print(task_class(experiment).check(experiment, _data_dir(options)))
    return 0


def _bench(options: argparse.Namespace) -> int:
    experiment = _to_be_executed(options)
    if code := code_of(experiment):
        print(f"attnlab: {announced(code)}", file=sys.stderr)
    with interruptible_import():
        from attnlab.bench import training

    comparison = training.compare(experiment, _data_dir(options))
    print(comparison.as_json() if options.json else comparison)
    return 0


def _bench_decoding(options: argparse.Namespace) -> int:
    _run(options)
    data_dir = _data_dir(options)
    if options.sentences < 1:
        raise UserError(f"--sentences {options.sentences}: must be at least 1")
    _ready_for_jax()
    with interruptible_import():
        from attnlab import lab
        from attnlab.bench import decoding

    trained = lab.load(options.run, trust=options.trust)
    tests = trained.task.load(trained.run.config, data_dir).splits()
    name = next(split for split in tests if split not in ("train", "dev"))
    texts = [getattr(example, "source", "") for example in tests[name][: options.sentences]]
    comparison = decoding.compare(trained.task, trained.params, texts, options.length)
    print(comparison.as_json() if options.json else comparison)
    return 0


def _bench_attention(options: argparse.Namespace) -> int:
    plan = None if options.report else _bench_plan(options)  # mistakes are told before anything is imported
    with interruptible_import():
        from attnlab.bench import command

    if plan is None:
        command.report(options.report)
    else:
        command.bench(plan, options.out)
    return 0


def _bench_gpu(options: argparse.Namespace) -> int:
    if not 0 < options.minutes < 1e4:
        raise UserError(f"--minutes {options.minutes:g}: a number above 0 is needed, e.g. 8")
    parts = cases.names_of("--parts", options.parts, GPU_PARTS) if options.parts else GPU_PARTS
    data_dir = _data_dir(options)
    if options.into is not None:
        marked_text.between(options.into, "gpu")  # a mistake is told before anything is measured
    from attnlab.bench import gpu

    gpu.bench(options.minutes, parts, options.out, options.into, data_dir, options.tiny, options.restart)
    return 0


def _bench_plan(options: argparse.Namespace) -> cases.Plan:
    names = (*cases.OURS, *cases.OTHERS, *cases.ON_GPU)
    if options.rounds is not None and options.rounds < 1:
        raise UserError(f"--rounds {options.rounds}: must be at least 1")
    chosen = {
        "shapes": tuple(cases.shape_of(text) for text in options.shape),
        "lengths": options.length and cases.lengths_of(options.length),
        "variants": options.variant and cases.names_of("--variant", options.variant, cases.VARIANTS),
        "modes": None if options.mode is None else cases.MODES if options.mode == "both" else (options.mode,),
        "dtype": options.dtype,
        "peers": options.peers and cases.names_of("--peers", options.peers, names),
        "against": options.against and cases.names_of("--against", options.against, names),
        "devices": options.devices,
        "rounds": options.rounds,
    }
    return replace(cases.QUICK if options.quick else cases.Plan(), **{k: v for k, v in chosen.items() if v})


def _experiment(options: argparse.Namespace) -> Experiment:
    return load(catalog.known(options.config), options.overrides, seed=options.seed, tiny=options.tiny)


def _to_be_executed(options: argparse.Namespace) -> Experiment:
    """The experiment; refused where its file itself holds code, as a run's does, and no training recorded that."""
    experiment = _experiment(options)
    if not options.trust and (held := held_code(catalog.known(options.config), options.overrides)):
        files = {f"{CODE}{part.file}" for part in custom_parts(experiment) if part.function in held}
        code = {name: sha for name, sha in code_of(experiment).items() if name in files}
        refuse_other_code(options.config, code, recorded_code(options.config.parent), TRUST)
    return experiment


def _run(options: argparse.Namespace) -> Experiment:
    """The experiment of a run directory: tells a wrong directory before jax is imported."""
    if not (options.run / "config.yaml").is_file():
        raise catalog.no_run(options.run)
    return load(options.run / "config.yaml")


def _data_dir(options: argparse.Namespace) -> Path | None:
    given = options.data or (Path(os.environ["ATTNLAB_DATA"]) if os.environ.get("ATTNLAB_DATA") else None)
    if options.data and not options.data.is_dir():
        raise UserError(f"--data {options.data}: no such directory")
    return given


def _default_directory(config: Path, experiment: Experiment) -> Path:
    """A run's own config goes on (or repeats) in that run; any other starts one named after experiment and seed."""
    if config.name == "config.yaml" and (config.parent / "environment.json").exists():
        return config.parent
    return Path("runs") / f"{experiment.name}-s{experiment.seed}"


def _overrides(options: argparse.Namespace) -> list[str]:
    """All overrides that a config was made with: where it is a run's own, those of the run come first."""
    begun: list[str] = []
    if options.config.name == "config.yaml":
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            environment = json.loads((options.config.parent / "environment.json").read_text(encoding="utf-8"))
            begun = [str(text) for text in environment["overrides"]]
    return [*begun, *options.overrides]


def _ready_for_jax(run: Path | None = None) -> None:
    """Let jax see one host device a core, over which training is data parallel, and keep the memory that it frees.

    To be called before jax is imported. A run that goes on gets as many devices as it began with, whatever the cores
    are now.
    """
    keep_freed_memory()
    if "xla_force_host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        begun = run and _devices_of(run / "environment.json")
        os.environ.setdefault("JAX_NUM_CPU_DEVICES", begun or str(host_devices()))


def _devices_of(environment: Path) -> str | None:
    """How many devices a run was begun with; what is wrong with the file is told by who opens the run."""
    try:
        devices = json.loads(environment.read_text(encoding="utf-8"))["fingerprint"]["devices"]
        return str(int(devices))
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None


def _lines(stream: Iterable[bytes]) -> Iterator[str]:
    """Lines end at newlines alone, so that line i out belongs to line i in."""
    for number, raw in enumerate(stream, start=1):
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"standard input, line {number}: byte {raw[error.start]:#04x} is not UTF-8 text") from None
        if len(text) > LONGEST_LINE:
            raise UserError(f"standard input, line {number}: {len(text):,} characters; at most {LONGEST_LINE:,}")
        yield text.rstrip("\r\n")


def _table(split: str, metrics: dict[str, Any], main: Collection[str]) -> Iterator[str]:
    """A row a metric: its name, value and 95% interval; below them signatures, and what no table can show.

    Args:
        split: what was scored.
        metrics: of the split.
        main: the metrics that come first.
    """
    shown = {
        name: metrics[name]
        for name in sorted(metrics, key=lambda name: name not in main)
        if not name.endswith(("_ci95", "_signature", "_note")) and not isinstance(metrics[name], dict | list)
    }
    words = {name: metric_names.name(name) for name in shown}
    width = max(map(len, ("metric", *words.values())))
    yield f"{split}:"
    yield f"  {'metric':<{width}} {'value':>9}  95% interval"
    for name, value in shown.items():
        number = "—" if value is None else str(value)
        if isinstance(value, int | float):
            number = f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"
        low, high = metrics.get(f"{name}_ci95") or (None, None)
        interval = "" if low is None else f"  {low:,.2f} to {high:,.2f}"
        yield f"  {words[name]:<{width}} {number:>9}{interval}"
    for name in shown:
        if signature := metrics.get(f"{name}_signature"):
            yield f"  signature of {words[name]}: {signature}"
    from attnlab.tasks import notes

    yield from (f"  {text}" for text in notes.lines(metrics, words))

"""The command line: reads arguments and config, then calls the lab. `--help`, `list` and mistakes import no jax."""

import argparse
import io
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

from attnlab import __version__
from attnlab.bench import cases
from attnlab.config import Experiment, catalog
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.cores import host_devices
from attnlab.data.lines import LONGEST_LINE
from attnlab.heap import keep_freed_memory


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code: 0 done, 2 a mistake in the input (told in one line), 130 Ctrl-C."""
    try:
        options = _parse(sys.argv[1:] if arguments is None else arguments)
        return options.command(options)
    except UserError as error:
        print(f"attnlab: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `attnlab predict RUN | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141


class _Parser(argparse.ArgumentParser):
    needs = ""
    """What to say when arguments are missing; nothing: their names."""

    def error(self, message: str) -> NoReturn:
        if self.needs and "are required" in message:
            message = self.needs
        raise UserError(f"{message} (see {self.prog} --help)")


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    unknown = [text for text in rest if text.startswith("-") or not hasattr(options, "overrides")]
    if unknown:
        parser.error(f"unknown argument {unknown[0]}")
    if rest:  # overrides that stand after an option
        options.overrides = [*options.overrides, *rest]
    return options


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="attnlab", description="Attention, trained and looked at: an experiment is a config file.")
    parser.add_argument("--version", action="version", version=f"attnlab {__version__}")
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    train = _command(commands, "train", _train, "train an experiment, or go on where it was broken off")
    _takes_config(train)
    train.add_argument("--out", type=Path, metavar="DIR", help="run directory (default: runs/NAME-sSEED)")

    evaluate = _command(commands, "evaluate", _evaluate, "score a run on its test sets; writes results.json and each/")
    _takes_run(evaluate)
    _takes_data(evaluate)
    evaluate.add_argument(
        "overrides", nargs="*", metavar="key=value", help="search otherwise, e.g. task.decoding.beam=1; writes nothing"
    )
    evaluate.add_argument("--split", action="append", metavar="NAME", help="only this test set, or dev (repeatable)")

    predict = _command(commands, "predict", _predict, "answer standard input, one line out for every line in")
    _takes_run(predict)
    predict.add_argument("--n-best", type=int, metavar="N", help="N lines for each instead: number ||| text ||| score")

    show = _command(commands, "show", _show, "answer one example and draw where the model looks")
    _takes_run(show)
    show.add_argument("inputs", nargs="+", metavar="INPUT", help="what the task asks for, e.g. a sentence in quotes")

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

    _command(commands, "list", _list, "list the experiments at hand and the choices of every setting")

    data = commands.add_parser("data", help="look at data", allow_abbrev=False)
    check = _command(
        data.add_subparsers(metavar="COMMAND", required=True), "check", _check, "counts, lengths, problems"
    )
    _takes_config(check)

    bench = commands.add_parser("bench", help="measure speed", allow_abbrev=False)
    benches = bench.add_subparsers(metavar="COMMAND", required=True)
    training = _command(benches, "training", _bench, "training speed beside PyTorch's")
    _takes_config(training)
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


def _takes_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN", help="run directory that `attnlab train` made")


def _takes_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, metavar="DIR", help="directory of data sets (default: $ATTNLAB_DATA)")


def _train(options: argparse.Namespace) -> int:
    experiment, data_dir = _experiment(options), _data_dir(options)
    directory = options.out or _default_directory(options.config, experiment)
    _ready_for_jax(directory)
    from attnlab import lab
    from attnlab.training.loop import Interrupted

    try:
        lab.train(experiment, directory, data_dir)
    except Interrupted as stop:
        print(f"stopped; all is saved. To go on: {lab.resume_command(directory, data_dir)}", file=sys.stderr)
        return 128 + stop.signal_number
    print(f"trained: {directory}\nnext: attnlab evaluate {directory}")
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    _run(options)
    data_dir = _data_dir(options)
    _ready_for_jax()
    from attnlab import lab

    for split, metrics in lab.evaluate(options.run, data_dir, options.split, options.overrides).items():
        print("\n".join(_table(split, metrics)))
    print(f"written: {options.run / 'results.json'}" if not options.overrides else "not written: not the run's search")
    return 0


def _predict(options: argparse.Namespace) -> int:
    _run(options)
    _ready_for_jax()
    from attnlab import lab

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    for line in lab.predict(options.run, _lines(sys.stdin.buffer), options.n_best):
        print(line)
    return 0


def _show(options: argparse.Namespace) -> int:
    _run(options)
    _ready_for_jax()
    from attnlab import lab

    for path in lab.show(options.run, options.inputs):
        print(f"{'page' if path.suffix == '.html' else 'picture'}: {path}")
    return 0


def _results(options: argparse.Namespace) -> int:
    from attnlab import facts, results

    found = [facts.read(run, options.unfinished) for run in options.runs]
    table = results.page(found)
    if options.into is None:
        print(table, end="")
    else:
        results.insert(table, options.into)
        print(f"written: {options.into}", file=sys.stderr)
    for run in found if options.save else ():
        print(f"kept: {facts.save(run, options.save)}", file=sys.stderr)
    return 0


def _compare(options: argparse.Namespace) -> int:
    from attnlab import compare, facts

    runs = (facts.read(run, options.unfinished) for run in (options.first, options.second))
    print(compare.page(*runs), end="")
    return 0


def _list(options: argparse.Namespace) -> int:
    print("Experiments (attnlab train FILE):")
    for path, question in catalog.experiments():
        print(f"  {path}\n      {question}")
    print("\nChoices (attnlab train FILE key=value):")
    for heading, settings in catalog.choices():
        print(f"\n  {heading}")
        width = max(len(key) for key, _ in settings)
        for key, names in settings:
            print(f"    {key:<{width}}  {', '.join(names)}")
    return 0


def _check(options: argparse.Namespace) -> int:
    experiment = _experiment(options)
    from attnlab.tasks.kinds import kind

    print(kind(experiment).check(experiment, _data_dir(options)))
    return 0


def _bench(options: argparse.Namespace) -> int:
    experiment = _experiment(options)
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
    from attnlab import lab
    from attnlab.bench import decoding

    trained = lab.load(options.run)
    tests = trained.task.load(trained.run.config, data_dir).splits()
    name = next(split for split in tests if split not in ("train", "dev"))
    texts = [getattr(example, "source", "") for example in tests[name][: options.sentences]]
    comparison = decoding.compare(trained.task, trained.params, texts, options.length)
    print(comparison.as_json() if options.json else comparison)
    return 0


def _bench_attention(options: argparse.Namespace) -> int:
    plan = None if options.report else _bench_plan(options)  # mistakes are told before anything is imported
    from attnlab.bench import command

    if plan is None:
        command.report(options.report)
    else:
        command.bench(plan, options.out)
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


def _table(split: str, metrics: dict[str, Any]) -> Iterator[str]:
    """One line a metric: its value, 95% interval and signature where it has them."""
    yield split
    for name, value in metrics.items():
        if name.endswith(("_ci95", "_signature", "_note")) or isinstance(value, dict | list):
            continue
        number = f"{value:.2f}" if isinstance(value, float) else "—" if value is None else str(value)
        low, high = metrics.get(f"{name}_ci95") or (None, None)
        interval = "" if low is None else f"[{low:.2f}, {high:.2f}]"
        yield f"  {name:<20} {number:>8}  {interval:<17} {metrics.get(f'{name}_signature', '')}".rstrip()
    from attnlab.tasks import notes

    yield from (f"  {text}" for text in notes.lines(metrics))

"""`attnlab bench`: the speed of training, decoding, attention, and the start of commands."""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from attnlab.bench import cases
from attnlab.cli.arguments import (
    add_command,
    add_config,
    add_data,
    add_run,
    add_trust,
    data_dir_of,
    experiment_of_run,
    print_help,
    trusted_experiment,
)
from attnlab.cli.host import prepare_host
from attnlab.config.code import announced, code_of
from attnlab.config.errors import UserError
from attnlab.results import marked_text
from attnlab.system.interrupt import interruptible_import

GPU_PARTS = ("conformance", "attention", "training", "resume", "blocks")
"""Parts of `bench gpu`."""


def add_commands(commands: Any) -> None:
    """Add the commands of this file to the parser."""
    bench = commands.add_parser("bench", help="measure speed", allow_abbrev=False)
    bench.set_defaults(command=print_help(bench))
    benches = bench.add_subparsers(metavar="COMMAND")
    training = add_command(benches, "training", _training, "training speed compared with PyTorch")
    add_config(training)
    add_trust(training)
    training.add_argument("--json", action="store_true", help="print all measurements as JSON instead of a table")
    decoding = add_command(benches, "decoding", _decoding, "greedy decoding of a Transformer with and without a cache")
    add_run(decoding)
    add_data(decoding)
    decoding.add_argument("--length", type=int, metavar="N", help="make every translation N tokens long")
    decoding.add_argument(
        "--sentences",
        type=int,
        default=200,
        metavar="N",
        help="use N sentences of the first test set (default: 200)",
    )
    decoding.add_argument("--json", action="store_true", help="print all measurements as JSON instead of a table")
    _add_attention(
        add_command(benches, "attention", _attention, "time and memory of attention compared with other libraries")
    )
    startup = add_command(benches, "startup", _startup, "how long commands take to start, with and without the cache")
    startup.add_argument(
        "configs",
        nargs="*",
        type=Path,
        metavar="CONFIG",
        help="experiments with generated data (default: one of each task)",
    )
    startup.add_argument("--rounds", type=int, default=3, metavar="N", help="number of rounds (default: 3)")
    startup.add_argument("--json", action="store_true", help="print all measurements as JSON instead of a table")
    _add_gpu(add_command(benches, "gpu", _gpu, "tests and measurements that need a GPU, within a time limit"))


def _add_attention(parser: argparse.ArgumentParser) -> None:
    peers = f"peers: {', '.join((*cases.OURS, *cases.OTHERS))}; on a GPU also {', '.join(cases.ON_GPU)} (default: all)"
    add = parser.add_argument
    add("--shape", action="append", default=[], metavar="B,H,T,D", help="batch, heads, length, head width (repeatable)")
    add("--length", metavar="T,...", help="measure cost against length: one example, 8 heads of width 64")
    add("--variant", metavar="NAME,...", help=f"variants: {', '.join(cases.VARIANTS)} (default: all)")
    modes = [*cases.MODES, "both", *cases.OVERHEADS]
    add("--mode", choices=modes, help="what to measure (default: both: forward, forward_backward)")
    add("--dtype", choices=cases.DTYPES, help="default: float32 on CPU, bfloat16 on GPU")
    add("--peers", metavar="NAME,...", help=peers)
    add("--devices", choices=["one", "all", "both"], help="devices of attnlab's implementations (default: both)")
    add("--against", metavar="NAME", help="baseline of the ratios (default: torch, else flex, else jax.nn)")
    add("--rounds", type=int, metavar="N", help="number of timed rounds (default: 11)")
    add("--quick", action="store_true", help="quick check: short lengths, full and causal, forward, 3 rounds")
    add("--out", type=Path, metavar="DIR", help="output directory (default: runs/bench-attention-TIME)")
    add("--report", type=Path, metavar="DIR", help="measure nothing: print and plot existing results")


def _add_gpu(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--minutes", type=float, default=8.0, metavar="M", help="time limit of all parts together (default: 8)")
    add("--parts", metavar="NAME,...", help=f"parts: {', '.join(GPU_PARTS)} (default: all)")
    add(
        "--out",
        type=Path,
        default=Path("docs/results/gpu"),
        metavar="DIR",
        help="records (default: docs/results/gpu)",
    )
    add("--into", type=Path, metavar="FILE", help="also write the tables between the markers in FILE")
    add("--tiny", action="store_true", help="quick check: small sizes on any device")
    add("--restart", action="store_true", help="repeat the measurements of this card")
    add_data(parser)


def _training(options: argparse.Namespace) -> int:
    experiment = trusted_experiment(options)
    if code := code_of(experiment):
        print(f"attnlab: {announced(code)}", file=sys.stderr)
    with interruptible_import():
        from attnlab.bench import training

    comparison = training.compare(experiment, data_dir_of(options))
    print(comparison.as_json() if options.json else comparison)
    return 0


def _decoding(options: argparse.Namespace) -> int:
    experiment_of_run(options)
    data_dir = data_dir_of(options)
    if options.sentences < 1:
        raise UserError(f"--sentences {options.sentences}: must be at least 1")
    prepare_host()
    with interruptible_import():
        from attnlab import lab
        from attnlab.bench import decoding
        from attnlab.data.translation.records import SentencePair

    trained = lab.load(options.run, trust=options.trust)
    tests = trained.task.load(trained.run.config, data_dir).splits()
    name = next(split for split in tests if split not in ("train", "dev"))
    texts = [pair.source for pair in tests[name][: options.sentences] if isinstance(pair, SentencePair)]
    comparison = decoding.compare(trained.task, trained.params, texts, options.length)
    print(comparison.as_json() if options.json else comparison)
    return 0


def _attention(options: argparse.Namespace) -> int:
    plan = None if options.report else _plan(options)  # reports invalid options before anything is imported
    with interruptible_import():
        from attnlab.bench import command

    if plan is None:
        command.report(options.report)
    else:
        command.bench(plan, options.out)
    return 0


def _startup(options: argparse.Namespace) -> int:
    if options.rounds < 1:
        raise UserError(f"--rounds {options.rounds}: must be at least 1")
    from attnlab.bench import attention, startup

    environment = attention.machine("float32") | {"command": sys.argv}
    log = lambda line: print(f"attnlab: {line}", file=sys.stderr, flush=True)  # noqa: E731
    starts = startup.bench(options.configs or startup.EXPERIMENTS, options.rounds, log)
    if options.json:
        print(startup.as_json(starts, environment))
    else:
        Console(width=None if sys.stdout.isatty() else startup.WIDTH).print(startup.table(starts))
    return 0


def _gpu(options: argparse.Namespace) -> int:
    if not 0 < options.minutes < 1e4:
        raise UserError(f"--minutes {options.minutes:g}: must be above 0 and below 10000, e.g. 8")
    parts = cases.names_of("--parts", options.parts, GPU_PARTS) if options.parts else GPU_PARTS
    data_dir = data_dir_of(options)
    if options.into is not None:
        marked_text.between(options.into, "gpu")  # reports an unusable file before anything is measured
    from attnlab.bench import gpu

    gpu.bench(options.minutes, parts, options.out, options.into, data_dir, options.tiny, options.restart)
    return 0


def _plan(options: argparse.Namespace) -> cases.Plan:
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

"""`attnlab bench startup`: how long commands take to start, with an empty and with a filled compilation cache.

Each command runs in a process of its own, as in a terminal. In every round a short training (see `STEPS`), `predict`,
`show` and `evaluate` run with an empty cache directory each, and then once more with the directory filled by the first.
"""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.table import Table

from attnlab.config import Experiment
from attnlab.config.catalog import find_config
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.data.export import export
from attnlab.system import compilation_cache
from attnlab.system.cache_directory import VARIABLE

ROUNDS = 3
WIDTH = 120
"""Columns of a table that is written to a file or a pipe."""
STEPS = 20
"""Steps of the training, with an evaluation at the end: enough for batches of all shapes."""
EXPERIMENTS = tuple(
    Path("experiments") / f"{name}.yaml"
    for name in (
        "translation/dates_additive",
        "classification/synthetic_sentiment_additive",
        "story_qa/story_qa_1_memory",
        "extractive_qa/passages_bidaf",
        "captioning/scenes_soft",
        "visual_qa/scenes_cross_attention",
    )
)
"""One experiment of each task whose data are generated."""
COMMANDS = ("train", "predict", "show", "evaluate")
STAGES = ("import", "data", "trace", "compile")
"""The columns of stages; "trace" includes lowering, "compile" includes reading compiled programs from the cache."""
TEXTS: Mapping[str, Sequence[str]] = {
    "translation": ("Freitag, der siebenundzwanzigste März neunzehnhundertvierundachtzig",),
    "classification": ("a wonderful film with a dull ending",),
    "story_qa": ("Mary went to the kitchen. John went to the garden. Where is Mary?",),
    "extractive_qa": ("Ann moved to Rome in 1950. It rained.", "Where did Ann move?"),
    "captioning": (),
    "visual_qa": ("what color is the circle?",),
}
"""The text inputs of `show` for each task; tasks with images get a generated image before them."""


@dataclass(frozen=True)
class Start:
    """The times of one command, in seconds from its start.

    Attributes:
        experiment: name of the experiment.
        command: one of `COMMANDS`.
        cold: whether the compilation cache was empty.
        first_output: when the first character was printed, to standard output or error.
        first_loss: when the loss of the first training step was known; None for other commands.
        total: when the command ended.
        stages: seconds spent in each of `STAGES`. Seconds that two threads spend at once count once.
    """

    experiment: str
    command: str
    cold: bool
    first_output: float
    first_loss: float | None
    total: float
    stages: Mapping[str, float]


def bench(configs: Sequence[Path], rounds: int = ROUNDS, log: Callable[[str], None] = lambda line: None) -> list[Start]:
    """Measure the start of all commands for experiments with generated data.

    Args:
        configs: files of the experiments.
        rounds: number of times that everything is measured.
        log: called with a line after each command.

    Returns: the times of every command in every round.

    Raises:
        UserError: the data of an experiment are not generated, or a command failed.
    """
    experiments = {config: load(find_config(config)) for config in configs}
    starts = []
    with tempfile.TemporaryDirectory() as temporary:
        inputs = {
            config: _inputs(experiment, Path(temporary) / f"data-{number}")
            for number, (config, experiment) in enumerate(experiments.items())
        }
        for number in range(rounds):
            for place, (config, experiment) in enumerate(experiments.items()):
                directory = Path(temporary) / f"run-{place}-{number}"
                for start in _starts(config, experiment.name, inputs[config], directory):
                    starts.append(start)
                    temperature = "cold" if start.cold else "warm"
                    log(f"{experiment.name} {start.command}, {temperature}: {start.total:.1f} s")
    return starts


def table(starts: Sequence[Start]) -> Table:
    """Return a table of medians: a row for each experiment, command and state of the cache."""
    table = Table(title="Seconds from the start of a command (medians)", title_justify="left", box=None, pad_edge=False)
    for heading in ("experiment", "command", "cache"):
        table.add_column(heading, no_wrap=True)
    for heading in ("first output", "first loss", "end", *STAGES):
        table.add_column(heading, justify="right")
    groups: dict[tuple[str, str, bool], list[Start]] = {}
    for start in starts:
        groups.setdefault((start.experiment, start.command, start.cold), []).append(start)
    for (experiment, command, cold), group in groups.items():
        losses = [start.first_loss for start in group if start.first_loss is not None]
        times = [
            median(start.first_output for start in group),
            median(losses) if losses else None,
            median(start.total for start in group),
            *(median(start.stages[stage] for start in group) for stage in STAGES),
        ]
        cells = ("" if seconds is None else f"{seconds:.1f}" for seconds in times)
        table.add_row(experiment, command, "empty" if cold else "filled", *cells)
    return table


def as_json(starts: Sequence[Start], environment: Mapping[str, Any]) -> str:
    """Return all times, with a description of the machine, as one line of JSON."""
    return json.dumps({"environment": environment, "starts": [asdict(start) for start in starts]})


def _inputs(experiment: Experiment, folder: Path) -> list[str]:
    """Return the arguments of `show` for the task of an experiment; raise `UserError` if its data are not generated."""
    export(experiment.task.data, folder, examples=1)
    pictures = sorted(folder.rglob("*.png"))
    return [*(str(path) for path in pictures[:1]), *TEXTS[experiment.task.kind]]


def _starts(config: Path, name: str, inputs: Sequence[str], directory: Path) -> Iterator[Start]:
    """Yield the times of all commands with an empty cache, then with the filled one."""
    line = "\t".join(inputs) + "\n"
    for cold in (True, False):
        run = directory / ("cold" if cold else "warm")
        limits = [f"training.{key}={STEPS}" for key in ("steps", "evaluate_every")]
        settings = [*limits, "training.optimizer.warmup_steps=0", "--out", str(run)]
        arguments: dict[str, list[str]] = {
            "train": [str(config), *settings],
            "predict": [str(run)],
            "show": [str(run), *inputs],
            "evaluate": [str(run)],
        }
        for command in COMMANDS:
            # Each command has its own cache directory, so that none finds what another one compiled.
            cache = directory / f"cache-{command}"
            yield _start(name, command, arguments[command], cold, cache, line if command == "predict" else "")


def _start(name: str, command: str, arguments: Sequence[str], cold: bool, cache: Path, text: str) -> Start:
    """Run a command and return its times."""
    cache.mkdir(parents=True, exist_ok=True)
    report = cache / "stages.jsonl"
    environment = {key: value for key, value in os.environ.items() if key not in compilation_cache.VARIABLES}
    environment |= {VARIABLE: str(cache), "PYTHONUNBUFFERED": "1"}
    begin, begin_epoch = time.perf_counter(), time.time()
    process = subprocess.Popen(
        [sys.executable, "-m", "attnlab.bench.startup_worker", str(report), str(begin_epoch), command, *arguments],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        writer = threading.Thread(target=_write, args=(process.stdin, text.encode()))
        writer.start()
        output = process.stdout.read(1)
        first_output = time.perf_counter() - begin
        output += process.stdout.read()
        process.wait()
        total = time.perf_counter() - begin
        writer.join()
    if process.returncode:
        lines = output.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"]
        raise UserError(f"bench startup: attnlab {command} {' '.join(arguments)}: {lines[-1]}")
    events = [json.loads(line) for line in report.read_text(encoding="utf-8").splitlines()]
    first_loss = next((end for stage, _, end in events if stage == "step"), None)
    stages = {stage: _union((end - seconds, end) for name, seconds, end in events if name == stage) for stage in STAGES}
    return Start(name, command, cold, first_output, first_loss, total, stages)


def _write(stream: Any, data: bytes) -> None:
    with suppress(BrokenPipeError), stream:  # a command that failed has closed its input
        stream.write(data)


def _union(spans: Iterator[tuple[float, float]]) -> float:
    """Return the length of the union of intervals.

    >>> _union(iter([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)]))
    4.0
    """
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(end - max(start, reached), 0.0)
        reached = max(reached, end)
    return total

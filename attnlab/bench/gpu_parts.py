"""The parts of `bench gpu`: each takes a budget, tells what it has as it goes, and returns when it is done or cut."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import attnlab
from attnlab.bench import attention, cases, pytest_record, training
from attnlab.bench.budget import Budget
from attnlab.bench.cases import Case, Peer, Shape
from attnlab.bench.results import Report
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.system.cores import cores

ROOT = Path(attnlab.__file__).resolve().parents[1]
TESTERS = 8
"""Most processes that test at once: compiling is the host's work."""
PEERS = ("plan", "jax.nn", "cudnn", "torch", "flex")
BLOCKS = ("2048x1024", "1024x1024", "1024x512", "512x512", "256x256")
AGAINST = ("cudnn", "torch", "flex", "jax.nn", "plan", f"block_sparse@{BLOCKS[0]}", "dense")
"""Whom ratios are taken against: the first of these that was timed."""
LENGTHS = (4096, 16384, 1024)
"""In this order: what is cut off is the least telling."""
TRAINED = ("multi30k_de_en_transformer", "dates_additive")
BUCKETS = 2
"""Shapes of batches in the comparison of training speed: each is compiled."""
DETERMINISTIC = "--xla_gpu_deterministic_ops=true --xla_gpu_exclude_nondeterministic_ops=true"
"""What a GPU must be told for a sum in scattered order to have the same bits twice."""


@dataclass(frozen=True)
class Setting:
    """What all parts are told."""

    environment: Mapping[str, Any]
    tiny: bool
    data_dir: Path | None
    tell: Callable[[str], None]

    @property
    def backend(self) -> str:
        """What jax runs on."""
        return self.environment["backend"]


Keep = Callable[[Mapping[str, Any]], None]
"""Is given what a part has so far, which is written."""


class BudgetExceeded(Exception):
    """Raised when the time budget is used up; results saved so far are valid. The message names what is missing."""


def conformance(setting: Setting, budget: Budget, keep: Keep, before: Mapping[str, Any]) -> None:
    """Run `pytest -m gpu`; a test that has not ended when time is up is not counted."""
    # Only files with such tests: others may need what this machine does not have.
    marked = [str(path) for path in sorted(ROOT.glob("tests/test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    if not marked:
        raise UserError("the tests are not here: run it in a checkout")
    options = ["-m", "gpu and not slow", "-k", "test_low_precision"] if setting.tiny else ["-m", "gpu"]
    if not setting.tiny and importlib.util.find_spec("xdist") is not None and cores() > 3:
        options += ["-n", str(min(TESTERS, cores() // 2))]
    plugin = ["-p", pytest_record.__name__, "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, *options, *marked]
    with tempfile.TemporaryDirectory() as temporary:
        lines = Path(temporary) / "tests.jsonl"
        lines.touch()
        environment = os.environ | {
            pytest_record.FILE: str(lines),
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.1",
        }
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=sys.stderr, start_new_session=True, text=True
        )
        code = _wait(process, budget)
        tests = [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]
    count = lambda outcome: sum(test["outcome"] == outcome for test in tests)  # noqa: E731
    failures = [{"test": test["test"], "why": test["why"]} for test in tests if test["outcome"] == "failed"]
    keep({"passed": count("passed"), "failed": len(failures), "skipped": count("skipped"), "failures": failures})
    if code is None:
        raise BudgetExceeded("the rest of the tests did not end in time")
    if not tests:
        raise UserError(f"pytest ended with code {code} and ran no test, see above")


def attend(setting: Setting, budget: Budget, keep: Keep, before: Mapping[str, Any]) -> None:
    """Measure attention beside cuDNN, PyTorch and FlexAttention, by length, variant and mode."""
    wanted = [
        Case(variant, mode, Shape(1, 1, length, 256) if variant == "additive" else Shape(1, 8, length, 64), "bfloat16")
        for length in LENGTHS
        for variant in cases.VARIANTS
        for mode in cases.MODES
    ]
    if setting.tiny:
        wanted = [Case(variant, "forward", Shape(1, 2, 32, 8), "bfloat16") for variant in ("causal", "additive")]
    _measure(setting, budget, keep, before, wanted, PEERS)


def blocks(setting: Setting, budget: Budget, keep: Keep, before: Mapping[str, Any]) -> None:
    """Measure which blocks of queries × keys suit this card (`functional/devices.py` holds what is chosen)."""
    wanted = [
        Case(variant, mode, Shape(1, 8, length, 64), "bfloat16")
        for variant, mode, length in (
            ("causal", "forward_backward", 4096), ("full", "forward", 16384), ("window", "forward", 16384),
            ("causal", "forward", 16384), ("full", "forward", 4096),
        )
    ]  # fmt: skip
    names = [f"block_sparse@{block}" for block in BLOCKS]
    if setting.tiny:
        wanted, names = [Case("causal", "forward", Shape(1, 2, 32, 8), "bfloat16")], ["block_sparse@16x16"]
    _measure(setting, budget, keep, before, wanted, [*names, "dense"])


def train(setting: Setting, budget: Budget, keep: Keep, before: Mapping[str, Any]) -> None:
    """Measure the speed of training beside the same model in PyTorch, on the same card."""
    found: dict[str, Any] = {name: one for name, one in before.items() if "why" not in one}
    names = [name for name in TRAINED if name not in found]
    for number, name in enumerate(names):
        path = ROOT / f"experiments/translation/{name}.yaml"
        if not path.is_file():
            raise UserError(f"{path} is not here: run it in a checkout")
        config = load(path, [] if setting.tiny else [f"training.buckets={BUCKETS}"], tiny=setting.tiny)
        source = getattr(getattr(config.task, "data", None), "train", None)
        there = not isinstance(source, str) or (setting.data_dir is not None and (setting.data_dir / source).is_file())
        setting.tell(f"{name}: {'its data' if there else 'made-up pairs'}")
        how = {"rounds": 1, "steps": 1} if setting.tiny else {"rounds": 8, "steps": 20}
        device = "gpu" if setting.backend != "cpu" else "cpu"
        try:
            part = budget.part(budget.left() / (len(names) - number))
            compared = training.compare(
                config, setting.data_dir, tell=setting.tell, device=device, made_up=not there, budget=part, **how
            )
        except UserError as error:
            found[name] = {"why": str(error)}
        else:
            found[name] = json.loads(compared.as_json()) | {"data": "its data" if there else "made-up pairs"}
        keep(found)


def resume(setting: Setting, budget: Budget, keep: Keep, before: Mapping[str, Any]) -> None:
    """Train once without a break, and once stopped and taken up again by a process of its own: are the bits the same?

    What one process compiled the others read from a cache: compiling twice may choose other kernels.
    """
    steps, evaluate = (40, 10) if setting.tiny else (200, 50)
    config = ROOT / "experiments/translation/dates_additive.yaml"
    with tempfile.TemporaryDirectory() as temporary:
        whole, broken = Path(temporary) / "whole", Path(temporary) / "broken"
        flags = os.environ.get("XLA_FLAGS", "") + (f" {DETERMINISTIC}" if setting.backend != "cpu" else "")
        environment = os.environ | {
            "XLA_FLAGS": flags.strip(),
            "JAX_COMPILATION_CACHE_DIR": str(Path(temporary) / "compiled"),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }

        def started(out: Path) -> subprocess.Popen[str]:
            lengths = [f"training.steps={steps}", f"training.evaluate_every={evaluate}", "training.buckets=1"]
            command = [sys.executable, "-m", "attnlab", "train", str(config), *lengths, "--tiny", "--out", str(out)]
            return subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                start_new_session=True,
            )  # fmt: skip

        setting.tell("training without a break")
        unbroken = _ended(started(whole), budget)
        setting.tell("training, to be stopped")
        process = started(broken)
        while process.poll() is None and budget.left() and not (broken / f"checkpoints/{evaluate}").is_dir():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _ended(process, budget, stopped=True)
        setting.tell("training, taken up again")
        resumed = _ended(started(broken), budget)
        at = re.search(r"going on from step (\d+)", resumed)
        if at is None:
            raise UserError("the training was at its end before it could be stopped")
        bits = [re.findall(r"sha256 ([0-9a-f]{64})", text)[-1] for text in (unbroken, resumed)]
        result = {"stopped_after": int(at[1]), "steps": steps, "same_bits": bits[0] == bits[1]}
        keep(result | {"loss_difference": _loss_difference(whole, broken)})


def _measure(
    setting: Setting,
    budget: Budget,
    keep: Keep,
    before: Mapping[str, Any],
    wanted: Sequence[Case],
    names: Sequence[str],
) -> None:
    """Measure the cases that were not measured before, and keep them beside those that were."""
    earlier = Report.of(before).results if before else ()
    measured = {result.case for result in earlier}
    left = [case for case in wanted if case not in measured]
    rounds = 2 if setting.tiny else 9
    environment = dict(setting.environment) | {"rounds": rounds}
    found = list(earlier)

    def show(result: Any) -> None:
        found.append(result)
        keep(Report(environment, tuple(found)).plain())

    with tempfile.TemporaryDirectory() as temporary:
        attention.benchmark(
            left, [Peer(name) for name in names], rounds, environment, AGAINST, Path(temporary), setting.tell, show,
            budget,
        )  # fmt: skip
    if len(found) < len(wanted):
        rest = [case for case in wanted if case not in {result.case for result in found}]
        raise BudgetExceeded(f"{len(rest)} of {len(wanted)} cases did not begin in time, {rest[0]} the first")


def _wait(process: subprocess.Popen[str], budget: Budget) -> int | None:
    """Wait for a process that leads a group of its own; end the group when time is up, and return None."""
    try:
        return process.wait(max(budget.left(), 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _ended(process: subprocess.Popen[str], budget: Budget, stopped: bool = False) -> str:
    """Wait for a training and return what it said."""
    try:
        said, _ = process.communicate(timeout=max(budget.left(), 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise BudgetExceeded("a training did not end in time") from None
    if process.returncode and not (stopped and process.returncode == 128 + signal.SIGTERM):
        last = said.strip().splitlines()[-1] if said.strip() else "it said nothing"
        raise UserError(f"attnlab train ended with code {process.returncode}: {last}")
    return said


def _loss_difference(one: Path, other: Path) -> float:
    """Return the largest difference of two runs' logged losses, relative to the loss."""
    logs = []
    for run in (one, other):
        entries = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        logs.append({entry["step"]: entry["loss"] for entry in entries if "loss" in entry})
    both = logs[0].keys() & logs[1].keys()
    return max((abs(logs[0][step] - logs[1][step]) / abs(logs[0][step]) for step in both), default=0.0)


PARTS: Mapping[str, tuple[float, Callable[[Setting, Budget, Keep, Mapping[str, Any]], None]]] = {
    "conformance": (130.0, conformance),
    "attention": (150.0, attend),
    "training": (110.0, train),
    "resume": (70.0, resume),
    "blocks": (20.0, blocks),
}
"""In their order, each with its share of the time; what one leaves over goes to those after it."""

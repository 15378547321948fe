"""The parts of `bench gpu`.

Each saves intermediate results, returns when it is complete, and raises `BudgetExceeded` when its time is used up.
"""

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
from attnlab.config import Dates, Experiment, Tsv
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.system.cores import cores

ROOT = Path(attnlab.__file__).resolve().parents[1]
MAX_TEST_PROCESSES = 8
"""Largest number of parallel test processes; compilation runs on the host."""
PEERS = ("plan", "jax.nn", "cudnn", "torch", "flex")
BLOCKS = ("2048x1024", "1024x1024", "1024x512", "512x512", "256x256")
AGAINST = ("cudnn", "torch", "flex", "jax.nn", "plan", f"block_sparse@{BLOCKS[0]}", "dense")
"""Baselines of the ratios: the first of these that was timed."""
LENGTHS = (4096, 16384, 1024)
"""In order of importance, because the last cases are cut when the time is used up."""
TRAINED = ("multi30k_de_en_transformer", "dates_additive")
BUCKETS = 2
"""Number of batch shapes in the comparison of training speed; each is compiled."""
DETERMINISTIC = "--xla_gpu_deterministic_ops=true --xla_gpu_exclude_nondeterministic_ops=true"
"""XLA flags that make scattered sums on a GPU reproducible bit for bit."""


@dataclass(frozen=True)
class Setting:
    """Settings shared by all parts."""

    environment: Mapping[str, Any]
    tiny: bool
    data_dir: Path | None
    log: Callable[[str], None]

    @property
    def backend(self) -> str:
        """Backend of jax."""
        return self.environment["backend"]


SaveResult = Callable[[Mapping[str, Any]], None]
"""Saves the results of a part so far."""


class BudgetExceeded(Exception):
    """Raised when the time budget is used up; results saved so far are valid. The message names the missing ones."""


def conformance(setting: Setting, budget: Budget, save_result: SaveResult, before: Mapping[str, Any]) -> None:
    """Run `pytest -m gpu`; tests that do not finish within the budget are not counted."""
    # Only the files with such tests: collecting others may fail where their dependencies are missing.
    marked = [str(path) for path in sorted(ROOT.glob("tests/test_*.py")) if "mark.gpu" in path.read_text("utf-8")]
    if not marked:
        raise UserError("the tests are not installed: run it in a checkout")
    options = ["-m", "gpu and not slow", "-k", "test_low_precision"] if setting.tiny else ["-m", "gpu"]
    if not setting.tiny and importlib.util.find_spec("xdist") is not None and cores() > 3:
        options += ["-n", str(min(MAX_TEST_PROCESSES, cores() // 2))]
    plugin = ["-p", pytest_record.__name__, "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, *options, *marked]
    with tempfile.TemporaryDirectory() as temporary:
        lines = Path(temporary) / "tests.jsonl"
        lines.touch()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
        environment = inherited | {
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
    failures = [{"test": test["test"], "reason": test["reason"]} for test in tests if test["outcome"] == "failed"]
    save_result({"passed": count("passed"), "failed": len(failures), "skipped": count("skipped"), "failures": failures})
    if code is None:
        raise BudgetExceeded("the remaining tests did not finish in time")
    if not tests:
        raise UserError(f"pytest ended with code {code} and ran no test, see above")


def compare_attention(setting: Setting, budget: Budget, save_result: SaveResult, before: Mapping[str, Any]) -> None:
    """Compare attention with cuDNN, PyTorch and FlexAttention for every length, variant and mode."""
    selected = [
        Case(variant, mode, Shape(1, 1, length, 256) if variant == "additive" else Shape(1, 8, length, 64), "bfloat16")
        for length in LENGTHS
        for variant in cases.VARIANTS
        for mode in cases.MODES
    ]
    if setting.tiny:
        selected = [Case(variant, "forward", Shape(1, 2, 32, 8), "bfloat16") for variant in ("causal", "additive")]
    _measure(setting, budget, save_result, before, selected, PEERS)


def blocks(setting: Setting, budget: Budget, save_result: SaveResult, before: Mapping[str, Any]) -> None:
    """Compare block sizes of `block_sparse` on this card (`functional/backends/tuning.py` holds the chosen ones)."""
    selected = [
        Case(variant, mode, Shape(1, 8, length, 64), "bfloat16")
        for variant, mode, length in (
            ("causal", "forward_backward", 4096), ("full", "forward", 16384), ("window", "forward", 16384),
            ("causal", "forward", 16384), ("full", "forward", 4096),
        )
    ]  # fmt: skip
    names = [f"block_sparse@{block}" for block in BLOCKS]
    if setting.tiny:
        selected, names = [Case("causal", "forward", Shape(1, 2, 32, 8), "bfloat16")], ["block_sparse@16x16"]
    _measure(setting, budget, save_result, before, selected, [*names, "dense"])


def train(setting: Setting, budget: Budget, save_result: SaveResult, before: Mapping[str, Any]) -> None:
    """Compare training speed with the same model in PyTorch on the same card."""
    results: dict[str, Any] = {name: result for name, result in before.items() if "reason" not in result}
    names = [name for name in TRAINED if name not in results]
    for number, name in enumerate(names):
        path = ROOT / f"experiments/translation/{name}.yaml"
        if not path.is_file():
            raise UserError(f"{path} is missing: run it in a checkout")
        config = load(path, [] if setting.tiny else [f"training.buckets={BUCKETS}"], tiny=setting.tiny)
        data = "real data" if _has_data(config, setting.data_dir) else "synthetic pairs"
        setting.log(f"{name}: {data}")
        size = {"rounds": 1, "steps": 1} if setting.tiny else {"rounds": 8, "steps": 20}
        device = "gpu" if setting.backend != "cpu" else "cpu"
        try:
            part = budget.part(budget.left() / (len(names) - number))
            comparison = training.compare(
                config, setting.data_dir, log=setting.log, device=device, synthetic=data != "real data", budget=part,
                **size,
            )  # fmt: skip
        except UserError as error:
            results[name] = {"reason": str(error)}
        else:
            results[name] = json.loads(comparison.as_json()) | {"data": data}
        save_result(results)


def _has_data(config: Experiment, data_dir: Path | None) -> bool:
    """Return whether the training data of a translation experiment are generated or in the data directory."""
    data = config.task.data
    if isinstance(data, Tsv):
        return data_dir is not None and (data_dir / data.train).is_file()
    return isinstance(data, Dates)


def resume(setting: Setting, budget: Budget, save_result: SaveResult, before: Mapping[str, Any]) -> None:
    """Check that a training that is stopped and resumed ends with the same bits as an uninterrupted one.

    The processes share a compilation cache, because a second compilation may choose other kernels.
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

        def start(out: Path) -> subprocess.Popen[str]:
            lengths = [f"training.steps={steps}", f"training.evaluate_every={evaluate}", "training.buckets=1"]
            command = [sys.executable, "-m", "attnlab", "train", str(config), *lengths, "--tiny", "--out", str(out)]
            return subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                start_new_session=True,
            )  # fmt: skip

        setting.log("training without an interruption")
        unbroken = _wait_for_training(start(whole), budget)
        setting.log("training that will be stopped")
        process = start(broken)
        while process.poll() is None and budget.left() and not (broken / f"checkpoints/{evaluate}").is_dir():
            time.sleep(0.01)
        process.send_signal(signal.SIGTERM)
        _wait_for_training(process, budget, stopped=True)
        setting.log("training that resumes")
        resumed = _wait_for_training(start(broken), budget)
        resumed_at = re.search(r"resuming from step (\d+)", resumed)
        if resumed_at is None:
            raise UserError("the training finished before it could be stopped")
        bits = [re.findall(r"sha256 ([0-9a-f]{64})", text)[-1] for text in (unbroken, resumed)]
        result = {"stopped_after": int(resumed_at[1]), "steps": steps, "same_bits": bits[0] == bits[1]}
        save_result(result | {"loss_difference": _loss_difference(whole, broken)})


def _measure(
    setting: Setting,
    budget: Budget,
    save_result: SaveResult,
    before: Mapping[str, Any],
    selected: Sequence[Case],
    names: Sequence[str],
) -> None:
    """Measure the cases that have no results yet, and save them together with the earlier ones."""
    earlier = Report.of(before).results if before else ()
    measured = {result.case for result in earlier}
    remaining = [case for case in selected if case not in measured]
    rounds = 2 if setting.tiny else 9
    environment = dict(setting.environment) | {"rounds": rounds}
    results = list(earlier)

    def on_result(result: Any) -> None:
        results.append(result)
        save_result(Report(environment, tuple(results)).to_json())

    with tempfile.TemporaryDirectory() as temporary:
        attention.benchmark(
            remaining, [Peer(name) for name in names], rounds, environment, AGAINST, Path(temporary), setting.log,
            on_result, budget,
        )  # fmt: skip
    missing = [case for case in selected if case not in {result.case for result in results}]
    if missing:
        raise BudgetExceeded(f"{len(missing)} of {len(selected)} cases did not start in time, from {missing[0]} on")


def _wait(process: subprocess.Popen[str], budget: Budget) -> int | None:
    """Return the exit code of a process-group leader, or kill its group when the budget is used up and return None."""
    try:
        return process.wait(max(budget.left(), 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None


def _wait_for_training(process: subprocess.Popen[str], budget: Budget, stopped: bool = False) -> str:
    """Wait for a training to end and return its output."""
    try:
        output, _ = process.communicate(timeout=max(budget.left(), 0.1))
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        raise BudgetExceeded("a training did not finish in time") from None
    if process.returncode and not (stopped and process.returncode == 128 + signal.SIGTERM):
        last = output.strip().splitlines()[-1] if output.strip() else "no output"
        raise UserError(f"attnlab train ended with code {process.returncode}: {last}")
    return output


def _loss_difference(first: Path, second: Path) -> float:
    """Return the largest relative difference between the logged losses of two runs."""
    logs = []
    for run in (first, second):
        entries = map(json.loads, (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines())
        logs.append({entry["step"]: entry["loss"] for entry in entries if "loss" in entry})
    steps = logs[0].keys() & logs[1].keys()
    return max((abs(logs[0][step] - logs[1][step]) / abs(logs[0][step]) for step in steps), default=0.0)


PARTS: Mapping[str, tuple[float, Callable[[Setting, Budget, SaveResult, Mapping[str, Any]], None]]] = {
    "conformance": (130.0, conformance),
    "attention": (150.0, compare_attention),
    "training": (110.0, train),
    "resume": (70.0, resume),
    "blocks": (20.0, blocks),
}
"""The parts in their order, each with its share of the time; unused time goes to the parts after it."""

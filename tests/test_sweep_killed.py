"""A sweep that is killed twice goes on; every run is bit-identical to the same training alone, and compiled once."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from attnlab.results import lock
from attnlab.results.run_files import read_metrics

ROOT = Path(__file__).parents[1]
SENTIMENT = ROOT / "experiments/classification/synthetic_sentiment_uniform.yaml"
STEPS = ["training.steps=400", "training.evaluate_every=20", "--tiny"]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "attnlab", *command],
        env={**os.environ, **environment}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def wait(condition: Callable[[], object], seconds: float = 300) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happens"
        time.sleep(0.05)


def step(run: Path) -> int:
    return max((entry["step"] for entry in read_metrics(run, lambda line: None)), default=0)


def parameters(log: str) -> list[str]:
    """The fingerprints that a training printed last."""
    return re.findall(r"parameters after step 400: sha256 (\w{64})", log)[-1:]


@pytest.mark.slow
def test_a_sweep_that_is_killed_twice(tmp_path: Path):
    out, cache = tmp_path / "seeds", tmp_path / "cache"
    first, second, third = (out / f"synthetic_sentiment_uniform-tiny-s{seed}" for seed in (1, 2, 3))
    command = ["sweep", str(SENTIMENT), *STEPS, "--seeds", "1-3", "--jobs", "1", "--out", str(out)]

    killed = start(command, JAX_COMPILATION_CACHE_DIR=str(cache))
    wait(lambda: step(second) >= 20)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    wait(lambda: not lock.is_held(second / lock.LOCK))  # its job saves its state and ends
    compiled = {path.name for path in cache.iterdir() if path.name.startswith("jit_step")}
    assert compiled
    stopped_at = step(second)
    assert 20 <= stopped_at < 400
    finished = {path: path.stat().st_mtime_ns for path in first.rglob("*")}
    assert (first / "results.json") in finished

    stopped = start(command, JAX_COMPILATION_CACHE_DIR=str(cache))
    wait(lambda: step(third) >= 20)
    stopped.send_signal(signal.SIGTERM)
    _, error = stopped.communicate()
    assert stopped.returncode == 128 + signal.SIGTERM
    assert "stopped; the state of every run was saved" in error
    assert not lock.is_held(third / lock.LOCK), "no job is left"

    _, error = start(command, JAX_COMPILATION_CACHE_DIR=str(cache)).communicate()
    assert "3 of 3 runs done" in error
    assert {path: path.stat().st_mtime_ns for path in first.rglob("*")} == finished
    assert {path.name for path in cache.iterdir() if path.name.startswith("jit_step")} == compiled
    for run in (second, third):
        (resumed,) = json.loads((run / "environment.json").read_text())["interruptions"]
        assert resumed["step"] >= 20
        alone = ["train", str(SENTIMENT), *STEPS, "--seed", run.name[-1], "--out", str(tmp_path / run.name)]
        _, printed = start(alone, JAX_COMPILATION_CACHE_DIR=str(cache), JAX_NUM_CPU_DEVICES="1").communicate()
        log = (out / "logs" / f"{run.name}.log").read_text()
        assert parameters(log) == parameters(printed) != []

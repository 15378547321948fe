"""The cache of compiled programs: what a second process need not compile, and that no damage reaches a command."""

import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from attnlab.system import compilation_cache
from attnlab.system.cache_directory import VARIABLE, cache_directory

PROGRAM = """
import resource, sys
from attnlab.cli.host import prepare_host
prepare_host()
if len(sys.argv) > 1:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
import jax, jax.numpy as jnp
hits = []
jax.monitoring.register_event_listener(lambda name, **_: name.endswith("/cache_hits") and hits.append(name))
function = jax.jit(lambda a: jnp.linalg.qr(jnp.tanh(a @ a))[1].sum())
print(float(function(jnp.eye(3))).hex(), len(hits) > 0)
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """The environment of a user, whose cache is empty."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    return kept | {VARIABLE: str(tmp_path / "cache"), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0"}


def start(environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", PROGRAM, *arguments]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def run(environment: dict[str, str], *arguments: str) -> tuple[str, bool]:
    """Return the result of the program and whether it found a compiled program; nothing may be said on stderr."""
    return result_of(start(environment, *arguments))


def result_of(process: subprocess.Popen) -> tuple[str, bool]:
    out, err = process.communicate(timeout=600)
    assert (process.returncode, err) == (0, "")
    value, hit = out.split()
    return value, hit == "True"


def entries(environment: dict[str, str]) -> list[Path]:
    return [path for path in Path(environment[VARIABLE]).rglob("*") if path.is_file()]


def test_a_second_process_compiles_nothing(environment):
    value, hit = run(environment)
    assert not hit
    kept = {path: path.read_bytes() for path in entries(environment)}
    assert kept
    assert run(environment) == (value, True)
    assert {path: path.read_bytes() for path in entries(environment)} == kept


slow = pytest.mark.slow


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        pytest.param(lambda data: b"", marks=slow),
        pytest.param(bytes.swapcase, marks=slow),
    ],
)
def test_damaged_entries_are_replaced(environment, damage):
    value, _ = run(environment)
    for path in entries(environment):
        path.write_bytes(damage(path.read_bytes()))
        os.utime(path, (time.time() - 3600,) * 2)
    assert run(environment)[0] == value
    assert run(environment) == (value, True)


@slow
def test_what_another_process_may_be_writing_is_not_deleted(environment):
    value, _ = run(environment)
    half = {path: path.read_bytes()[:100] for path in entries(environment)}
    for path, data in half.items():
        path.write_bytes(data)
    assert run(environment) == (value, False)
    assert {path: path.read_bytes() for path in entries(environment)} == half


@slow
def test_a_full_disk_costs_the_time_of_compiling(environment):
    value, _ = run(environment, "1000")
    for path in entries(environment):
        os.utime(path, (time.time() - 3600,) * 2)
    run(environment)
    assert run(environment) == (value, True)


@pytest.fixture
def of_a_user(monkeypatch, tmp_path) -> None:
    """Set this process's environment to that of a user."""
    monkeypatch.setattr(os, "environ", {VARIABLE: str(tmp_path)})
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


@pytest.mark.parametrize("place", ["/dev/null", "/proc/nowhere"])
def test_a_directory_that_cannot_be_made_is_done_without(of_a_user, place):
    os.environ[VARIABLE] = place
    before = dict(os.environ)
    assert compilation_cache.use_compilation_cache() is None
    assert os.environ == before


@pytest.mark.parametrize("name", ["JAX_ENABLE_COMPILATION_CACHE", "JAX_COMPILATION_CACHE_DIR"])
def test_the_variables_of_jax_come_first(of_a_user, name):
    os.environ[name] = "as the user said"
    before = dict(os.environ)
    assert compilation_cache.use_compilation_cache() is None
    assert os.environ == before


def test_a_cache_of_another_processor_is_not_used(of_a_user, monkeypatch):
    here = compilation_cache.use_compilation_cache()
    del os.environ["JAX_COMPILATION_CACHE_DIR"]
    monkeypatch.setattr(compilation_cache, "processor", lambda: "other")
    there = compilation_cache.use_compilation_cache()
    assert here.parent == there.parent == cache_directory() / "compiled"
    assert here != there


def test_the_least_recently_used_files_are_deleted(tmp_path):
    for age in range(5):
        path = tmp_path / "processor" / f"{age}-cache"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * 100)
        os.utime(path, (time.time() - 3600 * age, time.time() - 3600 * 24))
    compilation_cache.prune(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.rglob("*-cache")) == ["0-cache", "1-cache"]
    compilation_cache.prune(tmp_path, 200)
    assert sorted(path.name for path in tmp_path.rglob("*-cache")) == ["0-cache", "1-cache"]


@slow
def test_twenty_processes_at_once_on_an_empty_cache(environment):
    results = {result_of(process)[0] for process in [start(environment) for _ in range(20)]}
    assert len(results) == 1
    assert run(environment)[1]


TRAINING = """
import signal, sys
from attnlab.cli.host import prepare_host
prepare_host()
from attnlab import cli, lab
from attnlab.training.signals import Interrupted
left = int(sys.argv[1])
class Stop:
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
    def poll(self):
        global left
        left -= 1
        if left < 0:
            raise Interrupted(signal.SIGINT)
if left:
    lab.training.graceful_shutdown = Stop
sys.exit(cli.main(["train", *sys.argv[2:], "--tiny"]))
"""
"""Trains; interrupted at the n-th poll if the first argument is not 0."""


@slow
@pytest.mark.parametrize("cache", ["filled", "deleted", "off"])
def test_a_resumed_training_ends_with_the_same_bits_whatever_is_in_the_cache(environment, tmp_path, cache):
    def train(name: str, polls: int) -> str:
        config = "experiments/translation/dates_additive.yaml"
        command = [sys.executable, "-c", TRAINING, str(polls), config, "--out", str(tmp_path / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == (130 if polls else 0), done.stderr
        return done.stderr

    unbroken = re.findall(r"sha256 (\w{64})", train("whole", 0))
    train("broken", 7)
    if cache == "deleted":
        shutil.rmtree(environment[VARIABLE])
    if cache == "off":
        environment["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    resumed = train("broken", 0)
    assert "resuming from step" in resumed
    assert unbroken == re.findall(r"sha256 (\w{64})", resumed)
    assert len(unbroken) == 1

"""`bench gpu`: parts within a budget, saved as they complete; and the whole command on a CPU."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from attnlab import cli
from attnlab.bench import attention, gpu, gpu_parts, gpu_record, peers, pytest_record
from attnlab.bench.attention_worker import Server
from attnlab.bench.budget import Budget, unlimited
from attnlab.bench.cases import Case, Peer, Shape
from attnlab.bench.gpu_record import Part, Record
from attnlab.bench.process import ProcessEnded, start_worker
from attnlab.bench.ready import Ready, Refusal
from attnlab.bench.results import Outcome, Report, Result
from attnlab.cli import bench
from attnlab.config.errors import UserError
from attnlab.results import marked_text

ROOT = Path(__file__).parents[1]
ENVIRONMENT: dict[str, Any] = {
    "backend": "gpu", "devices": ["gpu: NVIDIA H100 80GB HBM3"], "commit": "0123456789abcdef", "dirty": False,
    "packages": {"jax": "0.11.2", "torch": "2.11.0"}, "source": "s", "begun": "today",
}  # fmt: skip
TESTED = {"passed": 3, "failed": 1, "skipped": 0, "failures": [{"test": "tests/a.py::test_b[c]", "reason": "1 != 2"}]}


def measured() -> dict[str, Any]:
    case = Case("causal", "forward", Shape(1, 8, 4096, 64), "bfloat16")
    outcomes = (
        Outcome("plan", "jax", (2e-3,) * 3),
        Outcome("cudnn", "jax", (1e-3,) * 3),
        Outcome("torch", "", reason="no"),
    )
    return json.loads(json.dumps(Report({"rounds": 3}, (Result(case, outcomes, "cudnn"),)).to_json()))


def test_a_part_of_a_budget_ends_with_the_whole():
    whole = Budget(0.05)
    part = whole.part(60.0)
    assert 0.0 < part.left() <= 0.05
    assert whole.part(0.01).left() <= 0.01
    time.sleep(0.06)
    assert part.left() == whole.left() == 0.0
    assert whole.spent() >= 0.06
    assert unlimited().part(5.0).left() > 4.0
    assert unlimited().left() == float("inf")


# What is written


def test_a_record_is_named_after_its_card_and_read_back(tmp_path):
    record = Record(ENVIRONMENT, 8.0, {"conformance": Part("done", "", 61.5, TESTED)})
    path = record.save(tmp_path / "new")
    assert path == tmp_path / "new/nvidia_h100_80gb_hbm3.json"
    assert gpu_record.read(path) == record
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.write_text("[]")
    with pytest.raises(UserError, match="is not a record of attnlab bench gpu"):
        gpu_record.read(path)


def test_a_record_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be written"):
        Record(ENVIRONMENT, 8.0).save(tmp_path / "file")


def test_the_page_has_the_outcome_of_each_part(tmp_path):
    trained = {"ratio": 1.5, "jax_tokens_per_second": 12345.6, "data": "synthetic pairs"}
    parts = {
        "conformance": Part("cut", "the rest did not end in time", 61.5, TESTED),
        "attention": Part("done", "", 10.0, measured()),
        "training": Part("done", "", 5.0, {"a": trained, "b": {"reason": "no PyTorch"}}),
        "resume": Part("done", "", 5.0, {"same_bits": True, "stopped_after": 51, "loss_difference": 0.0}),
        "blocks": Part("skipped", "time budget used up"),
    }
    Record(ENVIRONMENT, 8.0, parts).save(tmp_path)
    page = gpu_record.page(tmp_path)
    assert "### NVIDIA H100 80GB HBM3" in page
    assert "Commit 0123456789, jax 0.11.2, torch 2.11.0, started today." in page
    assert "| conformance | cut; 3 passed, 1 failed (`test_b[c]`); the rest did not end in time | 62 |" in page
    assert "| attention | 1 case | 10 |" in page
    assert "`a` (synthetic pairs): 1.50 times PyTorch's speed, 12,346 target tokens/s; `b`: no PyTorch" in page
    assert "| resume | stopped after step 51; final parameters identical bit for bit | 5 |" in page
    assert "| blocks | skipped; time budget used up | 0 |" in page
    assert "| causal 1,8,4096,64 | cudnn 1.00 | 2.00 | 1.00 | — <sup>1</sup> |" in page
    parts["resume"].result = {"same_bits": False, "loss_difference": 2e-7}
    Record(ENVIRONMENT, 8.0, parts).save(tmp_path)
    assert "final parameters differ; largest relative difference of logged losses 2.0e-07" in gpu_record.page(tmp_path)


def test_the_page_of_the_docs_agrees_with_the_records():
    assert marked_text.between(ROOT / "docs/performance.md", "gpu") == gpu_record.page(ROOT / "docs/results/gpu"), (
        "make gpu"
    )


@pytest.mark.parametrize(
    ("change", "reused"), [({}, {"conformance", "attention"}), ({"commit": "other"}, {"conformance", "attention"}),
                          ({"source": "other"}, set()), ({"packages": {"jax": "0.12"}}, set())],
)  # fmt: skip
def test_parts_of_the_same_source_are_reused(change, reused, tmp_path):
    parts = {"conformance": Part("done"), "attention": Part("cut", "time"), "resume": Part("failed", "reason")}
    Record(ENVIRONMENT, 8.0, parts).save(tmp_path)
    later = Record(ENVIRONMENT | change, 8.0)
    later.restore(tmp_path)
    assert set(later.parts) == reused


# What is run


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run the command with the parts of a test on a simulated card."""

    def run(parts: dict[str, Any], minutes: float = 1.0, restart: bool = False) -> Record:
        monkeypatch.setattr(gpu, "PARTS", {name: (1.0, part) for name, part in parts.items()})
        monkeypatch.setattr(attention, "machine", lambda dtype: ENVIRONMENT)
        page = tmp_path / "page.md"
        page.write_text("before\n{}\n{}\nafter\n".format(*marked_text.pair("gpu")))
        path = gpu.bench(minutes, list(parts), tmp_path, page, None, restart=restart)
        assert marked_text.between(page, "gpu") == gpu_record.page(tmp_path)
        assert page.read_text().endswith("after\n")
        return gpu_record.read(path)

    return run


def test_one_part_that_fails_leaves_the_others(run, capsys):
    def good(setting, budget, keep, before):
        keep({"results": [1, 2]})

    def mistaken(setting, budget, keep, before):
        raise UserError("no PyTorch")

    def broken(setting, budget, keep, before):
        keep({"results": [1]})
        raise ZeroDivisionError("by zero")

    def cut(setting, budget, keep, before):
        keep({"results": [1]})
        raise gpu_parts.BudgetExceeded("1 is missing")

    parts = run({"mistaken": mistaken, "broken": broken, "cut": cut, "good": good}).parts
    outcomes = {name: (part.status, part.reason, len(part.result.get("results", ()))) for name, part in parts.items()}
    assert outcomes == {
        "mistaken": ("failed", "no PyTorch", 0),
        "broken": ("failed", "ZeroDivisionError: by zero", 1),
        "cut": ("cut", "1 is missing", 1),
        "good": ("done", "", 2),
    }
    assert "by zero" in capsys.readouterr().err


def test_intermediate_results_are_saved_before_a_part_ends(run, tmp_path):
    def killed(setting, budget, keep, before):
        keep({"results": [1]})
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run({"first": lambda *_: None, "killed": killed})
    (path,) = tmp_path.glob("*.json")
    parts = gpu_record.read(path).parts
    assert parts["first"].status == "done"
    assert (parts["killed"].status, parts["killed"].result) == ("cut", {"results": [1]})
    assert parts["killed"].reason == "interrupted"


def test_no_part_starts_when_the_time_is_used_up(run):
    started = []
    parts = run({"late": lambda *_: started.append(1)}, minutes=0.01).parts
    assert (parts["late"].status, parts["late"].reason, started) == ("skipped", "time budget used up", [])


def test_the_same_command_resumes_with_the_missing_parts(run):
    seen = []

    def done(setting, budget, keep, before):
        seen.append("done")
        keep({"results": [1]})

    def cut(setting, budget, keep, before):
        seen.append(dict(before))
        keep({"results": [*before.get("results", ()), 1]})
        raise gpu_parts.BudgetExceeded("more is missing")

    run({"done": done, "cut": cut})
    again = run({"done": done, "cut": cut}).parts
    assert seen == ["done", {}, {"results": [1]}]
    assert (again["done"].result, again["cut"].result) == ({"results": [1]}, {"results": [1, 1]})
    assert run({"done": done, "cut": cut}, restart=True).parts["cut"].result == {"results": [1]}


def test_unused_time_goes_to_the_later_parts(run):
    budgets = []
    parts = {name: lambda setting, budget, keep, before: budgets.append(budget.left()) for name in "abc"}
    run(parts, minutes=1.0)
    assert budgets == pytest.approx([20.0, 30.0, 60.0], abs=2.0)


def test_a_case_that_was_measured_is_not_measured_again(monkeypatch):
    left: list[Case] = []

    def benchmark(cases, peers, rounds, environment, against, directory, log, on_result, budget):
        left.extend(cases)

    monkeypatch.setattr(attention, "benchmark", benchmark)
    setting = gpu_parts.Setting(ENVIRONMENT, False, None, print)
    with pytest.raises(gpu_parts.BudgetExceeded, match="35 of 36 cases did not start in time"):
        gpu_parts.compare_attention(setting, unlimited(), lambda result: None, measured())
    assert len(left) == 35
    assert {case.variant for case in left} == set(gpu_parts.cases.VARIANTS)
    assert {case.shape.length for case in left} == {1024, 4096, 16384}
    assert {case.dtype for case in left} == {"bfloat16"}


def test_no_case_starts_when_the_time_is_used_up(tmp_path):
    lines: list[str] = []
    case = Case("full", "forward", Shape(1, 1, 8, 4), "float32")
    report = attention.benchmark(
        [case, case], [Peer("plan")], 3, {"backend": "cpu"}, (), tmp_path, lines.append, print, Budget(0.0)
    )
    assert (report.results, lines) == ((), ["time budget used up: 2 of 2 cases were not run"])


def test_a_training_that_does_not_finish_in_time_is_killed():
    command = [sys.executable, "-c", "import time; print('begun', flush=True); time.sleep(60)"]
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "text": True, "start_new_session": True}
    process = subprocess.Popen(command, **pipes)
    with pytest.raises(gpu_parts.BudgetExceeded, match="did not finish in time"):
        gpu_parts._wait_for_training(process, Budget(0.3))
    assert process.returncode == -9
    failing = subprocess.Popen([sys.executable, "-c", "print('why'); exit(3)"], **pipes)
    with pytest.raises(UserError, match="ended with code 3: why"):
        gpu_parts._wait_for_training(failing, Budget(60.0))


def test_a_process_that_is_too_slow_is_killed_and_reported():
    start = time.monotonic()
    with (
        pytest.raises(ProcessEnded, match="no response within 0 s"),
        start_worker("timeit", ["-s", "", "while 1: 0"], {}, 0.3),
    ):
        pass
    assert time.monotonic() - start < 30


# Limits and timing on a GPU


@pytest.mark.parametrize("length", [4096, 16384])
@pytest.mark.parametrize(
    ("peer", "variant", "refused"),
    [("jax.nn", "full", True), ("dense", "full", True), ("cudnn", "alibi", True), ("cudnn", "full", False),
     ("plan", "full", False), ("block_sparse@512x512", "causal", False)],
)  # fmt: skip
def test_16k_times_16k_is_not_materialized(peer, variant, refused, length):
    case = Case(variant, "forward", Shape(1, 8, length, 64), "bfloat16")
    if refused and length == 16384:
        with pytest.raises(Refusal, match=r"would materialize (logits|a bias) of (8\.6|4\.3) GB"):
            peers._refuse_large_logits(Peer(peer), case)
    else:
        peers._refuse_large_logits(Peer(peer), case)


@pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `bench` is not installed")
def test_pytorch_materializes_no_bias_of_16k_times_16k():
    from attnlab.bench.torch_attention import _mask_or_bias, additive

    case = Case("alibi", "forward", Shape(1, 8, 16384, 64), "bfloat16")
    with pytest.raises(Refusal, match=r"a bias of 4\.3 GB"):
        _mask_or_bias(case, "cuda")
    with pytest.raises(Refusal, match="needs"):
        additive(Case("additive", "forward", Shape(1, 1, 4096, 256), "bfloat16"), "cuda")


def test_calls_are_queued_on_a_gpu_and_waited_for_once(monkeypatch):
    case = Case("causal", "forward", Shape(1, 2, 8, 4), "float32")
    from attnlab.bench import reference

    arrays = reference.draw(case)
    assert peers.prepare(Peer("dense"), case, arrays, arrays["cotangent"]).seconds is None
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    ready = peers.prepare(Peer("block_sparse@4x4"), case, arrays, arrays["cotangent"])
    assert ready.seconds is not None
    assert 0.0 < ready.seconds(3) < 60.0
    assert ready.peak_bytes() is None


def test_a_turn_is_timed_by_the_device_where_possible():
    calls: list[int] = []

    def seconds(count: int) -> float:
        calls.append(count)
        return 2.0 * count

    server = Server(Peer("plan"), lambda *_: None)  # pyright: ignore[reportArgumentType]
    server._ready = Ready(lambda: None, dict, lambda: 7, seconds=seconds)
    assert server.handle({"turn": True}) == {"seconds": 2.0}
    assert calls[0] > 1, "a function that takes no time is called several times"
    assert server.handle({"peak": True}) == {"peak_bytes": 7}


# Tests that are counted as they end


def test_a_test_is_written_down_once_when_it_ends(tmp_path, monkeypatch):
    monkeypatch.setenv(pytest_record.FILE, str(tmp_path / "tests"))
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    report = lambda when, outcome, reason=None: SimpleNamespace(  # noqa: E731
        nodeid="a", when=when, outcome=outcome, longrepr=reason
    )
    crash = SimpleNamespace(reprcrash=SimpleNamespace(message="assert 1 == 2"))
    for test in (report("setup", "passed"), report("call", "failed", crash), report("setup", "skipped", "no GPU")):
        pytest_record.pytest_runtest_logreport(test)  # pyright: ignore[reportArgumentType]
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    pytest_record.pytest_runtest_logreport(report("call", "passed"))  # pyright: ignore[reportArgumentType]
    records = [json.loads(line) for line in (tmp_path / "tests").read_text().splitlines()]
    assert [(record["outcome"], record["reason"]) for record in records] == [
        ("failed", "assert 1 == 2"),
        ("skipped", "no GPU"),
    ]


# The command


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "0"], "--minutes 0: must be above 0"),
        (["--parts", "conformanse"], "did you mean conformance?"),
        (["--into", "/no/such/page"], "/no/such/page: cannot be read"),
    ],
)
def test_mistaken_options_are_one_line(arguments, message, capsys):
    assert cli.main(["bench", "gpu", *arguments]) == 2
    line = capsys.readouterr().err
    assert (line.startswith("attnlab: "), line.count("\n")) == (True, 1)
    assert message in line


def test_the_command_names_every_part():
    assert tuple(gpu_parts.PARTS) == bench.GPU_PARTS


def test_without_a_gpu_it_is_refused(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(attention, "machine", lambda dtype: ENVIRONMENT | {"backend": "cpu"})
    assert cli.main(["bench", "gpu", "--out", str(tmp_path / "out")]) == 2
    assert "jax sees no GPU on this machine; --tiny" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_whole_command_on_a_cpu(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("{}\n{}".format(*marked_text.pair("gpu")))
    command = [sys.executable, "-m", "attnlab", "bench", "gpu", "--tiny", "--minutes", "20"]
    command += ["--out", str(tmp_path), "--into", str(page)]
    subprocess.run(command, check=True, env={k: v for k, v in os.environ.items() if k != "XLA_FLAGS"})
    (path,) = tmp_path.glob("*.json")
    parts = gpu_record.read(path).parts
    assert {name: part.status for name, part in parts.items()} == dict.fromkeys(gpu_parts.PARTS, "done")
    assert parts["conformance"].result["passed"] >= 6
    assert parts["conformance"].result["failed"] == 0
    assert parts["resume"].result["same_bits"]
    outcomes = {outcome.peer: outcome for outcome in Report.of(parts["attention"].result).results[0].outcomes}
    assert outcomes["plan"].seconds
    assert outcomes["cudnn"].reason == "needs a GPU; jax runs on cpu here"
    if importlib.util.find_spec("torch") is None:
        assert "PyTorch is not installed" in (outcomes["torch"].reason or "")
        assert all("PyTorch" in result["reason"] for result in parts["training"].result.values())
    else:
        assert all(result["ratio"] > 0 for result in parts["training"].result.values())
    assert marked_text.between(page, "gpu") == gpu_record.page(tmp_path)

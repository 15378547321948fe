"""`bench attention`: its reference and statistics are right, workers alternate, and refusals have a reason."""

import importlib.util
import io
import itertools
import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from rich.console import Console

from attnlab import cli
from attnlab.bench import attention, attention_worker, cases, command, cost_plot, memory, reference, tables
from attnlab.bench.budget import Budget
from attnlab.bench.cases import Case, Peer, Plan, Shape
from attnlab.bench.process import Process, ProcessEnded
from attnlab.bench.ready import Refusal
from attnlab.bench.results import Outcome, Report, Result, Spread, choose_baseline, exponent, read
from attnlab.config.errors import UserError

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="the extra `bench` is not installed")
SMALL = Shape(2, 2, 24, 8)
REFUSES = {"jax.nn": ("soft_cap", "additive"), "flax": ("soft_cap", "additive"), "torch": ("soft_cap",)}


@pytest.fixture
def short_window(monkeypatch: pytest.MonkeyPatch):
    """A window that is shorter than the small shape."""
    from attnlab.bench import peers

    monkeypatch.setattr(reference, "WINDOW", 5)
    monkeypatch.setattr(peers, "WINDOW", 5)
    if importlib.util.find_spec("torch"):
        from attnlab.bench import torch_attention

        monkeypatch.setattr(torch_attention, "WINDOW", 5)


def plain(case: Case, arrays: dict[str, jax.Array]) -> jax.Array:
    """Plain attention in JAX, whose automatic derivatives check the reference."""
    query, key, value = (jnp.moveaxis(arrays[name], 2, 1) for name in ("query", "key", "value"))
    distance = jnp.arange(case.shape.length)[:, None] - jnp.arange(case.shape.length)[None]
    if case.variant == "additive":
        logits = jnp.tanh(query[:, :, :, None] + key[:, :, None]) @ arrays["readout"]
    else:
        logits = query @ jnp.moveaxis(key, 2, 3) / case.shape.width**0.5
    if case.variant == "soft_cap":
        logits = 50.0 * jnp.tanh(logits / 50.0)
    if case.variant == "alibi":
        logits -= jnp.asarray(case.slopes)[:, None, None] * distance
    if case.variant in ("causal", "alibi", "window"):
        logits = jnp.where(distance >= 0, logits, -jnp.inf)
    if case.variant == "window":
        logits = jnp.where(distance < reference.WINDOW, logits, -jnp.inf)
    return jnp.moveaxis(jax.nn.softmax(logits) @ value, 1, 2)


@pytest.mark.parametrize("variant", cases.VARIANTS)
def test_the_reference_is_attention_and_its_gradients(variant, x64, short_window, monkeypatch):
    """Against automatic differentiation in float64, with some of the rows."""
    monkeypatch.setattr(reference, "ROWS", 7)
    case = Case(variant, "forward_backward", SMALL, "float64")
    arrays = reference.draw(case)
    rows = reference.sample_rows(SMALL.length)
    assert len(rows) == 7
    desired = reference.expected(case, arrays, rows)
    inputs = {name: jnp.asarray(arrays[name]) for name in case.arrays}
    output, pull_back = jax.vjp(lambda inputs: plain(case, inputs), inputs)
    actual = pull_back(jnp.asarray(reference.only_rows(arrays["cotangent"], rows)))[0] | {"output": output}
    assert desired.keys() == actual.keys()
    errors = reference.errors({name: np.asarray(array) for name, array in actual.items()}, desired, rows)
    assert max(errors.values()) < 1e-12


def test_errors_are_relative_and_nan_is_infinite():
    desired = {"output": np.array([[[[2.0]], [[-4.0]]]])}
    rows = np.array([0, 2])
    actual = {"output": np.array([[[[2.0]], [[9.0]], [[-4.4]]]])}
    assert reference.errors(actual, desired, rows)["output"] == pytest.approx(0.1)
    actual["output"][0, 1] = np.nan  # in a row that was not computed
    assert reference.errors(actual, desired, rows)["output"] == float("inf")


@pytest.mark.parametrize("dtype", cases.DTYPES)
def test_inputs_are_numbers_of_the_dtype(dtype):
    with jax.enable_x64(True):
        for array in reference.draw(Case("additive", "forward", SMALL, dtype)).values():
            assert np.array_equal(np.asarray(jnp.asarray(array).astype(dtype)).astype(array.dtype), array)


@pytest.mark.parametrize("variant", cases.VARIANTS)
@pytest.mark.parametrize("name", ["dense", "jax.nn", "flax", pytest.param("torch", marks=needs_torch)])
@pytest.mark.quick(
    "dense-full",
    "dense-additive",
    "jax.nn-causal",
    "jax.nn-soft_cap",
    "flax-window",
    "flax-alibi",
    "torch-causal",
    "torch-additive",
)
def test_peers_compute_the_reference(name, variant, short_window):
    case = Case(variant, "forward_backward", SMALL, "float32")
    arrays = reference.draw(case)
    rows = reference.sample_rows(SMALL.length)
    if name == "torch":
        from attnlab.bench.torch_attention import prepare
    else:
        from attnlab.bench.peers import prepare
    if variant in REFUSES.get(name, ()):
        with pytest.raises(Exception, match="has no"):
            prepare(Peer(name), case, arrays, arrays["cotangent"])
        return
    ready = prepare(Peer(name), case, arrays, reference.only_rows(arrays["cotangent"], rows))
    errors = reference.errors(ready.check(), reference.expected(case, arrays, rows), rows)
    assert errors.keys() == {"output", *case.arrays}
    assert max(errors.values()) < reference.LIMITS["float32"]


@pytest.mark.parametrize("mode", cases.OVERHEADS)
@pytest.mark.parametrize("name", ["plan", "jax.nn", "flax", pytest.param("torch", marks=needs_torch)])
@pytest.mark.quick("plan-eager", "plan-trace", "jax.nn-eager", "flax-trace", "torch-eager")
def test_eager_calls_and_traces_are_timed_without_compilation(name, mode):
    case = Case("causal", mode, SMALL, "float32")
    arrays = reference.draw(case)
    rows = reference.sample_rows(SMALL.length)
    if name == "torch":
        from attnlab.bench.torch_attention import prepare
    else:
        from attnlab.bench.peers import prepare
    if name == "torch" and mode == "trace":
        with pytest.raises(Refusal, match="does not trace"):
            prepare(Peer(name), case, arrays, arrays["cotangent"])
        return
    ready = prepare(Peer(name), case, arrays, arrays["cotangent"])
    events: list[str] = []
    listen = lambda name, _, **__: events.append(name.split("/")[-1])  # noqa: E731
    ready.run()
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        ready.run()
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert "backend_compile_duration" not in events
    assert ("jaxpr_trace_duration" in events) == (mode == "trace")
    assert reference.errors(ready.check(), reference.expected(case, arrays, rows), rows)["output"] < 2e-5


def test_on_all_devices_inputs_are_sharded_over_heads():
    from attnlab.bench.peers import prepare

    case = Case("causal", "forward", SMALL, "float32")
    arrays = reference.draw(case)
    ready = prepare(Peer("dense", 2), case, arrays, arrays["cotangent"])
    assert ready.note == "inputs sharded over heads"
    rows = reference.sample_rows(SMALL.length)
    assert reference.errors(ready.check(), reference.expected(case, arrays, rows), rows)["output"] < 2e-5
    odd = replace(case, shape=Shape(1, 3, 8, 8))
    assert prepare(Peer("jax.nn", 2), odd, reference.draw(odd), reference.draw(odd)["cotangent"]).note == (
        "inputs replicated"
    )


@needs_torch
def test_flex_has_no_backward_on_cpu():
    from attnlab.bench.torch_attention import flex

    with pytest.raises(Exception, match="no backward on CPU"):
        flex(Case("full", "forward_backward", SMALL, "float32"), "cpu")
    with pytest.raises(Exception, match="no additive score"):
        flex(Case("additive", "forward", SMALL, "float32"), "cpu")


def test_the_peak_of_a_call_is_measured():
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux reports the peak")

    def call() -> np.ndarray:
        np.ones(8_000_000)  # 64 MB, freed at once
        return np.ones(1_000_000)

    peak = memory.peak_bytes(call, 8_000_000)
    assert peak is None or 50e6 < peak < 80e6


def test_a_ratio_is_the_median_of_the_ratios_within_a_round():
    plan, torch = Outcome("plan", "", (1.0, 2.0, 9.0)), Outcome("torch", "", (1.0, 4.0, 3.0))
    result = Result(Case("full", "forward", SMALL, "float32"), (plan, torch, Outcome("flax", "", reason="no")), "torch")
    assert result.ratio("plan") == Spread(0.75, 1.0, 2.0)
    assert result.milliseconds("plan").median == 2000.0
    assert list(result.timed) == ["plan", "torch"]
    assert replace(result, against=None).ratio("plan") is None
    assert choose_baseline(["flax", "flex"], cases.AGAINST) == "flex"
    assert choose_baseline(["flax"], cases.AGAINST) is None


def test_exponents():
    points = [(float(x), 0.1 * x**1.5) for x in (128, 512, 2048)]
    assert str(exponent(points)) == "1.50 ± 0.00"
    assert str(exponent(points[:2])) == "1.50"
    assert exponent([(128.0, 1.0), (128.0, 2.0)]) is None
    noisy = exponent([(1.0, 1.0), (2.0, 5.0), (4.0, 15.0)])
    assert noisy is not None
    slope, error = np.polyfit(np.log([1, 2, 4]), np.log([1, 5, 15]), 1, cov=True)
    assert noisy.value == pytest.approx(slope[0])
    assert noisy.error == pytest.approx(error[0, 0] ** 0.5)


def a_report() -> Report:
    results = []
    for variant, length in itertools.product(("full", "causal"), (128, 256, 512)):
        case = Case(variant, "forward", Shape(1, 8, length, 64), "float32")
        quick, slow = 1e-8 * length**1.5, 1e-8 * length**2
        outcomes = (
            Outcome(
                "plan", "jax", (quick,) * 3, peak_bytes=4000 * length, temp_bytes=2_500_000, errors={"output": 1e-7}
            ),
            Outcome("plan ×2", "jax", (quick / 2,) * 3, peak_bytes=8000 * length, note="inputs sharded over heads"),
            Outcome("torch", "torch", (slow,) * 3, errors={"output": 1e-7}),
            Outcome("flax", "flax", reason="not timed: relative error of the output is 1e+00"),
        )
        results.append(Result(case, outcomes, "torch"))
    return Report({"cores": 2, "rounds": 3, "packages": {"jax": "1"}, "begun": "today"}, tuple(results))


def test_results_are_read_as_they_were_written(tmp_path):
    a_report().save(tmp_path)
    assert read(tmp_path) == a_report()
    summary = json.loads((tmp_path / "results.json").read_text())["results"][0]["summary"]["plan"]
    assert summary["ratio"]["median"] == pytest.approx(128**-0.5)
    assert summary["ratio_of_medians"] == pytest.approx(128**-0.5)


def test_a_file_that_is_not_a_result_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"contains no results\.json"):
        read(tmp_path)
    (tmp_path / "results.json").write_text("[1]")
    with pytest.raises(UserError, match="is not a result of attnlab bench attention"):
        read(tmp_path)


def test_the_table_has_times_ratios_and_reasons():
    console = Console(width=command.WIDTH, record=True, file=io.StringIO())
    console.print(tables.table(a_report().results[0]))
    lines = console.export_text().splitlines()
    assert "full, forward, 1,8,128,64, float32" in lines[0]
    assert "÷ torch" in lines[1]
    assert lines[2].split()[:4] == ["plan", "0.01", "(0.01–0.01)", "0.09"]
    assert "not timed: relative error of the output is 1e+00" in lines[5]


def test_the_page_has_a_table_of_ratios_and_one_of_memory():
    page = tables.markdown(a_report())
    assert "| full 1,8,128,64 | torch 0.16 | 0.09 | 0.04 | 1.00 | — <sup>1</sup> |" in page
    assert "1. not timed: relative error of the output" in page
    assert "| causal 1,8,512,64 | 2 | 4 | — | — |" in page


def test_the_plot_shows_the_fitted_exponents(tmp_path, monkeypatch):
    figures: list[Figure] = []
    draw = cost_plot._draw_panel
    monkeypatch.setattr(cost_plot, "_draw_panel", lambda axes, *a: (figures.append(axes), draw(axes, *a)))
    assert cost_plot.draw(a_report().results, tmp_path) == ["time.png", "memory.png"]
    assert len(figures) == 4
    time, _, space, _ = (axes.get_legend() for axes in figures)
    assert [text.get_text() for text in time.get_texts()] == [
        "torch:  2.00 ± 0.00", "plan:  1.50 ± 0.00", "plan ×2:  1.50 ± 0.00",
    ]  # fmt: skip
    assert [text.get_text() for text in space.get_texts()] == ["plan ×2:  1.00 ± 0.00", "plan:  1.00 ± 0.00"]
    assert [line.get_xdata().tolist() for line in figures[0].lines] == [[128, 256, 512]] * 3
    assert (tmp_path / "time.png").read_bytes().startswith(b"\x89PNG")


def test_a_single_length_is_not_plotted(tmp_path):
    assert cost_plot.draw(a_report().results[:1], tmp_path) == []


def test_a_report_of_earlier_results(tmp_path, capsys):
    a_report().save(tmp_path)
    assert cli.main(["bench", "attention", "--report", str(tmp_path)]) == 0
    assert "written to" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {"results.json", "tables.md", "time.png", "memory.png"}


def test_plans():
    assert [str(peer) for peer in Plan(peers=("plan", "torch")).select_peers(2)] == ["plan", "torch", "plan ×2"]
    assert [str(peer) for peer in Plan(peers=("plan", "torch"), devices="all").select_peers(2)] == ["torch", "plan ×2"]
    assert [str(peer) for peer in Plan(peers=("plan",), devices="all").select_peers(1)] == ["plan"]
    assert "cudnn" not in map(str, Plan().select_peers(2))
    assert "cudnn" in map(str, Plan().select_peers(1, "gpu"))
    lengths = Plan(lengths=(64,), variants=("full", "additive"), modes=("forward",))
    assert [case.shape for case in lengths.cases()] == [Shape(1, 8, 64, 64), Shape(1, 1, 64, 256)]
    assert {case.dtype for case in lengths.cases("gpu")} == {"bfloat16"}
    assert {case.shape for case in cases.QUICK.cases()} == set(cases.QUICK_SHAPES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--shape", "1,2,3"], "--shape 1,2,3: must be four positive integers B,H,T,D"),
        (["--shape", "1,8,-5,64"], "--shape 1,8,-5,64: must be"),
        (["--length", "512,x"], "--length 512,x: must be"),
        (["--variant", "causl"], "--variant: unknown name 'causl'; valid: full, causal"),
        (["--variant", "causl"], "did you mean causal?"),
        (["--peers", "torhc"], "did you mean torch?"),
        (["--against", "nobody"], "--against: unknown name 'nobody'"),
        (["--mode", "backward"], "argument --mode: invalid choice: 'backward'"),
        (["--dtype", "int8"], "argument --dtype: invalid choice: 'int8'"),
        (["--rounds", "0"], "--rounds 0: must be at least 1"),
        (["--report", "/no/such"], "/no/such: contains no results.json"),
        (["--out", str(Path(__file__).parent)], "is not empty; --report"),
        (["--out", __file__], "cannot be written"),
        (["--sahpe", "1"], "unknown argument --sahpe"),
    ],
)
def test_mistaken_options_are_one_line(arguments, message, capsys):
    assert cli.main(["bench", "attention", *arguments]) == 2
    line = capsys.readouterr().err
    assert line.startswith("attnlab: ")
    assert line.count("\n") == 1
    assert message in line


class Scripted:
    """A replacement of `Process` with scripted responses."""

    runtime = "scripted"

    def __init__(self, directory: Path, case: Case, *, wrong: bool = False, dies: bool = False):
        self._directory, self._case, self._wrong, self._dies, self.turns = directory, case, wrong, dies, 0

    def request(self, message: dict, seconds: float = float("inf")) -> dict:
        if "peak_of" in message or "peak" in message:
            return {"peak_bytes": 5}
        if "turn" in message:
            self.turns += 1
            if self._dies and self.turns == 2:
                raise ProcessEnded("process ended with code -9")
            return {"seconds": float(self.turns)}
        with np.load(self._directory / "inputs.npz") as arrays:
            rows = reference.sample_rows(self._case.shape.length)
            desired = reference.expected(self._case, dict(arrays), rows)
        np.savez(self._directory / "arrays.npz", output=desired["output"] + (1.0 if self._wrong else 0.0))
        return {"arrays": "arrays.npz", "compile_seconds": 1.0, "temp_bytes": None, "note": ""}


def test_a_peer_that_differs_is_not_timed_and_one_that_ends_is_reported(tmp_path):
    case = Case("causal", "forward", SMALL, "float32")
    processes = {
        "plan": Scripted(tmp_path, case),
        "dense": Scripted(tmp_path, case, wrong=True),
        "flax": Scripted(tmp_path, case, dies=True),
    }
    workers = SimpleNamespace(
        backend="cpu",
        process=lambda peer, dtype, task="time", seconds=0.0: processes[peer.name],
        discard=lambda *_: None,
    )
    peers = [Peer("plan"), Peer("dense"), Peer("flax"), Peer("cudnn")]
    outcomes = attention._measure_case(case, peers, 3, workers, tmp_path, print, attention._Limits(None))  # pyright: ignore
    plan, dense, flax, cudnn = outcomes
    assert plan.seconds == (1.0, 2.0, 3.0)
    assert plan.peak_bytes == 5
    assert dense.reason is not None
    assert dense.reason.startswith("not timed: relative error of the output")
    assert (dense.seconds, processes["dense"].turns) == ((), 0)
    assert (flax.seconds, flax.reason) == ((), "process ended with code -9")
    assert cudnn.reason == "needs a GPU; jax runs on cpu here"


def test_a_peer_that_fails_repeatedly_is_skipped_within_a_budget(tmp_path):
    def gone(*_, **__):
        raise ProcessEnded("no response within 60 s")

    workers = SimpleNamespace(backend="cpu", process=gone, discard=lambda *_: None)
    case, budget = Case("causal", "forward", SMALL, "float32"), Budget(600.0)
    for limits, last in ((attention._Limits(budget), "in 2 earlier cases"), (attention._Limits(None), "no response")):
        for reason in ("no response", "no response", last):
            (outcome,) = attention._measure_case(case, [Peer("plan")], 3, workers, tmp_path, print, limits)  # pyright: ignore
            assert reason in (outcome.reason or "")


def test_without_torch_the_reason_is_how_to_install_it(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert "pip install -e '.[bench]'" in (attention._missing(Peer("flex"), "cpu") or "")


def test_reasons_are_one_line():
    assert attention_worker._line("ValueError: no\n  more of it") == "ValueError: no"
    assert len(attention_worker._line("x" * 1000)) == attention_worker.LONGEST_REASON
    assert attention_worker._line("") == "no message"


def test_a_process_that_ends_is_reported():
    import subprocess
    import sys

    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with (
        subprocess.Popen([sys.executable, "-c", "exit(7)"], **pipes) as process,
        pytest.raises(ProcessEnded, match="code 7"),
    ):
        Process(process)


def test_the_command_measures_each_peer_in_its_own_process(tmp_path, capsys):
    options = ["--shape", "1,2,16,8", "--variant", "causal,soft_cap", "--mode", "forward", "--rounds", "2"]
    options += ["--peers", "jax.nn,cudnn", "--out", str(tmp_path / "out")]
    assert cli.main(["bench", "attention", *options]) == 0
    report = read(tmp_path / "out")
    causal, soft_cap = report.results
    assert len(causal.timed["jax.nn"].seconds) == 2
    assert causal.against == "jax.nn"
    assert "1 cpu device" in causal.timed["jax.nn"].runtime
    assert soft_cap.outcomes[0].reason == "jax.nn.dot_product_attention has no soft-cap"
    assert report.environment["rounds"] == 2
    assert (tmp_path / "out" / "tables.md").is_file()
    assert "÷ jax.nn" in capsys.readouterr().out

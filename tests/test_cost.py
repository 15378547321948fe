"""`attnlab cost`: what a training step costs, before training."""

import json
import re
import shutil
from pathlib import Path

import pytest

from attnlab import cli
from attnlab.bench.flops import Flops
from attnlab.results.archive import archive
from attnlab.results.record import read
from attnlab.results.step_cost import BatchCost, StepCost, amount, read_cost, write_cost

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CONFIG = EXPERIMENTS / "classification/synthetic_sentiment_dot.yaml"


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory):
    """The cost of a tiny experiment, counted and timed once, as JSON."""
    capture = pytest.MonkeyPatch()
    lines: list[str] = []
    capture.setattr("builtins.print", lambda *words, **_: lines.append(" ".join(map(str, words))))
    code = cli.main(["cost", str(CONFIG), "--tiny", "--steps", "2", "--json"])
    capture.undo()
    assert code == 0
    return next(json.loads(line) for line in lines if line.startswith("{"))


def test_parameters_operations_memory_and_time(printed):
    assert printed["parameters"] > 1000
    assert printed["unit"] == "texts"
    (batch,) = printed["batches"]
    assert batch["steps"] >= 1
    assert 0 < batch["matmul_flops"] < batch["flops"]
    assert batch["flops"] > 6 * printed["parameters"], "a gradient touches every parameter"
    assert batch["peak_bytes"] > 3 * 4 * printed["parameters"], "parameters and both moments of Adam"
    assert 0 < batch["seconds"] < 60
    assert 0 < batch["count"] <= batch["rows"]
    assert printed["count_per_second"] == pytest.approx(batch["count"] / batch["seconds"])
    assert StepCost.from_json(printed).as_json() == json.loads(json.dumps(printed)) | {
        "batches": tuple(printed["batches"])
    }


def test_means_weigh_the_steps_of_an_epoch():
    batches = (BatchCost(8, 10, 1, 3, 100, 120, 500, 0.1, 80), BatchCost(4, 20, 1, 1, 300, 320, 700, 0.3, 40))
    cost = StepCost(10, batches, "texts", 1, 2, "a machine", "0.10.2")
    assert cost.flops == pytest.approx((3 * 120 + 320) / 4)
    assert cost.seconds == pytest.approx(0.15)
    assert cost.count_per_second == pytest.approx(70 / 0.15)
    assert cost.peak_bytes == 700
    table = cost.table("mine")
    assert "at least 170" in table
    assert "700 B on each of 2 devices" in table
    assert len(re.findall(r"(?m)^ +\d+ +\d+ +1 ", table)) == 2


def test_a_run_keeps_the_cost_of_its_own_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    cost = StepCost(10, (BatchCost(8, 10, 1, 3, 100, 120, 500, 0.1, 80),), "texts", 0, 1, "a machine", "0.10.2")
    monkeypatch.setattr("attnlab.lab.cost", lambda *_: cost)
    (tmp_path / "config.yaml").write_text(CONFIG.read_text())
    (tmp_path / "environment.json").write_text('{"fingerprint": {"devices": "1"}}')
    assert cli.main(["cost", str(tmp_path / "config.yaml"), "model.dropout=0.4"]) == 0
    assert read_cost(tmp_path) is None, "of another config"
    assert cli.main(["cost", str(tmp_path / "config.yaml")]) == 0
    assert read_cost(tmp_path) == cost
    assert "written: " in capsys.readouterr().err


def test_an_archive_keeps_the_cost(tmp_path: Path):
    cost = StepCost(10, (BatchCost(8, 10, 1, 3, 100, 120, 500, 0.1, 80),), "texts", 0, 1, "a machine", "0.10.2")
    source = EXPERIMENTS.parent / "docs/results/synthetic_sentiment_additive-s1"
    run = tmp_path / "synthetic_sentiment_additive-s1"
    shutil.copytree(source, run)
    assert read_cost(archive(read(run), tmp_path / "without")) is None
    write_cost(run, cost)
    assert read_cost(archive(read(run), tmp_path / "with")) == cost


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["no/such.yaml"], "no/such.yaml: no such file"),
        ([str(CONFIG), "--steps", "0"], "--steps 0: must be at least 1"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], says: str, capsys):
    assert cli.main(["cost", *arguments]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert says in err


def test_numbers_are_readable():
    assert [amount(value) for value in (0, 7, 999, 1000, 999_499, 999_600, 1.5e13)] == [
        "0", "7", "999", "1.00 k", "999 k", "1.00 M", "15.0 T",
    ]  # fmt: skip
    assert amount(2048, "B") == "2.05 kB"
    assert Flops(2, 3) * 4 + Flops(1, 1, 1) == Flops(9, 13, 1)

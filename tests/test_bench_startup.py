"""`attnlab bench startup`: what it measures of a command, and what it prints."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from attnlab.bench import startup
from attnlab.bench.startup import Start
from attnlab.config.errors import UserError
from attnlab.system import stages

SMALL = """
task:
  kind: translation
  data: {kind: dates, train: 300, dev: 10, test: 10, max_items: 2}
  tokenizer: {kind: words}
  decoding: {beam: 1, max_length: 10}
model:
  kind: recurrent_seq2seq
  embedding: 4
  encoder: {cell: gru, hidden: 4}
  decoder: {cell: gru, hidden: 8, variant: luong}
  attention: {score: {kind: dot}}
training: {steps: 300, batch_tokens: 128, buckets: 1, optimizer: {kind: adamw, warmup_steps: 100}}
"""


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.yaml"
    path.write_text(SMALL)
    return path


def test_stages_are_reported_when_they_end_even_if_they_fail(monkeypatch):
    ended: list[str] = []
    monkeypatch.setattr(stages, "listeners", [lambda name, seconds: ended.append(name)])
    with pytest.raises(ValueError, match="inside"), stages.stage("outer"), stages.stage("inner"):
        raise ValueError("inside")
    assert ended == ["inner", "outer"]


def test_a_command_without_jax_has_no_stage_but_its_import(tmp_path):
    measured = startup._start("none", "list", ["settings"], True, tmp_path / "cache", "")
    assert measured.stages["import"] > 0
    assert {name for name, seconds in measured.stages.items() if seconds} == {"import"}
    assert 0 < measured.stages["import"] < measured.first_output <= measured.total
    assert measured.first_loss is None


def test_a_command_that_fails_ends_the_measurement_with_its_message(tmp_path):
    with pytest.raises(UserError, match=r"bench startup: attnlab predict \S*/nothing: attnlab: .*nothing"):
        startup._start("none", "predict", [str(tmp_path / "nothing")], True, tmp_path / "cache", "a line\n" * 100_000)


def test_experiments_with_data_in_files_are_refused():
    with pytest.raises(UserError, match="tsv is not generated"):
        startup.bench([Path("experiments/translation/multi30k_de_en_additive.yaml")])


def test_the_table_has_medians_and_a_row_for_each_state_of_the_cache():
    first = Start("dates", "train", True, 1.0, 10.0, 30.0, dict.fromkeys(startup.STAGES, 2.0))
    starts = [replace(first, total=total, cold=cold) for total in (30.0, 90.0, 50.0) for cold in (True, False)]
    starts.append(Start("dates", "predict", True, 3.0, None, 4.0, dict.fromkeys(startup.STAGES, 0.25)))
    console = Console(width=startup.WIDTH, record=True)
    console.print(startup.table(starts))
    rows = [line.split() for line in console.export_text().splitlines()[2:]]
    assert rows == [
        ["dates", "train", "empty", "1.0", "10.0", "50.0", *["2.0"] * 4],
        ["dates", "train", "filled", "1.0", "10.0", "50.0", *["2.0"] * 4],
        ["dates", "predict", "empty", "3.0", "4.0", *["0.2"] * 4],
    ]
    written = json.loads(startup.as_json(starts, {"cores": 2}))
    assert [Start(**entry) for entry in written["starts"]] == starts
    assert written["environment"] == {"cores": 2}


@pytest.mark.slow
def test_all_commands_are_measured_with_an_empty_and_a_filled_cache(small):
    log: list[str] = []
    starts = startup.bench([small], rounds=1, log=log.append)
    assert [(start.command, start.cold) for start in starts] == [
        (command, cold) for cold in (True, False) for command in startup.COMMANDS
    ]
    assert len(log) == len(starts)
    for start in starts:
        assert 0 < start.first_output <= start.total
        assert (start.first_loss is not None) == (start.command == "train")
        assert min(start.stages["trace"], start.stages["compile"]) > 0
        assert (start.stages["data"] > 0) == (start.command in ("train", "evaluate"))
        assert sum(start.stages.values()) < start.total
    compiled = {(start.command, start.cold): start.stages["compile"] for start in starts}
    assert compiled["train", False] < compiled["train", True]


def test_every_embedded_experiment_has_inputs(tmp_path):
    for number, path in enumerate(startup.EXPERIMENTS):
        experiment = startup.load(startup.find_config(path))
        inputs = startup._inputs(experiment, tmp_path / str(number))
        assert all(inputs)
        assert Path(inputs[0]).is_file() == (experiment.task.kind in ("captioning", "visual_qa"))

"""`attnlab faithfulness` on one small run: its files, resuming, other settings, and mistakes in one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnlab
from attnlab import cli, lab
from attnlab.analysis.battery import Battery, chunks
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.results import lock
from attnlab.results.record_file import RecordFile

CONFIG = Path(__file__).parents[1] / "experiments/classification/synthetic_sentiment_additive.yaml"
TRANSLATION = CONFIG.parents[1] / "translation/dates_additive.yaml"
EXAMPLES = 20
METHODS = ["input_x_gradient"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.train(load(CONFIG, ["training.steps=2"], tiny=True), tmp_path_factory.mktemp("runs") / "run", None)


@pytest.fixture(scope="module", autouse=True)
def small_chunks() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunks, "MAX_ROWS", 4)
        yield


@pytest.fixture(scope="module")
def report(run: Path) -> Any:
    return lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS, command="attnlab faithfulness RUN")


def files(run: Path) -> list[Path]:
    return sorted((run / "faithfulness").glob("*.jsonl"))


def without_environment(run: Path) -> dict[str, Any]:
    summary = json.loads((run / "faithfulness.json").read_text())["test"]
    return {name: value for name, value in summary.items() if name != "environment"}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of the examples that are computed."""
    computed: list[int] = []
    records = Battery.records

    def counted(self: Battery, chunk: Any) -> Any:
        computed.extend(member.number for member in chunk.members)
        return records(self, chunk)

    monkeypatch.setattr(Battery, "records", counted)
    return computed


def test_the_files(run, report):
    summary = json.loads((run / "faithfulness.json").read_text())["test"]
    assert summary == json.loads(json.dumps(report.summary))
    assert {"settings", "checkpoint", "data", "environment", "methods", "curves", "tests", "left_out", "target"} <= set(
        summary
    )
    assert summary["examples"] == EXAMPLES
    assert set(summary["methods"]) == {*METHODS, "leave_one_out", "random_attribution", "raw_attention"}
    compr = summary["methods"]["leave_one_out"]["aopc_compr"]
    assert set(compr) == {"mean", "ci95", "n", "minus_random", "minus_raw_attention"}
    low, high = compr["ci95"]
    assert low <= compr["mean"] <= high
    assert summary["curves"]["shares"][0] == 0
    assert len(summary["curves"]["deletion_curve"]["leave_one_out"]) == len(summary["curves"]["shares"])
    assert summary["checkpoint"]["steps"] == [2]
    assert summary["tests"]["adversarial_found"]["n"] == EXAMPLES
    assert summary["methods"]["leave_one_out"]["auprc_plau"]["n"] == EXAMPLES
    page = files(run)[0].with_suffix(".html").read_text()
    assert "attnlab faithfulness RUN" in page
    assert "leave_one_out" in page
    assert len(page) < 2_000_000


def test_an_interrupted_measurement_repeats_nothing(run, report, measured, capfd):
    (path,) = files(run)
    before, whole = without_environment(run), path.read_bytes()
    header, first, *_ = whole.splitlines(keepends=True)
    path.write_bytes(header + first + b'[{"example": 1, "meth')
    lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS)
    done = {record["example"] for record in json.loads(first)}
    assert len(measured) == EXAMPLES - len(done)
    assert not done & set(measured)
    assert without_environment(run) == before
    assert path.read_bytes() == whole
    err = capfd.readouterr().err
    assert "1 incomplete line" in err
    assert f"{len(done)} of {EXAMPLES} examples are done already" in err


def test_a_finished_measurement_computes_nothing(run, report, measured):
    before = without_environment(run)
    lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS)
    assert not measured
    assert without_environment(run) == before


@pytest.mark.slow
def test_restart_and_other_settings(run, report, measured, capsys):
    (path,) = files(run)
    whole = path.read_bytes()
    arguments = ["faithfulness", str(run), "--examples", "3", "--methods", METHODS[0], "--seed", "1", "--split", "dev"]
    assert cli.main(arguments) == 0
    assert len(measured) == 3
    assert len(files(run)) == 2
    assert path.read_bytes() == whole
    assert set(json.loads((run / "faithfulness.json").read_text())) == {"test", "dev"}
    out = capsys.readouterr().out
    assert out.startswith("method")
    assert out.count("written: ") == 3
    assert cli.main([*arguments, "--restart"]) == 0
    assert len(measured) == 6
    pages = [page.read_text() for page in (run / "faithfulness").glob("*.html")]
    assert sorted("--seed 1" in page for page in pages) == [False, True]
    assert not list((run / "faithfulness").glob("*.lock"))
    assert "None" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--split", "tset"], "test"),
        (["--methods", "atention_rollout"], "attention_rollout"),
        (["--methods", "attention_rollout"], "attention_norms"),
        (["--removal", "erase"], "drop"),
        (["--examples", "0"], "at least 1"),
        (["--methods", ","], "--methods"),
        (["--methods", ""], "--methods"),
        (["--seed", "-1"], "--seed -1"),
        (["--seed", str(2**32)], "2**32"),
    ],
)
def test_a_mistake_is_one_line(run, options, expected, capsys):
    assert cli.main(["faithfulness", str(run), *options]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert len([line for line in err.splitlines() if line.startswith("attnlab: ")]) == 1


def test_in_python(run, report):
    trained = lab.load(run)
    found = trained.faithfulness(["a good film", ["the plot is bad"], "a dull plot"], methods=METHODS)
    assert found.summary["examples"] == 3
    assert "auprc_plau" in found.summary["left_out"]["metrics"]
    assert found.methods == ["input_x_gradient", "leave_one_out", "random_attribution", "raw_attention"]
    with pytest.raises(TypeError, match="a list of examples"):
        trained.faithfulness("a good film")


def test_a_record_file_with_other_settings_is_begun_anew(tmp_path):
    notes: list[str] = []
    path = tmp_path / "new" / "records.jsonl"
    file = RecordFile(path, {"seed": 0, "shares": (0.0, 1.0)}, notes.append)
    assert not path.exists()
    file.append([{"example": 0, "value": None}, {"example": 2}])
    file.append([{"example": 1}])
    again = RecordFile(path, {"seed": 0, "shares": (0.0, 1.0)}, notes.append)
    assert [record["example"] for record in again.records] == [0, 2, 1]
    assert not RecordFile(path, {"seed": 1}, notes.append).records
    path.write_bytes(path.read_bytes() + b"\xff\n[1, 2]\n")
    assert len(RecordFile(path, {"seed": 0, "shares": (0.0, 1.0)}, notes.append).records) == 3
    assert "2 incomplete" in notes[0]
    with pytest.raises(ValueError, match="JSON"):
        file.append([{"example": 3, "value": np.nan}])


def test_restart_empties_the_file_at_once(tmp_path):
    path = tmp_path / "records.jsonl"
    RecordFile(path, {}, print).append([{"example": 0}])
    RecordFile(path, {}, print, restart=True)
    assert not RecordFile(path, {}, print).records


def test_the_same_command_twice_at_a_time(run, report):
    (path,) = [file for file in files(run) if file.name.startswith("test-")]
    whole = path.read_bytes()
    held = lock.acquire(path.with_suffix(".lock"))
    try:
        with pytest.raises(UserError, match=f"process {os.getpid()}.*wait for it"):
            lab.measure_faithfulness(
                run, None, examples=EXAMPLES, methods=METHODS, command="attnlab faithfulness RUN", restart=True
            )
    finally:
        lock.release(held, path.with_suffix(".lock"))
    assert path.read_bytes() == whole


@pytest.mark.slow
def test_an_interruption_loses_one_chunk(run, report, measured, monkeypatch):
    """Predictions are computed with the chunks that need them."""
    predicted: list[int] = []
    task = type(attnlab.load(run).task)
    original = task.explained_prediction

    def counted(self, params, example, selection):
        predicted.append(len(measured))
        return original(self, params, example, selection)

    monkeypatch.setattr(task, "explained_prediction", counted)
    lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS, restart=True)
    assert len(predicted) == len(measured) == EXAMPLES
    assert predicted[-1] > 0


@pytest.mark.slow
def test_a_killed_measurement_of_a_translation_repeats_nothing(tmp_path, measured, monkeypatch):
    """Killed at half, with chunks of two widths under way; then nothing that is recorded is computed again."""
    config = load(TRANSLATION, ["training.steps=2"], tiny=True)
    run = lab.train(config, tmp_path / "run", None)
    predicted: list[Any] = []
    task = type(attnlab.load(run).task)
    original, count = task.explained_prediction, Battery.records

    def counted(self, params, example, selection):
        predicted.append(example)
        return original(self, params, example, selection)

    def killed(self, chunk):
        if len(measured) >= EXAMPLES // 2:
            raise KeyboardInterrupt
        return count(self, chunk)

    monkeypatch.setattr(task, "explained_prediction", counted)
    with monkeypatch.context() as patch:
        patch.setattr(Battery, "records", killed)
        with pytest.raises(KeyboardInterrupt):
            lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS)
    first = list(measured)
    assert EXAMPLES // 2 <= len(first) < EXAMPLES
    (path,) = files(run)
    recorded = path.read_bytes()
    predicted.clear()
    report = lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS)
    assert len(measured) == EXAMPLES
    assert len(set(measured)) == EXAMPLES
    assert len(predicted) == EXAMPLES - len(first)
    assert path.read_bytes().startswith(recorded)
    assert report.summary["tests"]["adversarial_jsd"]["n"] == EXAMPLES
    unbroken = lab.measure_faithfulness(run, None, examples=EXAMPLES, methods=METHODS, restart=True)
    assert unbroken.records == report.records


def test_plausibility_of_correct_predictions(report):
    known = [record["correct"] for record in report.records]
    assert set(known) <= {True, False}
    assert report.summary["correct"] == sum(known)
    if any(known):
        assert report.summary["methods"]["leave_one_out"]["auprc_plau"]["correct"]["n"] <= sum(known)


def test_a_full_disk_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    file = RecordFile(tmp_path / "file" / "records.jsonl", {}, print)
    with pytest.raises(UserError, match="cannot be written"):
        file.append([{"example": 0}])

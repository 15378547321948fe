"""Results of a run: merged by split, whole on a full disk, and refused before scoring where they cannot be kept."""

import json
import tempfile

import numpy as np
import pytest
from run_directories import files_up_to_4_kib, opener

from attnlab.config.errors import UserError
from attnlab.results.per_example import PerExampleScores, read_per_example
from attnlab.results.run import Run
from attnlab.results.scores import UnwrittenScores, check_writable, read_results


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def opened(tmp_path, said):
    return opener(tmp_path / "run", said)


def test_results_of_splits_are_merged(opened):
    opened().close()
    reader = Run.read(opened().directory)
    reader.write_results("test", {"bleu": np.float64(31.5), "signature": "tok:13a"})
    reader.write_results("dev", {"bleu": 1})
    reader.write_results("test", {"bleu": 32.0})
    assert reader.results() == {"test": {"bleu": 32.0, "signature": "tok:13a"}, "dev": {"bleu": 1}}
    assert json.loads(reader.path("results.json").read_text()) == reader.results()
    reader.path("results.json").write_text("{")
    with pytest.raises(UserError, match=r"results\.json: is not JSON .*evaluate again"):
        reader.results()


@pytest.mark.parametrize("name", ["results.json", "per_example/test.npz", "attention/a.html"])
def test_a_full_disk_is_reported_and_keeps_the_old_file(opened, name):
    with opened() as run:
        run.write_text(name, "{}")
        with files_up_to_4_kib(), pytest.raises(UserError, match=rf"{name}: cannot be written: File too large$"):
            run.write_text(name, " " * 5000)
        assert run.path(name).read_text() == "{}"
        assert [path.name for path in run.path(name).parent.glob("*.writing")] == []


def test_unwritable_results_are_reported_before_scoring(opened, monkeypatch):
    with opened() as run:
        pass
    check_writable(run.directory)
    assert sorted(path.name for path in run.directory.iterdir() if path.is_file()) == [
        "config.yaml",
        "environment.json",
    ]
    with (
        files_up_to_4_kib(),
        pytest.raises(UserError, match=r"results\.json\S*: cannot be written: File too large; nothing was"),
    ):
        check_writable(run.directory)
    run.path("per_example").rmdir()
    run.path("per_example").write_text("in the way")
    with pytest.raises(
        UserError, match=r"per_example/\S*: cannot be written: (File exists|Not a directory); nothing was evaluated"
    ):
        check_writable(run.directory)


@pytest.mark.parametrize("content", ["[]", "3", "null", '"text"', '{"test": 3}', '{"test": [1]}', "{", "[" * 100_000])
def test_a_foreign_results_file_is_reported_before_scoring(opened, content):
    with opened() as run:
        run.path("results.json").write_text(content)
    with pytest.raises(UserError, match=r"results\.json: .*; delete it and evaluate again") as refusal:
        check_writable(run.directory)
    assert "\n" not in str(refusal.value)
    assert run.path("results.json").read_text() == content


def test_scores_that_could_not_be_written_are_kept_elsewhere(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    unwritten = UnwrittenScores()
    per_example = PerExampleScores("e" * 64, {"bleu": np.array([1.0, 2.0])})
    unwritten.add(
        "test", {"bleu": np.float64(31.5)}, per_example, UserError("results.json: cannot be written: disk full")
    )
    told = str(unwritten.save_elsewhere())
    (kept,) = tmp_path.iterdir()
    assert told == f"results.json: cannot be written: disk full; the scores were saved to {kept}"
    assert read_results(kept) == {"test": {"bleu": 31.5}}
    assert read_per_example(kept, "test").rows["bleu"].tolist() == [1.0, 2.0]
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    assert str(unwritten.save_elsewhere()).endswith("none: cannot be written: No such file or directory")

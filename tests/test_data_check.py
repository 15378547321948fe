"""The report of `attnlab data check`."""

from pathlib import Path

import jax
import pytest

from attnlab import cli
from attnlab.config import Bpe, Dates, Experiment, ParallelText, RecurrentSeq2Seq, Training, Translation, Words
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.tasks import base
from attnlab.tasks.registry import task_class
from attnlab.tasks.translation.task import TranslationTask

ROOT = Path(__file__).parents[1]

PARALLEL = ParallelText(source="de", target="en", train="train", dev="dev", test={"first": "a", "second": "b"})


def experiment(task: Translation) -> Experiment:
    training = Training(steps=1, batch_tokens=64, buckets=2)
    return Experiment(name="x", task=task, model=RecurrentSeq2Seq(attention=None), training=training)


def write(folder: Path, **files: tuple[str, str]) -> None:
    for name, (source, target) in files.items():
        (folder / f"{name}.de").write_text(source, encoding="utf-8")
        (folder / f"{name}.en").write_text(target, encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(
        tmp_path,
        train=("ein Hund\nzwei Hunde laufen\n\nein Mann\n", "a dog\ntwo dogs run here\nx\na man\n"),
        dev=("ein Hund\n", "one dog\n"),
        a=("ein Hund\nein Drache\nein Mann\n", "a dog\na dragon flies\nsomeone\n"),
        b=("ein ein ein ein\n", "a\n"),
    )
    return tmp_path


def test_the_statistics_are_correct(folder: Path) -> None:
    config = experiment(Translation(data=PARALLEL, tokenizer=Words(), max_length=3))
    report = TranslationTask.check(config, folder)
    assert list(report.splits) == ["train", "dev", "first", "second"]
    assert [split.examples for split in report.splits.values()] == [4, 1, 3, 1]
    columns = {
        (heading, side): [split.parts[side].columns.get(heading) for split in report.splits.values()]
        for heading in ("empty", "too long", "in train", "unknown")
        for side in ("source", "target")
    }
    assert columns["empty", "source"] == columns["empty", "target"] == ["1", "0", "0", "0"]
    assert columns["too long", "source"] == columns["too long", "target"] == ["1", "0", "0", "1"]
    assert columns["in train", "target"] == [None, "0", "1", "0"]
    assert columns["in train", "source"] == [None, "1", "2", "0"]
    assert report.splits["train"].parts["source"].lengths == (0, 2, 3, 3, 3)
    assert columns["unknown", "source"][2] == f"{1 / 6:.2%}"
    assert columns["unknown", "target"][2] == f"{3 / 6:.2%}"
    assert columns["unknown", "target"][0] == "0.00%"
    assert f"Vocabulary: {4 + 6} source, {4 + 8} target." in report.notes
    assert "Batches per epoch: 0" not in str(report)


def test_the_report_is_legible(folder: Path) -> None:
    config = experiment(Translation(data=PARALLEL, tokenizer=Words(), max_length=3))
    text = str(TranslationTask.check(config, folder))
    header, train, *_ = text.splitlines()
    assert header.split()[:4] == ["split", "part", "examples", "min/50/90/99/max"]
    assert train.split()[:5] == ["train", "source", "4", "0/2/3/3/3", "0.00%"]
    assert "task.max_length = 3" in text
    assert max(map(len, text.splitlines())) < 240


def test_the_first_bad_line_is_named_by_file_and_number(folder: Path) -> None:
    (folder / "b.en").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match=r"b\.en:1: byte 1 of the line \(0xff\) is not UTF-8"):
        TranslationTask.check(experiment(Translation(data=PARALLEL, tokenizer=Words())), folder)


def test_training_pairs_that_are_all_too_long_are_reported_and_no_error(folder: Path) -> None:
    write(folder, train=("a b c\n", "a b c\n"))
    task = Translation(data=PARALLEL, tokenizer=Bpe(vocabulary=100), max_length=1)
    report = TranslationTask.check(experiment(task), folder)
    assert report.splits["train"].parts["source"].columns["too long"] == "1"
    assert "Batches per epoch: 0 " in str(report)


def test_the_generated_task_shares_no_sentence_with_training() -> None:
    data = Dates(train=2000, dev=100, test=100)
    report = TranslationTask.check(experiment(Translation(data=data, tokenizer=Words())), None)
    columns = [report.splits[split].parts["source"].columns for split in ("test", "dev")]
    assert [column["in train"] for column in columns] == ["0", "0"]
    # a rare form may not be among so few sentences
    assert float(columns[0]["unknown"].removesuffix("%")) < 0.5


def test_batches_are_counted_as_in_training(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Dates(train=400, dev=5, test=5)
    config = Experiment(
        name="x", task=Translation(data=data, tokenizer=Words()), model=RecurrentSeq2Seq(attention=None),
        training=Training(steps=1, batch_tokens=64, buckets=2),
    )  # fmt: skip
    report = str(TranslationTask.check(config, None))
    splits = TranslationTask.load(config, None)
    batches = TranslationTask.prepare(config, splits).training_batches(splits.train).batches
    assert f"Batches per epoch: {len(batches):,} " in report
    assert all(rows % jax.device_count() == 0 for rows, _, _ in batches.shapes)
    assert jax.device_count() > 1
    monkeypatch.setattr(base, "rows_multiple", lambda: 1)
    with_one_device = str(TranslationTask.check(config, None))
    assert f"Batches per epoch: {len(batches):,} " not in with_one_device, "else the test could not see the difference"


def test_every_task_has_the_same_report() -> None:
    config = load(ROOT / "experiments/extractive_qa/passages_bidaf.yaml", tiny=True)
    report = task_class(config).check(config, None)
    assert list(report.splits) == ["train", "dev", "test"]
    assert all(list(split.parts) == ["passage", "question", "answer"] for split in report.splits.values())
    assert str(report).splitlines()[-1] == f"Fingerprint: sha256 {report.fingerprint}"


def test_the_command_sees_as_many_devices_as_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr("attnlab.cli.data.prepare_host", seen.append)
    monkeypatch.setattr(TranslationTask, "check", classmethod(lambda *_: "report"))
    assert cli.main(["data", "check", str(ROOT / "experiments/translation/dates_additive.yaml"), "--seed", "3"]) == 0
    assert seen == [Path("runs/dates_additive-s3")]

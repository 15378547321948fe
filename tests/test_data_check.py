"""What `attnlab data check` tells."""

from pathlib import Path

import jax
import pytest

from attnlab import cli
from attnlab.config import Bpe, Dates, Experiment, ParallelText, RecurrentSeq2Seq, Training, Translation, Words
from attnlab.config.errors import UserError
from attnlab.data.translation.check import check
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


def test_the_figures_are_right(folder: Path) -> None:
    config = experiment(Translation(data=PARALLEL, tokenizer=Words(), max_length=3))
    report = check(config, folder)
    assert list(report.splits) == ["train", "dev", "first", "second"]
    assert [split.pairs for split in report.splits.values()] == [4, 1, 3, 1]
    assert [split.empty for split in report.splits.values()] == [1, 0, 0, 0]
    assert [split.too_long for split in report.splits.values()] == [1, 0, 0, 1]
    assert [split.in_train for split in report.splits.values()] == [0, 0, 1, 0]
    assert [split.source_in_train for split in report.splits.values()] == [0, 1, 2, 0]
    assert report.splits["train"].source.lengths == (0, 2, 3, 3, 3)
    assert report.splits["first"].source.unknown_rate == pytest.approx(1 / 6)
    assert report.splits["first"].target.unknown_rate == pytest.approx(3 / 6)
    assert report.splits["train"].target.unknown_rate == 0
    assert report.vocabulary == (4 + 6, 4 + 8)
    assert report.batches >= 1


def test_the_report_is_legible(folder: Path) -> None:
    text = str(check(experiment(Translation(data=PARALLEL, tokenizer=Words(), max_length=3)), folder))
    header, train, *_ = text.splitlines()
    assert header.split()[:4] == ["split", "side", "pairs", "min/50/90/99/max"]
    assert train.split()[:5] == ["train", "source", "4", "0/2/3/3/3", "0.00%"]
    assert "task.max_length = 3" in text
    assert max(map(len, text.splitlines())) < 240


def test_the_first_invalid_line_is_reported_by_file_and_number(folder: Path) -> None:
    (folder / "b.en").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match=r"b\.en:1: byte 1 of the line \(0xff\) is not UTF-8"):
        check(experiment(Translation(data=PARALLEL, tokenizer=Words())), folder)


def test_no_remaining_pair_is_reported_without_an_error(folder: Path) -> None:
    write(folder, train=("a b c\n", "a b c\n"))
    report = check(experiment(Translation(data=PARALLEL, tokenizer=Bpe(vocabulary=100), max_length=1)), folder)
    assert (report.splits["train"].too_long, report.batches) == (1, 0)


def test_the_embedded_task_shares_no_sentence_with_training() -> None:
    data = Dates(train=2000, dev=100, test=100)
    report = check(experiment(Translation(data=data, tokenizer=Words())), None)
    assert report.splits["test"].source_in_train == report.splits["dev"].source_in_train == 0
    assert report.splits["test"].source.unknown_rate < 0.005  # a rare form may not be among so few sentences


def test_batches_are_counted_as_the_training_cuts_them() -> None:
    data = Dates(train=400, dev=5, test=5)
    config = Experiment(
        name="x", task=Translation(data=data, tokenizer=Words()), model=RecurrentSeq2Seq(attention=None),
        training=Training(steps=1, batch_tokens=64, buckets=2),
    )  # fmt: skip
    text = TranslationTask.check(config, None)
    splits = TranslationTask.load(config, None)
    batches = TranslationTask.prepare(config, splits).training_batches(splits.train).batches
    assert f"Batches an epoch: {len(batches):,} " in text
    assert all(rows % jax.device_count() == 0 for rows, _, _ in batches.shapes)
    assert jax.device_count() > 1
    assert check(config, None).batches != len(batches), "as on one device: the test would not see the difference"


def test_the_command_sees_as_many_devices_as_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    seen = []
    monkeypatch.setattr("attnlab.cli.data.prepare_host", seen.append)
    monkeypatch.setattr(TranslationTask, "check", classmethod(lambda *_: "said"))
    assert cli.main(["data", "check", str(ROOT / "experiments/translation/dates_additive.yaml"), "--seed", "3"]) == 0
    assert seen == [Path("runs/dates_additive-s3")]

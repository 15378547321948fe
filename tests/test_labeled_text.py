"""Labeled texts of files and of the hub: classes in order, a dev part held out, mistakes told with file and line."""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from attnlab.config.classification import LabeledTextFiles, LabeledTextHub
from attnlab.config.errors import UserError
from attnlab.data.classification.load import load
from attnlab.data.classification.records import LabeledText, hold_out
from attnlab.data.story_qa import babi
from attnlab.data.text import contractions
from attnlab.data.visual_qa import easy_vqa


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(UserError) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


def write(path: Path, rows: list[dict]) -> None:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


def jsonl(**changes: object) -> LabeledTextFiles:
    fields = {"train": "train.jsonl", "dev": "dev.jsonl", "test": {"test": "test.jsonl"}}
    return LabeledTextFiles.model_validate(fields | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "train.jsonl", [{"text": f"text {n}\n\nmore", "label": n % 3 * 5, "id": n} for n in range(300)])
    write(tmp_path / "dev.jsonl", [{"text": "one", "label": 10}])
    write(tmp_path / "test.jsonl", [{"text": "two", "label": 0}])
    return tmp_path


def test_numbers_are_in_the_order_of_their_size_and_get_names(folder: Path) -> None:
    splits = load(jsonl(), folder)
    assert splits.labels == ("0", "5", "10")
    assert splits.train[1] == LabeledText("text 1 more", "5")
    named = load(jsonl(label_names={"0": "weak", "5": "fair", "10": "a"}), folder)
    assert named.labels == ("weak", "fair", "a")
    assert (named.dev[0].label, named.test["test"][0].label) == ("a", "weak")


def test_labels_with_the_same_name_are_one_class(folder: Path) -> None:
    splits = load(jsonl(label_names={"0": "low", "5": "low", "10": "high"}), folder)
    assert splits.labels == ("low", "high")
    assert sum(example.label == "low" for example in splits.train) == 200


def test_blanks_and_spellings_of_a_label_make_no_class_of_their_own(tmp_path: Path) -> None:
    """What is harmless is mended: blanks around a label, runs of them, letters in two spellings (NFC)."""
    rows = [
        "good",
        " good ",
        "good\n",
        "\u2028good",
        "cafe\u0301",
        "caf\u00e9",
        "so  so",
        "so so",
        "\u0646\u06cc\u200c\u062f",
    ]
    write(tmp_path / "all.jsonl", [{"text": str(n), "label": label} for n, label in enumerate(rows)])
    splits = load(jsonl(train="all.jsonl", dev="all.jsonl", test={"test": "all.jsonl"}), tmp_path)
    assert splits.labels == ("caf\u00e9", "good", "so so", "\u0646\u06cc\u200c\u062f")
    assert {example.label for examples in splits.splits().values() for example in examples} == set(splits.labels)


def test_a_class_is_a_single_line_of_predict(folder: Path) -> None:
    message = refusal(lambda: load(jsonl(label_names={"0": "lo\tw"}), folder))
    assert r"the name of '0' (task.data.label_names) is 'lo\tw'" in message
    assert "did you mean 'lo w'?" in message


def test_answers_are_checked_like_labels(tmp_path: Path) -> None:
    """Stories and questions about images are answered by a class, a line each."""
    story = tmp_path / "story.txt"
    story.write_text("1 Ann moved.\n2 Who moved?\tAnn\u2028Bob\t1\n", encoding="utf-8")
    assert refusal(lambda: babi.read_file(story)).startswith(
        rf"{story}:2: the answer is 'Ann\u2028Bob', which contains the invisible character U+2028"
    )
    images = {0: np.zeros(3, np.uint8)}
    assert "here: the answer is 'a\\nb'" in refusal(lambda: easy_vqa._question(("what?", "a\nb", 0), images, "here"))
    assert easy_vqa._question(("what?", " a  cafe\u0301 ", 0), images, "here")[1].answer == "a café"


@pytest.mark.parametrize(("label", "near"), [("gold", "good"), ("Bad", "bad"), ("god", "good")])
def test_a_class_that_train_lacks_suggests_the_nearest(folder: Path, label: str, near: str) -> None:
    write(folder / "train.jsonl", [{"text": str(n), "label": ("good", "bad")[n % 2]} for n in range(9)])
    for split in ("dev", "test"):
        write(folder / "dev.jsonl", [{"text": "x", "label": "bad"}])
        write(folder / "test.jsonl", [{"text": "x", "label": "bad"}])
        write(folder / f"{split}.jsonl", [{"text": "x", "label": label}])
        message = refusal(lambda: load(jsonl(), folder))
        assert message.startswith(f"{folder / f'{split}.jsonl'}: the label {label!r} is not in train")
        assert message.endswith(f"did you mean {near!r}?")


@pytest.mark.parametrize(("texts", "different"), [(["a"] * 200, 1), (["a", "b", "a", "b"], 2), (["a"], 1)])
def test_too_few_texts_to_hold_out_are_counted(folder: Path, texts: list[str], different: int) -> None:
    write(
        folder / "train.jsonl", [{"text": t, "label": n % 2} for n, t in enumerate(texts)] + [{"text": "a", "label": 1}]
    )
    message = refusal(lambda: load(jsonl(dev=None, dev_share=0.001, test={"test": "train.jsonl"}), folder))
    assert f"{len(texts) + 1} texts ({different} distinct) are too few to hold out" in message


def test_numbers_of_any_length_are_labels(folder: Path) -> None:
    """Beyond 4,300 digits Python refuses to read a number; the order is that of their size all the same."""
    long = "1" + "0" * 5000
    write(
        folder / "train.jsonl", [{"text": str(n), "label": label} for n, label in enumerate([long, "9", "10", "007"])]
    )
    write(folder / "dev.jsonl", [{"text": "x", "label": "9"}])
    write(folder / "test.jsonl", [{"text": "x", "label": long}])
    assert load(jsonl(), folder).labels == ("007", "9", "10", long)


def test_dev_is_held_out_by_the_text_alone(folder: Path) -> None:
    splits = load(jsonl(dev=None, dev_share=0.2), folder)
    assert {e.text for e in splits.train}.isdisjoint(e.text for e in splits.dev)
    assert len(splits.train) + len(splits.dev) == 300
    assert 30 <= len(splits.dev) <= 90
    twice = [LabeledText(str(n % 50), "a") for n in range(100)]
    parts = hold_out(twice, 0.5)
    assert {e.text for e in parts[0]}.isdisjoint(e.text for e in parts[1])
    assert hold_out(twice[::-1], 0.5)[1] == parts[1][::-1]


def test_dev_is_the_same_in_every_process() -> None:
    chosen = "[e.text for e in hold_out([LabeledText(str(n), '') for n in range(40)], 0.5)[1]]"
    command = [sys.executable, "-c", f"from attnlab.data.classification.records import *; print({chosen})"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert printed.strip() == str([e.text for e in hold_out([LabeledText(str(n), "") for n in range(40)], 0.5)[1]])


def test_a_table_with_other_names(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        (tmp_path / f"{name}.tsv").write_text('kind\tsaid\nDESC\tWhat is "it" ?\nNUM\tHow many ?\n')
    config = LabeledTextFiles(train="train.tsv", dev="dev.tsv", test={"test": "test.tsv"}, text="said", label="kind")
    splits = load(config, tmp_path)
    assert splits.train == (LabeledText('What is "it" ?', "DESC"), LabeledText("How many ?", "NUM"))
    assert splits.labels == ("DESC", "NUM")


@pytest.mark.parametrize("ending", [".csv", ".CSV.gz"])
def test_a_table_with_commas_and_quoted_fields(tmp_path: Path, ending: str) -> None:
    text = 'label,text\r\n1,"Good, ""very""\r\ngood"\r\n0,bad\r\n'
    raw = gzip.compress(text.encode()) if ending.endswith(".gz") else b"\xef\xbb\xbf" + text.encode()
    (tmp_path / f"all{ending}").write_bytes(raw)
    name = f"all{ending}"
    splits = load(jsonl(train=name, dev=name, test={"test": name}), tmp_path)
    assert splits.train == (LabeledText('Good, "very" good', "1"), LabeledText("bad", "0"))
    assert splits.labels == ("0", "1")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("text,label\n", ":1: no rows after the header"),
        ("text;label\na;1\n", ":1: the header has a single column, 'text;label'; columns are separated by a comma"),
        ("text,text\na,1\n", ":1: the header has the column 'text' 2 times"),
        ("text,label\na,1\nb\n", ":3: 1 fields, but the header has 2 columns"),
        ('text,label\n"a\nb",1\nb,1,2\n', ":4: 3 fields, but the header has 2 columns"),
        ('text,label\na,1\n"b,1\n', ":3: not CSV (unexpected end of data); is a quotation mark missing"),
        (
            "text,sentiment\na,1\n",
            ":2: no 'label'; columns of this row: text, sentiment (task.data.label names the column)",
        ),
    ],
)
def test_an_invalid_table_is_refused_by_its_line(folder: Path, text: str, expected: str) -> None:
    (folder / "test.csv").write_text(text)
    assert f"{folder / 'test.csv'}{expected}" in refusal(lambda: load(jsonl(test={"test": "test.csv"}), folder))


def test_an_unknown_format_is_refused_by_name(folder: Path) -> None:
    (folder / "test.xlsx").write_text("a")
    assert refusal(lambda: load(jsonl(test={"test": "test.xlsx"}), folder)) == (
        f"{folder / 'test.xlsx'}: unknown suffix '.xlsx'; valid: .jsonl, .json, .csv, .tsv, each also with .gz"
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ('{"text": "a"}', "no 'label'; columns of this row: text (task.data.label names the column)"),
        (
            '{"text": "a", "lable": 0}',
            "no 'label'; columns of this row: text, lable; did you mean task.data.label=lable?",
        ),
        ('{"label": 0}', "no 'text'; columns of this row: label"),
        ("{}", "no 'text'; columns of this row: none"),
        ('{"text": 3, "label": 0}', "'text' is int, not text"),
        ('{"text": "a", "label": 0.5}', "'label' is 0.5; expected a name or an integer"),
        ('{"text": "a", "label": true}', "'label' is True"),
        ('{"text": "a", "label": -1}', "'label' is -1"),
        ('{"text": "a", "label": -20}', "'label' is -20"),
        ('{"text": "a", "label": "-1"}', "'label' is '-1'; expected a name or an integer of at least 0"),
        ('{"text": "a", "label": " "}', "'label' is ' '"),
        ('{"text": "a", "label": "go\\nod"}', r"'label' is 'go\nod', which contains the invisible character U+000A"),
        (
            '{"text": "a", "label": "go\\tod"}',
            r"U+0009; did you mean 'go od'",
        ),
        (
            '{"text": "a", "label": "go\\u2028od"}',
            r"'label' is 'go\u2028od', which contains the invisible character U+2028",
        ),
        ('{"text": "a", "label": "go\\u202eod"}', "U+202E"),
        (
            '{"text": "a", "label": "\\ufeffgood"}',
            "U+FEFF; did you mean 'good'",
        ),
        ('{"text": "a", "label": "go\\u00a0od"}', "U+00A0"),
        ('{"text": "a", "label": "\\ud800"}', "U+D800"),
        ('{"text": "a", "label": 0', "expected one object per line"),
        ("[1]", "expected one object"),
        ('{"text": "a\\u0000", "label": 0}', "NUL"),
        ('{"text": "\\ud800", "label": 0}', "a lone surrogate"),
    ],
)
def test_an_invalid_row_is_refused_by_its_line(folder: Path, row: str, expected: str) -> None:
    (folder / "test.jsonl").write_text(f'{{"text": "a", "label": 0}}\n{row}\n')
    message = refusal(lambda: load(jsonl(), folder))
    assert f"{folder / 'test.jsonl'}:2: " in message
    assert expected in message


def test_invalid_classification_data_is_refused(folder: Path) -> None:
    write(folder / "test.jsonl", [{"text": "a", "label": 7}])
    assert refusal(lambda: load(jsonl(), folder)) == (
        f"{folder / 'test.jsonl'}: the label '7' is not in train (0, 10, 5)"
    )
    write(folder / "train.jsonl", [{"text": "a", "label": 1}])
    for name in ("dev", "test"):
        write(folder / f"{name}.jsonl", [{"text": "a", "label": 1}])
    assert "at least two classes" in refusal(lambda: load(jsonl(), folder))
    assert "needs a data directory" in refusal(lambda: load(jsonl(), None))
    with pytest.raises(ValidationError, match="dev is the name of another split"):
        jsonl(test={"dev": "dev.jsonl"})


def test_hub_layout_with_named_labels(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    names = datasets.ClassLabel(names=["neg", "pos"])
    features = datasets.Features({"sentence": datasets.Value("string"), "label": names})
    for split, count in (("train", 40), ("validation", 4), ("test", 6)):
        rows = {"sentence": [f"{split} {n}" for n in range(count)], "label": [n % 2 for n in range(count)]}
        (tmp_path / "reviews").mkdir(exist_ok=True)
        datasets.Dataset.from_dict(rows, features=features).to_parquet(str(tmp_path / "reviews" / f"{split}.parquet"))
    splits = load(LabeledTextHub(path="reviews", text="sentence"), tmp_path)
    assert splits.labels == ("neg", "pos")
    assert {name: len(part) for name, part in splits.splits().items()} == {"train": 40, "dev": 4, "test": 6}
    assert splits.train[1] == LabeledText("train 1", "pos")
    held = load(LabeledTextHub(path="reviews", text="sentence", dev=None, test={"val": "validation"}), tmp_path)
    assert (len(held.train) + len(held.dev), len(held.test["val"])) == (40, 4)
    assert "no 'txt'" in refusal(lambda: load(LabeledTextHub(path="reviews", text="txt"), tmp_path))
    assert "(split nothing)" in refusal(lambda: load(LabeledTextHub(path="reviews", train="nothing"), tmp_path))


@pytest.mark.parametrize(
    ("text", "split"),
    [
        ("don't", "do n't"), ("Can’t", "Ca n't"), ("it's John's", "it 's John 's"), ("they'VE", "they 'VE"),
        ("do n't", "do n't"), ("rock'n'roll 'll", "rock'n'roll 'll"), ("isn't, won't.", "is n't, wo n't."), ("", ""),
    ],
)  # fmt: skip
def test_contractions(text: str, split: str) -> None:
    assert contractions.split(text) == split
    assert contractions.split(split) == split


def test_spans_are_converted_after_splitting_contractions() -> None:
    text = "I don't say it's bad, isn't it"
    for piece in ("I", "don", "n't", "say", "bad", "isn't", "it"):
        start = text.index(piece)
        ((first, last),) = contractions.moved(text, [(start, start + len(piece))])
        assert contractions.split(text)[first:last].replace(" ", "") == piece

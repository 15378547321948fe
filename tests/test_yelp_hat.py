"""Yelp-HAT: labels and words that most annotators agree on, marks on the tokens of a run, and runs evaluated on it."""

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest

from attnlab import cli, lab
from attnlab.config.classification import Classification, SyntheticSentiment
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.config.text import Bpe, Words
from attnlab.data.classification import yelp_hat
from attnlab.data.classification.records import LabeledText
from attnlab.data.classification.text_encoder import TextEncoder
from attnlab.tasks.classification.data_summary import evidence_notes
from attnlab.tasks.classification.task import ClassificationTask

CONFIG = Path(__file__).parents[1] / "experiments/classification/synthetic_sentiment_additive.yaml"
CLASSES = ("negative", "positive")
REAL = Path(os.environ.get("ATTNLAB_DATA", "no data"))


def row(text: str, *people: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """Return a row; each person has a judgment and marks, such as ("yes", "0110")."""
    fields = {
        "text": text,
        "tokens": text.split(),
        "maps": [[int(mark) for mark in marks] for _, marks in people],
        "annotator_labels": [choice for choice, _ in people],
        "label": 1,
    }
    return fields | changes


ROWS = {
    "50": [
        row("It  wasn't\nbad!", ("yes", "011"), ("yes", "010"), ("no", "001")),
        row("Dull and slow", ("no", "100"), ("no", "101"), ("idk", "001"), label=0),
        row("Fine", ("yes", "1"), ("no", "1")),
    ],
    "100": [
        row("Alone here", ("yes", "11")),
        row("So so", ("idk", "10"), ("idk", "10"), ("yes", "11")),
        row("No word shared", ("yes", "100"), ("yes", "010"), label=0),
    ],
    "part7": [row("Good food", ("yes", "10"), ("", "11"), ("yes", "00"))],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("data")
    (directory / "yelp_hat").mkdir()
    for part, rows in ROWS.items():
        text = "".join(f"{json.dumps(one)}\n" for one in rows)
        (directory / f"yelp_hat/yelp-hat-{part}.jsonl.gz").write_bytes(gzip.compress(text.encode()))
    return directory


def words(example: LabeledText) -> list[str]:
    assert example.evidence is not None
    return [example.text[start:end] for start, end in example.evidence]


def test_most_annotators_decide(folder: Path) -> None:
    found = yelp_hat.readers(("Negative", "Positive"))["yelp_hat"](folder)
    assert [(one.text, one.label, words(one)) for one in found.examples] == [
        ("It wasn't bad!", "Positive", ["wasn't", "bad!"]),
        ("Dull and slow", "Negative", ["Dull", "slow"]),
        ("No word shared", "Positive", []),
        ("Good food", "Positive", ["Good"]),
    ]
    assert all(example.rationale is None for example in found.examples)
    assert "7 reviews, of which 4 are used" in found.notes[0]
    assert "2 without a label that most annotators chose, 1 with a single annotator" in found.notes[0]
    assert "1 of them have no word that most annotators marked" in found.notes[1]
    assert "1 have another label than their stars" in found.notes[1]


def test_the_parts_are_apart_too(folder: Path) -> None:
    readers = yelp_hat.readers(CLASSES)
    assert list(readers) == ["yelp_hat", "yelp_hat_50", "yelp_hat_100", "yelp_hat_part7"]
    assert [len(readers[name](folder).examples) for name in readers] == [4, 2, 1, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": ["Good"]}, "1 tokens, but the text has 2 words"),
        ({"maps": [[0, 1], [0]]}, "map 2 is not 2 numbers 0 or 1"),
        ({"maps": [[0, 1], [0, 2]]}, "map 2 is not 2 numbers 0 or 1"),
        ({"maps": [[0, 1]]}, "1 maps and 2 annotator_labels"),
        ({"maps": [], "annotator_labels": []}, "0 maps"),
        ({"annotator_labels": "yes"}, "'annotator_labels' is not a list"),
        ({"text": None}, "expected an object such as"),
        ({"text": " ", "tokens": [], "maps": [[], []]}, "expected an object such as"),
    ],
)
def test_an_invalid_row_is_refused_by_its_line(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    good = row("Good food", ("yes", "10"), ("yes", "11"))
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps(good | change)}\n")
    with pytest.raises(UserError) as error:
        yelp_hat.read_reviews(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert message in str(error.value)


@pytest.mark.parametrize("classes", [("very negative", "negative", "positive"), ("0", "1"), ("negative", "Negative")])
def test_a_run_with_other_classes_is_refused(classes: tuple[str, ...], folder: Path) -> None:
    with pytest.raises(UserError, match=f"{classes[0]}, .*label_names"):
        yelp_hat.readers(classes)["yelp_hat"](folder)


def encoder(texts: list[str], **settings: Any) -> TextEncoder:
    return TextEncoder.fit(Classification(data=SyntheticSentiment(), **settings), texts)


@pytest.mark.parametrize(
    "tokenizer", [Words(lowercase="both"), Bpe(vocabulary=120, min_frequency=1)], ids=["words", "bpe"]
)
def test_a_mark_covers_every_token_of_its_word(tokenizer: Any, folder: Path) -> None:
    """The tokens of a marked word are its text; those of other words are none of them."""
    examples = yelp_hat.readers(CLASSES)["yelp_hat"](folder).examples
    encoding = encoder([example.text for example in examples], tokenizer=tokenizer)
    for example in examples:
        gold, spans = encoding.gold(example), encoding.spans(example.text)
        marked = "".join(example.text[slice(*span)] for span, flag in zip(spans, gold, strict=True) if flag)
        assert marked.replace(" ", "") == "".join(words(example))
        assert 0 < len(gold) == len(spans)
    assert encoding.unmatched(examples) == (5, 0)


def test_words_beyond_the_longest_text_are_counted(folder: Path) -> None:
    examples = yelp_hat.readers(CLASSES)["yelp_hat_50"](folder).examples
    short = encoder([example.text for example in examples], max_length=3)
    assert short.surface(examples[0].text) == ["It", "was", "n"]
    assert short.gold(examples[0]).tolist() == [False, True, True]
    assert short.unmatched(examples) == (4, 1)
    (note,) = evidence_notes(short, examples)
    assert note.startswith("evidence: 4 marked words or phrases in 2 of 2 texts; 1 of them have no token")
    assert "max_length" in note
    assert evidence_notes(short, [LabeledText("a", "positive")]) == []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return lab.train(load(CONFIG, ["training.steps=2"], tiny=True), tmp_path_factory.mktemp("runs") / "run", None)


@pytest.mark.slow
def test_any_run_is_evaluated_without_its_own_data(
    run: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    def load_data(*_: object) -> None:
        raise AssertionError("the run's own data are read")

    monkeypatch.setattr(ClassificationTask, "load_data", load_data)
    arguments = [str(run), "--data", str(folder), "--split", "yelp_hat"]
    assert cli.main(["evaluate", *arguments]) == 0
    captured = capsys.readouterr()
    assert "7 reviews, of which 4 are used" in captured.err
    scores = json.loads((run / "results.json").read_text())["yelp_hat"]
    assert scores["texts"] == 4
    assert "rationale_mass" not in scores

    assert cli.main(["faithfulness", *arguments, "--methods", "input_x_gradient"]) == 0
    captured = capsys.readouterr()
    summary = json.loads((run / "faithfulness.json").read_text())["yelp_hat"]
    assert summary["task_metrics"]["accuracy"]["learned"] == {"mean": scores["accuracy"], "ci95": None, "n": 4}
    assert summary["task_metrics"]["accuracy"]["uniform"]["n"] == 4
    for method in ("random_attribution", "leave_one_out", "raw_attention", "input_x_gradient"):
        for metric in ("auprc_plau", "token_f1_plau", "token_iou_plau"):
            assert summary["methods"][method][metric]["n"] == 3, "a review without a marked word"
    page = next((run / "faithfulness").glob("yelp_hat-*.html")).read_text()
    for text in (captured.out, page):
        assert "uniform attention" in text
        assert "7 reviews, of which 4 are used" in text
        assert "evidence: 5 marked words" in text
    plausibility = captured.out.split("\n\n")[1].splitlines()
    assert plausibility[0].split()[:4] == ["method", "auprc_plau", "token_f1_plau", "token_iou_plau"]
    assert plausibility[1].startswith("random_attribution (floor)")
    assert plausibility[2].startswith("leave_one_out  ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--split", "yelp_hatt", "--data", "DIR"], "yelp_hat_100, yelp_hat_part7; did you mean yelp_hat?"),
        (["--split", "yelp_hat"], "give --data DIR or set ATTNLAB_DATA; expected DIR/yelp_hat/yelp-hat-50.jsonl"),
        (["--split", "yelp_hat", "--data", "EMPTY"], "yelp-hat-50.jsonl: no such file"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, run: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.delenv("ATTNLAB_DATA", raising=False)
    replaced = [{"DIR": str(folder), "EMPTY": str(tmp_path)}.get(text, text) for text in arguments]
    assert cli.main(["faithfulness", str(run), *replaced]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "yelp_hat").is_dir(), reason="needs ATTNLAB_DATA with yelp_hat")
def test_the_published_files() -> None:
    readers = yelp_hat.readers(CLASSES)
    assert [len(readers[name](REAL).examples) for name in readers] == [1270, 293, 421, 556]
    found = readers["yelp_hat"](REAL)
    assert "77 without a label that most annotators chose, 17 with a single annotator" in found.notes[0]
    assert sum(len(example.evidence or ()) for example in found.examples) == 11095
    encoding = encoder([example.text for example in found.examples])
    for example in found.examples:
        gold, spans = encoding.gold(example), encoding.spans(example.text)
        marked = "".join(example.text[slice(*span)] for span, flag in zip(spans, gold, strict=True) if flag)
        assert marked == "".join(words(example))

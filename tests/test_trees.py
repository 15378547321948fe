"""Trees: every node with its label, phrases once, no neutral ones among two classes, mistakes told with their line."""

import gzip
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from attnlab.config.classification import Trees
from attnlab.config.errors import UserError
from attnlab.data.classification.load import load
from attnlab.data.classification.records import LabeledText
from attnlab.data.classification.trees import parse

REAL = Path(os.environ.get("ATTNLAB_DATA", "no data"))

TRAIN = """(3 (2 A) (4 (3 good) (2 film)))
(1 (2 -LRB-) (1 (1 bad) (2 (2 film) (2 -RRB-))))
(2 (2 A) (2 film))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.gz").write_bytes(gzip.compress(TRAIN.encode()))
    (tmp_path / "dev").write_text("(0 (1 Bad) (2 film))\n(2 (2 A) (2 plot))\n")
    (tmp_path / "test").write_text("(4 (3 Good) (2 film))\n")
    return tmp_path


def config(classes: int, phrases: bool) -> Trees:
    return Trees(train="train", dev="dev", test={"test": "test"}, classes=classes, phrases=phrases)


def test_nodes_in_their_order() -> None:
    tree = parse("(3 (2 A) (4 (3 good) (2 film)))", "here")
    assert [(tree.text(node), node[2]) for node in tree.nodes] == [
        ("A good film", 3), ("A", 2), ("good film", 4), ("good", 3), ("film", 2),
    ]  # fmt: skip


def test_penn_escapes_are_undone() -> None:
    assert parse("(2 (2 -LRB-) (2 (2 ``) (2 a\\/b)))", "here").tokens == ("(", '"', "a/b")


def test_five_classes_of_phrases_come_once(folder: Path) -> None:
    splits = load(config(5, True), folder)
    texts = Counter(example.text for example in splits.train)
    assert max(texts.values()) == 1
    assert {example.text: example.label for example in splits.train} == {
        "A good film": "positive", "A": "neutral", "good film": "very positive", "good": "positive", "film": "neutral",
        "( bad film )": "negative", "(": "neutral", "bad film )": "negative", "bad": "negative", "film )": "neutral",
        ")": "neutral", "A film": "neutral",
    }  # fmt: skip
    assert [(e.text, e.label) for e in splits.dev] == [("Bad film", "very negative"), ("A plot", "neutral")]


def test_two_classes_leave_neutral_nodes_out_and_keep_whole_sentences_for_tests(folder: Path) -> None:
    splits = load(config(2, True), folder)
    assert {example.text: example.label for example in splits.train} == {
        "A good film": "positive", "good film": "positive", "good": "positive",
        "( bad film )": "negative", "bad film )": "negative", "bad": "negative",
    }  # fmt: skip
    assert [(e.text, e.label) for e in splits.dev] == [("Bad film", "negative")]
    assert [(e.text, e.label) for e in splits.test["test"]] == [("Good film", "positive")]
    assert splits.labels == ("negative", "positive")


def test_without_phrases_only_the_roots_are_used(folder: Path) -> None:
    assert [e.text for e in load(config(2, False), folder).train] == ["A good film", "( bad film )"]
    assert [e.text for e in load(config(5, False), folder).train] == ["A good film", "( bad film )", "A film"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("(3 (2 A) (2 film)", "1 ')' missing"),
        ("(3 (2 A) (2 film)))", "after the end"),
        ("(3 (2 A) (7 film))", "'7' after '('; expected a label of 0 to 4"),
        ("(3 (2 A) (2 ))", "before any word"),
        ("A film", "'A' outside a tree"),
        ("", "is not closed"),
        (")", "before any word"),
        ("(3 A) (2 b)", "after the end"),
    ],
)
def test_an_invalid_tree_is_refused_by_its_line(tmp_path: Path, line: str, message: str) -> None:
    for name in ("dev", "test"):
        (tmp_path / name).write_text("(1 (2 A) (1 plot))\n")
    (tmp_path / "train").write_text(f"(3 (2 A) (2 film))\n{line}\n")
    with pytest.raises(UserError) as error:
        load(config(2, True), tmp_path)
    assert f"{tmp_path / 'train'}:2: " in str(error.value)
    assert message in str(error.value)


def words(example: LabeledText) -> list[str] | None:
    evidence = example.evidence
    return None if evidence is None else [example.text[start:end] for start, end in evidence]


@pytest.mark.parametrize(
    ("tree", "expected"),
    [
        ("(4 (2 A) (4 (1 hard) (3 (4 great) (3 hit))))", ["great", "hit"]),
        ("(1 (2 A) (4 (1 hard) (3 (4 great) (3 hit))))", ["hard"]),
        ("(0 (2 -LRB-) (1 (1 bad) (2 -RRB-)))", ["bad"]),
        ("(3 (1 (4 good)) (2 it))", ["good"]),
        ("(4 (2 so) (1 bad))", []),
        ("(3 fun)", ["fun"]),
    ],
)
def test_evidence_is_the_words_on_the_side_of_the_sentence(tree: str, expected: list[str]) -> None:
    parsed = parse(tree, "here")
    evidence = parsed.evidence()
    assert evidence is not None
    assert [parsed.text(parsed.nodes[0])[start:end] for start, end in evidence] == expected


def test_evidence_is_of_validation_and_test_sentences_with_a_side(folder: Path) -> None:
    splits = load(config(5, True), folder)
    assert all(example.evidence is None for example in splits.train)
    assert [words(example) for example in splits.dev] == [["Bad"], None]
    assert [words(example) for example in load(config(2, False), folder).test["test"]] == [["Good"]]


def test_evidence_is_no_part_of_the_data_that_a_run_is_of(folder: Path) -> None:
    splits = load(config(2, True), folder)
    without = splits.map(lambda example: replace(example, evidence=None))
    assert splits.fingerprint() == without.fingerprint()
    assert splits.fingerprint_of("test") == without.fingerprint_of("test")
    known = [data.fingerprint_of("test", annotations=True) for data in (splits, without)]
    assert known[0] != known[1]
    marked = splits.map(lambda example: replace(example, rationale=((0, 1),)))
    assert marked.fingerprint() != splits.fingerprint(), "what the data are generated with is a part of it"


@pytest.mark.slow
@pytest.mark.skipif(not (REAL / "sst").is_dir(), reason="needs ATTNLAB_DATA with sst")
def test_the_treebank_is_the_data_that_earlier_runs_were_trained_on() -> None:
    files = {"train": "sst/train.ptb.txt", "dev": "sst/dev.ptb.txt", "test": {"test": "sst/test.ptb.txt"}}
    splits = load(Trees.model_validate(files), REAL)
    assert splits.fingerprint().startswith("9665dec957e29d48")
    marked = [example.evidence for example in splits.test["test"]]
    assert len(marked) == 1821
    assert sum(evidence == () for evidence in marked) == 282
    assert sum(len(evidence or ()) for evidence in marked) == 3403

"""The generated verdicts: labels that another reading confirms, and no bag of words that solves them."""

import re

import numpy as np
import pytest

from attnlab.config.classification import SyntheticSentiment
from attnlab.data.classification.load import load
from attnlab.data.classification.records import LabeledText, LabeledTextSplits
from attnlab.data.classification.synthetic_sentiment import ADJECTIVES, NEUTRAL

DENIAL = r"\b(?:it is not true that|i do not think that|i doubt that|nobody says that)\b"
NEGATION = r"\b(?:not|never|hardly|far from|anything but|by no means)\b"


@pytest.fixture(scope="module")
def splits() -> LabeledTextSplits:
    return load(SyntheticSentiment(train=4000, dev=200, test=600), None)


def read(text: str) -> str:
    """Read a verdict, independently of the grammar that wrote it: the main clause counts, denials turn it."""
    text = text.lower().removesuffix(".")
    if text.startswith("although "):
        text = text.partition(", ")[2]
    elif ", but " in text:
        text = text.partition(", but ")[2]
    text = text.partition(", although ")[0]
    signs = set()
    for clause in text.replace("not only", "").replace("but also", " and it is ").split(" and "):
        rest, denials = re.subn(DENIAL, "", clause)
        adjective = rest.split()[-1]
        if adjective not in {word.lower() for word in NEUTRAL}:
            positive = adjective in ADJECTIVES[1]
            signs.add(positive ^ ((denials + len(re.findall(NEGATION, rest))) % 2 == 1))
    assert len(signs) == 1, text
    return "positive" if signs.pop() else "negative"


def everything(splits: LabeledTextSplits) -> list[LabeledText]:
    return [example for part in splits.splits().values() for example in part]


def test_labels_match_the_sentences(splits: LabeledTextSplits) -> None:
    for example in everything(splits):
        assert read(example.text) == example.label, example.text


def test_rationales_are_adjectives_and_their_negations(splits: LabeledTextSplits) -> None:
    words = {"it", "is", "not", "true", "that", "i", "do", "think", "doubt", "nobody", "says", "never", "hardly", "far",
             "from", "anything", "but", "by", "no", "means", *ADJECTIVES[0], *ADJECTIVES[1]}  # fmt: skip
    for example in everything(splits):
        assert example.rationale
        pieces = [example.text[start:end].lower() for start, end in example.rationale]
        assert set(pieces) <= words
        assert set(pieces) & {*ADJECTIVES[0], *ADJECTIVES[1]}


def test_a_seed_always_generates_the_same_data() -> None:
    splits = load(SyntheticSentiment(train=50, dev=5, test=5), None)
    assert splits.fingerprint() == "efc839ebf08f3a1209b6672cae22cd09675018c68cb20d50ba499cc6da0eca68"


def test_splits_share_no_sentence_and_grow_at_their_end(splits: LabeledTextSplits) -> None:
    parts = [{example.text for example in part} for part in splits.splits().values()]
    assert sum(map(len, parts)) == len(set.union(*parts))
    longer = load(SyntheticSentiment(train=4100, dev=200, test=600), None)
    assert longer.train[:4000] == splits.train
    assert load(SyntheticSentiment(train=4000, dev=200, test=600, seed=1), None).train != splits.train


def test_classes_are_balanced(splits: LabeledTextSplits) -> None:
    share = np.mean([example.label == "positive" for example in splits.train])
    assert 0.47 < share < 0.53


def test_a_bag_of_words_does_not_solve_them(splits: LabeledTextSplits) -> None:
    """Logistic regression on the counts of words, by Newton's method."""
    vocabulary = sorted({word for example in splits.train for word in words(example.text)})
    place = {word: index for index, word in enumerate(vocabulary)}
    train, test = (counted(part, place) for part in (splits.train, splits.test["test"]))
    w = np.zeros(len(place) + 1)
    for _ in range(20):
        p = 1 / (1 + np.exp(-train[0] @ w))
        hessian = train[0].T @ (train[0] * (p * (1 - p))[:, None]) + np.eye(len(w))
        w -= np.linalg.solve(hessian, train[0].T @ (p - train[1]) + w)
    assert np.mean((test[0] @ w > 0) == test[1]) < 0.65


def words(text: str) -> list[str]:
    return re.findall(r"\w+|[,.]", text.lower())


def counted(part: tuple[LabeledText, ...], place: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    counts = np.zeros((len(part), len(place) + 1))
    counts[:, -1] = 1
    for row, example in enumerate(part):
        for word in words(example.text):
            counts[row, place[word]] += 1
    return counts, np.array([example.label == "positive" for example in part])

"""Scores of classifiers against counts by hand and by loops."""

import chex
import numpy as np
import pytest

from attnlab.tasks.classification.metrics import (
    accuracy,
    calibration_error,
    classification_scores,
    confusion,
    macro_f1,
    rationale_scores,
)


def drawn(count: int, classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(classes), count)
    return probabilities, np.array([rng.choice(classes, p=p) for p in probabilities])


def test_macro_f1_by_loops():
    probabilities, labels = drawn(200, 4)
    predictions, scores = probabilities.argmax(axis=1), []
    for one in range(4):
        hits = sum(1 for a, b in zip(predictions, labels, strict=True) if a == b == one)
        precision, recall = hits / max(sum(predictions == one), 1), hits / max(sum(labels == one), 1)
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    table = confusion(predictions, labels, 4)
    assert macro_f1(table) == pytest.approx(100 * np.mean(scores))
    assert accuracy(predictions, labels) == pytest.approx(100 * np.trace(table) / 200)
    assert [table[i, j] for i in range(4) for j in range(4)] == [
        sum((labels == i) & (predictions == j)) for i in range(4) for j in range(4)
    ]


def test_a_class_never_met_does_not_count():
    assert macro_f1(np.array([[3, 0, 0], [0, 2, 0], [0, 0, 0]])) == 100.0


def test_calibration_error_by_loops():
    probabilities, labels = drawn(300, 3)
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == labels
    total = 0.0
    for one in range(7):
        inside = (confidence > one / 7) & (confidence <= (one + 1) / 7)
        if inside.any():
            total += inside.sum() / 300 * abs(right[inside].mean() - confidence[inside].mean())
    assert calibration_error(probabilities, labels, 7) == pytest.approx(100 * total)


def test_calibration_error_of_the_sure():
    sure = np.array([[1.0, 0.0], [0.0, 1.0]])
    assert calibration_error(sure, np.array([0, 1]), 15) == 0.0
    assert calibration_error(sure, np.array([1, 0]), 15) == 100.0


def test_scores_lie_in_their_intervals_which_repeat_and_shrink():
    few, many = (classification_scores(*drawn(count, 3), bins=15) for count in (100, 2000))
    chex.assert_trees_all_equal(few, classification_scores(*drawn(100, 3), bins=15))
    for scores in (few, many):
        for name in ("accuracy", "macro_f1"):
            low, high = scores[f"{name}_ci95"]
            assert 0 <= low <= scores[name] <= high <= 100
    widths = [scores["accuracy_ci95"][1] - scores["accuracy_ci95"][0] for scores in (few, many)]
    assert widths[1] < 0.4 * widths[0]
    expected = 100 * 1.96 * 2 * np.sqrt(many["accuracy"] / 100 * (1 - many["accuracy"] / 100) / 2000)
    assert widths[1] == pytest.approx(expected, rel=0.1)
    assert sum(map(sum, many["confusion"])) == 2000
    assert (many["ece_bins"], many["ece"] < few["ece"]) == (15, True)


def test_nll_is_of_the_right_class():
    scores = classification_scores(np.array([[0.5, 0.5], [0.25, 0.75]]), np.array([0, 1]), bins=15)
    assert scores["nll"] == pytest.approx(-np.log([0.5, 0.75]).mean())
    assert scores["majority"] == 50.0


def test_rationale_scores():
    weights = [np.array([[0.5, 0.5, 0.0], [0.1, 0.7, 0.2]]), np.array([[0.25, 0.25, 0.5]])]
    gold = [np.array([False, True, False]), np.array([True, True, False])]
    scores = rationale_scores(weights, gold)
    assert scores["rationale_mass"] == pytest.approx(100 * (0.6 + 0.5) / 2)
    assert scores["rationale_hit"] == 50.0
    assert scores["rationale_share"] == pytest.approx(100 * (1 / 3 + 2 / 3) / 2)

"""What a classifier's probabilities are worth: accuracy, macro-F1, calibration, and how sure these numbers are."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from attnlab.tasks.bootstrap import SEED, interval


def classification_scores(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], bins: int, seed: int = SEED
) -> dict[str, Any]:
    """Score a test set, in percent, with bootstrap 95% intervals (`resampling.interval`; None of a few texts).

    Args:
        probabilities: of each class for each text; rows add up to one.
        labels: the right classes.
        bins: of the calibration error.
        seed: of the draws.

    Returns: accuracy, macro_f1 and ece with their `_ci95`, nll in nats a text, majority (accuracy of the most frequent
        class), ece_bins, confusion, row = right class, column = answer, and `per_example`, what accuracy and
        macro_f1 are made of, a row a text.
    """
    answers = probabilities.argmax(axis=1)
    metrics: dict[str, Callable[[np.ndarray], float]] = {
        "accuracy": lambda rows: accuracy(answers[rows], labels[rows]),
        "macro_f1": lambda rows: macro_f1(confusion(answers[rows], labels[rows], probabilities.shape[1])),
        "ece": lambda rows: calibration_error(probabilities[rows], labels[rows], bins),
    }
    whole = np.arange(len(labels))
    scores: dict[str, Any] = {}
    for name, metric in metrics.items():
        scores[name], scores[f"{name}_ci95"] = metric(whole), interval(whole, metric, seed=seed)
    right = np.take_along_axis(probabilities, labels[:, None], axis=1)
    table = confusion(answers, labels, probabilities.shape[1])
    return scores | {
        "per_example": {"accuracy": 100.0 * (answers == labels), "macro_f1": np.stack([labels, answers], axis=1)},
        "ece_bins": bins,
        "nll": float(-np.mean(np.log(np.maximum(right, np.finfo(np.float32).tiny)))),
        "majority": 100.0 * float(table.sum(axis=1).max()) / max(len(labels), 1),
        "confusion": table.tolist(),
    }


def accuracy(answers: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Tell what percentage of the answers is right.

    >>> accuracy(np.array([0, 1]), np.array([0, 0]))
    50.0
    """
    return 100.0 * float(np.mean(answers == labels))


def confusion(answers: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int) -> Int[np.ndarray, "c c"]:
    """Count, for every right class (row), how often each class was the answer (column).

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + answers, minlength=classes * classes).reshape(classes, classes)


def macro_f1(table: Int[np.ndarray, "c c"]) -> float:
    """Average over the classes, all of equal weight, the harmonic mean of precision and recall, in percent.

    F1_c = 2 · right_c / (answers_c + labels_c)

    A class that is neither right nor answered anywhere is left out of the mean (scikit-learn counts it as 0 when it is
    named, and leaves it out when it is not).

    >>> round(macro_f1(np.array([[1, 1], [0, 1]])), 2)
    66.67
    """
    both = table.sum(axis=0) + table.sum(axis=1)
    return 100.0 * float(np.mean(2 * np.diag(table)[both > 0] / both[both > 0]))


def macro_f1_of(rows: Shaped[np.ndarray, "n 2"]) -> float:
    """Make `macro_f1` of the right class and the answer of each text.

    >>> round(macro_f1_of(np.array([[0, 0], [0, 1], [1, 1]])), 2)
    66.67
    """
    labels, answers = rows.astype(int).T
    return macro_f1(confusion(answers, labels, int(rows.max()) + 1))


def calibration_error(probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], bins: int) -> float:
    """Average how far the confidence of answers is from their accuracy, in percent.

    ECE = Σ_b n_b / n · |accuracy_b − confidence_b|

    Args:
        probabilities: of each class; the largest of a row is the answer's confidence.
        labels: the right classes.
        bins: number of intervals of equal width that make up [0, 1], each without its left end.
    Returns: between 0 and 100. Biased upward where bins hold few texts.
    Reference: Guo et al. 2017, eq. 3.

    >>> round(calibration_error(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0]), 10), 2)
    25.0
    """
    confidence, right = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return 100.0 * float(np.abs(gaps).sum() / max(len(labels), 1))


def rationale_scores(weights: list[np.ndarray], gold: list[np.ndarray]) -> dict[str, float]:
    """Compare the attention, the mean of its hops, with the tokens that decide the label.

    Args:
        weights: [r s] of each text; negative ones count by their size.
        gold: [s] of each text, true where a token decides; every text has one.
    Returns: in percent: rationale_mass, the share of the weight that lies on deciding tokens; rationale_hit, how often
        the token of most weight is one; rationale_share, the share of tokens that are (what uniform weights get).
    """
    means = [np.abs(hops).mean(axis=0) for hops in weights]
    mass = [float(mean[true].sum() / max(mean.sum(), 1e-9)) for mean, true in zip(means, gold, strict=True)]
    hit = [bool(true[mean.argmax()]) for mean, true in zip(means, gold, strict=True)]
    share = [float(true.mean()) for true in gold]
    return {
        name: 100.0 * float(np.mean(values))
        for name, values in (("rationale_mass", mass), ("rationale_hit", hit), ("rationale_share", share))
    }

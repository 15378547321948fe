"""Metrics of classifiers: accuracy, macro-F1 and calibration error with confidence intervals, and rationales."""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Shaped

from attnlab.tasks.bootstrap import SEED, interval


def classification_scores(
    probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], bins: int, seed: int = SEED
) -> dict[str, Any]:
    """Return the metrics of a test set, in percent, with bootstrap 95% intervals (None for few texts, see `interval`).

    Args:
        probabilities: of each class for each text; rows sum to one.
        labels: the true classes.
        bins: number of bins of the calibration error.
        seed: seed of the bootstrap.

    Returns: accuracy, macro_f1 and ece with their `_ci95`, nll in nats per text, majority (accuracy of the most
        frequent class), ece_bins, confusion (rows are labels, columns predictions), and `per_example`, a row for each
        text of accuracy and macro_f1.
    """
    predictions = probabilities.argmax(axis=1)
    metrics: dict[str, Callable[[np.ndarray], float]] = {
        "accuracy": lambda rows: accuracy(predictions[rows], labels[rows]),
        "macro_f1": lambda rows: macro_f1(confusion(predictions[rows], labels[rows], probabilities.shape[1])),
        "ece": lambda rows: calibration_error(probabilities[rows], labels[rows], bins),
    }
    all_rows = np.arange(len(labels))
    scores: dict[str, Any] = {}
    for name, metric in metrics.items():
        scores[name], scores[f"{name}_ci95"] = metric(all_rows), interval(all_rows, metric, seed=seed)
    of_labels = np.take_along_axis(probabilities, labels[:, None], axis=1)
    table = confusion(predictions, labels, probabilities.shape[1])
    return scores | {
        "per_example": prediction_rows(predictions, labels),
        "ece_bins": bins,
        "nll": float(-np.mean(np.log(np.maximum(of_labels, np.finfo(np.float32).tiny)))),
        "majority": 100.0 * float(table.sum(axis=1).max()) / max(len(labels), 1),
        "confusion": table.tolist(),
    }


def prediction_rows(predictions: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> dict[str, np.ndarray]:
    """Return what each text contributes to the metrics: 100 or 0 for the accuracy, and its classes for macro-F1."""
    return {"accuracy": 100.0 * (predictions == labels), "macro_f1": np.stack([labels, predictions], axis=1)}


def accuracy(predictions: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"]) -> float:
    """Return the percentage of correct predictions.

    >>> accuracy(np.array([0, 1]), np.array([0, 0]))
    50.0
    """
    return 100.0 * float(np.mean(predictions == labels))


def confusion(
    predictions: Int[np.ndarray, " n"], labels: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "c c"]:
    """Return the confusion matrix: rows are labels, columns predictions.

    >>> confusion(np.array([0, 1, 1]), np.array([0, 1, 0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    return np.bincount(labels * classes + predictions, minlength=classes * classes).reshape(classes, classes)


def macro_f1(table: Int[np.ndarray, "c c"]) -> float:
    """Return the unweighted mean of the F1 of all classes, in percent.

    F1_c = 2 · correct_c / (predictions_c + labels_c)

    A class without labels and predictions is left out of the mean (scikit-learn counts it as 0 if it is among `labels`,
    and leaves it out otherwise).

    >>> round(macro_f1(np.array([[1, 1], [0, 1]])), 2)
    66.67
    """
    both = table.sum(axis=0) + table.sum(axis=1)
    return 100.0 * float(np.mean(2 * np.diag(table)[both > 0] / both[both > 0]))


def macro_f1_of(rows: Shaped[np.ndarray, "n 2"]) -> float:
    """Return `macro_f1` from the label and the prediction of each text.

    >>> round(macro_f1_of(np.array([[0, 0], [0, 1], [1, 1]])), 2)
    66.67
    """
    labels, predictions = rows.astype(int).T
    return macro_f1(confusion(predictions, labels, int(rows.max()) + 1))


def calibration_error(probabilities: Float[np.ndarray, "n c"], labels: Int[np.ndarray, " n"], bins: int) -> float:
    """Return the expected calibration error: the mean difference of confidence and accuracy over bins, in percent.

    ECE = Σ_b n_b / n · |accuracy_b − confidence_b|

    Args:
        probabilities: of each class; the largest of a row is the confidence of the prediction.
        labels: the true classes.
        bins: number of bins of equal width that cover [0, 1], each without its left end.
    Returns: in [0, 100]. Biased upward if bins hold few texts.
    Reference: Guo et al. 2017, eq. 3.

    >>> round(calibration_error(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([0, 0]), 10), 2)
    25.0
    """
    confidence, correct = probabilities.max(axis=1).astype(np.float64), probabilities.argmax(axis=1) == labels
    indices = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    gaps = np.bincount(indices, weights=correct - confidence, minlength=bins)
    return 100.0 * float(np.abs(gaps).sum() / max(len(labels), 1))


def rationale_scores(weights: list[np.ndarray], rationales: list[np.ndarray]) -> dict[str, float]:
    """Compare the attention, averaged over its hops, with the rationale: the tokens that decide the label.

    Args:
        weights: [r s] of each text; of negative weights the absolute value counts.
        rationales: [s] of each text, True for the tokens of its rationale; every text has at least one.
    Returns: percentages: rationale_mass, the share of the weight on the rationale; rationale_hit, how often the token
        with the largest weight is in the rationale; rationale_share, the share of tokens in the rationale, which is the
        rationale_mass of uniform weights.
    """
    means = [np.abs(hops).mean(axis=0) for hops in weights]
    pairs = list(zip(means, rationales, strict=True))
    mass = [float(mean[rationale].sum() / max(mean.sum(), 1e-9)) for mean, rationale in pairs]
    hit = [bool(rationale[mean.argmax()]) for mean, rationale in pairs]
    share = [float(rationale.mean()) for rationale in rationales]
    return {
        name: 100.0 * float(np.mean(values))
        for name, values in (("rationale_mass", mass), ("rationale_hit", hit), ("rationale_share", share))
    }

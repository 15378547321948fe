"""The probabilities of a classifier, and its predictions as lines of text."""

from collections.abc import Iterator, Sequence

import numpy as np


def prediction_lines(
    lines: Sequence[str], probabilities: np.ndarray, labels: Sequence[str], first: int, n_best: int | None
) -> Iterator[str]:
    """Yield the class of each line, a tab and its probability; an empty line for an empty one.

    With `n_best` above 1 yield `line number ||| class ||| probability` for each of the best classes; the classes of an
    empty line are empty, with probability 0.

    Args:
        lines: the texts.
        probabilities: [n c] of each text.
        labels: names of the classes.
        first: number of the first line.
        n_best: classes for each line; None is 1.

    >>> list(prediction_lines(["good", ""], np.array([[0.1, 0.9], [0.5, 0.5]]), ["no", "yes"], 0, None))
    ['yes\\t0.9000', '']
    """
    for number, (line, row) in enumerate(zip(lines, probabilities, strict=True), start=first):
        order = np.argsort(-row, kind="stable")[: n_best or 1]
        if n_best in (None, 1):
            yield f"{labels[order[0]]}\t{row[order[0]]:.4f}" if line.split() else ""
        elif not line.split():
            yield from [f"{number} |||  ||| 0.0000"] * n_best
        else:
            yield from (f"{number} ||| {labels[label]} ||| {row[label]:.4f}" for label in order)


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities [n c] of logits [n c], in float64."""
    powers = np.exp(np.asarray(logits, np.float64) - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)

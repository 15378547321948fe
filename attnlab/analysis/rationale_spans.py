"""Spans of marked tokens, and the F1 score of predicted against gold spans."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Array, Bool

Span = tuple[int, int]
"""The first token and the one after the last."""


class SpanF1(NamedTuple):
    """F1 scores of predicted spans, in [0, 1]."""

    micro: float
    """Of the counts summed over all texts."""
    macro: float
    """Of the precision and the recall averaged over texts. ERASER's tables have this one."""


def iou_f1(predicted: Sequence[Sequence[Span]], gold: Sequence[Sequence[Span]], threshold: float = 0.5) -> SpanF1:
    """Compute the F1 score of predicted spans that overlap a gold span enough.

    A predicted span is correct if its intersection over union with some gold span is at least the threshold.

    precision = correct / predicted,    recall = correct / gold

    Two predicted spans may be correct by the same gold span, so that recall can exceed 1: this is ERASER's definition.

    Args:
        predicted: the predicted spans of each text.
        gold: the gold spans of each text.
        threshold: the least intersection over union.
    Returns: a `SpanF1`. The means of `macro` are over the texts with at least one predicted span (precision) or gold
        span (recall).
    Reference: DeYoung et al. 2020, section 4.1 (IoU F1) and the published metrics (`partial_match_score`).

    >>> iou_f1([[(0, 2)], [(3, 4)]], [[(0, 3)], [(0, 1)]])
    SpanF1(micro=0.5, macro=0.5)
    """
    if len(predicted) != len(gold):
        raise ValueError(f"iou_f1: {len(predicted)} texts with predicted spans for {len(gold)} with gold spans")
    pairs = [(list(dict.fromkeys(p)), list(dict.fromkeys(g))) for p, g in zip(predicted, gold, strict=True)]
    correct = [sum(any(_span_iou(a, b) >= threshold for b in g) for a in p) for p, g in pairs]
    predictions, golds = [len(p) for p, _ in pairs], [len(g) for _, g in pairs]
    precisions = [hits / size for hits, size in zip(correct, predictions, strict=True) if size]
    recalls = [hits / size for hits, size in zip(correct, golds, strict=True) if size]
    return SpanF1(
        micro=_f1(_ratio(sum(correct), sum(predictions)), _ratio(sum(correct), sum(golds))),
        macro=_f1(_ratio(sum(precisions), len(precisions)), _ratio(sum(recalls), len(recalls))),
    )


def spans(marked: Sequence[bool] | Bool[np.ndarray, " n"] | Bool[Array, " n"]) -> list[Span]:
    """Return the spans of consecutive marked tokens.

    >>> spans([True, True, False, True])
    [(0, 2), (3, 4)]
    """
    padded = [False, *map(bool, marked), False]
    starts = [n for n in range(len(marked)) if padded[n + 1] and not padded[n]]
    ends = [n for n in range(1, len(marked) + 1) if padded[n] and not padded[n + 1]]
    return list(zip(starts, ends, strict=True))


def _span_iou(first: Span, second: Span) -> float:
    both = max(0, min(first[1], second[1]) - max(first[0], second[0]))
    return _ratio(both, first[1] - first[0] + second[1] - second[0] - both)


def _ratio(part: float | int, whole: int) -> float:
    return part / whole if whole else 0.0


def _f1(precision: float, recall: float) -> float:
    return 2.0 * precision * recall / (precision + recall) if precision and recall else 0.0

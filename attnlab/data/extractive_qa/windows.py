"""Overlapping windows of long passages, and spans of tokens."""

from collections.abc import Sequence

import numpy as np

from attnlab.data.records import Span


def windows(length: int, size: int, stride: int) -> list[Span]:
    """Split a sequence into windows that cover all tokens; the last window ends at the end of the sequence.

    Args:
        length: number of tokens in the sequence.
        size: largest number of tokens in a window.
        stride: number of tokens between the starts of successive windows, at most `size`.
    Returns: start and end (exclusive) of each window; one empty window for an empty sequence.

    >>> windows(10, 4, 3), windows(3, 4, 3)
    ([(0, 4), (3, 7), (6, 10)], [(0, 3)])
    """
    if not 1 <= stride <= size:
        raise ValueError(f"windows: stride {stride} must be between 1 and size {size}")
    starts = range(0, max(length - size, 0) + stride, stride)
    return [(start, min(start + size, length)) for start in starts]


def tokens_of(span: Span, offsets: Sequence[Span]) -> Span | None:
    """Return the first and the last token that overlap a span of characters, or None.

    >>> tokens_of((2, 5), [(0, 1), (2, 4), (4, 6)])
    (1, 2)
    """
    overlapping = [number for number, (start, end) in enumerate(offsets) if start < span[1] and span[0] < end]
    return (overlapping[0], overlapping[-1]) if overlapping else None


def best_spans(start: np.ndarray, end: np.ndarray, longest: int, count: int) -> list[tuple[float, int, int]]:
    """Return the spans with the largest sums of start and end logits.

    Args:
        start: [t] logits of each token to be the first of the answer.
        end: [t] logits of each token to be the last.
        longest: largest number of tokens in a span.
        count: largest number of spans to return.
    Returns: (sum, first token, last token), best first.

    >>> best_spans(np.array([0.0, 3.0]), np.array([2.0, 0.0]), 2, 2)
    [(3.0, 1, 1), (2.0, 0, 0)]
    """
    sums = np.full((min(longest, len(start)), len(start)), -np.inf)
    for further in range(len(sums)):
        sums[further, : len(start) - further] = start[: len(start) - further] + end[further:]
    order = np.argsort(-sums, axis=None, kind="stable")[:count]
    spans = [(float(sums.flat[at]), int(at % len(start)), int(at % len(start) + at // len(start))) for at in order]
    return [span for span in spans if np.isfinite(span[0])]

"""Prediction of answer spans: the best spans over all windows of a passage, and whether there is an answer."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.data.extractive_qa.encoder import PassageEncoder, Window
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.extractive_qa.windows import best_spans

NO_SPAN = (-1, -1)


class PredictedSpan(NamedTuple):
    """A predicted answer; its text is empty if the prediction is that there is no answer."""

    text: str
    score: float
    """log p(first word) + log p(last word) in its window, or the same sum at the position of "no answer"."""
    window: int
    """Index of its window among those of the question."""
    words: tuple[int, int]
    """First and last word in the window; `NO_SPAN` for no answer."""


WindowScores = tuple[Sequence[int], np.ndarray, np.ndarray]
"""Indices of the windows of a batch, and log-probabilities [b t+1] of the first and of the last word of the answer;
position 0 stands for "no answer"."""


def predict_spans(
    encoder: PassageEncoder,
    questions: Sequence[PassageQuestion],
    windows: Sequence[Window],
    batches: Iterable[WindowScores],
) -> list[list[PredictedSpan]]:
    """Return the best answers to each question over all windows of its passage, best first.

    The log-probabilities of a window are normalized over its words and "no answer", so scores are comparable between
    windows. The score of "no answer" is the smallest of all windows; with `task.unanswerable` it comes first if it
    exceeds the score of the best span by more than `task.null_threshold`. Of spans with equal texts, in overlapping
    windows or at other positions, only the best is returned.

    Args:
        encoder: the encoder of the windows, whose config has the settings of the search.
        questions: the questions.
        windows: the windows of all questions, in order.
        batches: the log-probabilities of all windows.
    """
    settings = encoder.config
    spans: list[list[PredictedSpan]] = [[] for _ in questions]
    no_answer, first_windows = np.full(len(questions), np.inf), dict[int, int]()
    for index, window in enumerate(windows):
        first_windows.setdefault(window.number, index)
    for indices, start, end in batches:
        for row, index in enumerate(indices):
            window = windows[index]
            number, words = window.number, slice(1, window.length + 1)
            no_answer[number] = min(no_answer[number], start[row, 0] + end[row, 0])
            for score, first, last in best_spans(
                start[row, words], end[row, words], settings.max_answer, settings.n_best
            ):
                text = encoder.answer(questions[number], window, first, last)
                spans[number].append(PredictedSpan(text, score, index - first_windows[number], (first, last)))
    return [rank(candidates, float(score), settings) for candidates, score in zip(spans, no_answer, strict=True)]


def rank(spans: Sequence[PredictedSpan], no_answer: float, settings: ExtractiveQA) -> list[PredictedSpan]:
    """Return the best spans of distinct text, and "no answer" where the settings allow it or there is no span.

    Args:
        spans: all candidates.
        no_answer: the score of "no answer".
        settings: the `task` section of the config.
    """
    distinct: dict[str, PredictedSpan] = {}
    for span in sorted(spans, key=lambda span: -span.score):
        distinct.setdefault(span.text, span)
    best = list(distinct.values())[: settings.n_best]
    none = PredictedSpan("", no_answer, 0, NO_SPAN)
    if not best:
        return [none]
    if not settings.unanswerable:
        return best
    exceeds = no_answer - best[0].score > settings.null_threshold
    return [none, *best] if exceeds else [best[0], none, *best[1:]]


def best_span_text(ranked: Sequence[PredictedSpan]) -> str:
    """Return the text of the best span, regardless of the score of "no answer"."""
    return next((span.text for span in ranked if span.text), "")


def no_answer_margin(ranked: Sequence[PredictedSpan]) -> float:
    """Return the score of "no answer" minus that of the best span."""
    none = next(span.score for span in ranked if not span.text)
    return none - max((span.score for span in ranked if span.text), default=none)

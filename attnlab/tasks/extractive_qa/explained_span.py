"""The explained prediction of a reader: an answer span, or no answer, in one window of the passage."""

import re
from collections.abc import Sequence

import numpy as np
from jax.tree_util import Partial

from attnlab.config.errors import UserError
from attnlab.data.extractive_qa.encoder import Window
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.extractive_qa.windows import tokens_of
from attnlab.data.records import Span
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection, span_contrast, span_target
from attnlab.tasks.extractive_qa.adapters import ReaderAdapter
from attnlab.tasks.extractive_qa.span_prediction import NO_SPAN, PredictedSpan

NO_ANSWER = "(no answer)"


def explained_span(
    adapter: ReaderAdapter,
    example: PassageQuestion,
    windows: Sequence[Window],
    best: PredictedSpan,
    selection: TargetSelection,
) -> ExplainedPrediction:
    """Return the explained prediction of a span.

    Args:
        adapter: of the model.
        example: the question with its passage.
        windows: the windows of the passage.
        best: the model's own prediction.
        selection: the target and its contrast are texts of the passage, of which the first occurrence counts, or "" for
            no answer; both must lie in one window.
    """
    selection.without_position()
    if selection.target is None:
        numbers, text = [best.window], best.text
        places = [best.words]
    else:
        numbers, text = list(range(len(windows))), selection.target
        places = [_words(example, window, selection.target) for window in windows]
    if selection.contrast is not None and selection.contrast == text:
        raise UserError(f"contrast {selection.contrast!r} is the target itself; name another answer")
    for number, words in zip(numbers, places, strict=True):
        window = windows[number]
        other = None if selection.contrast is None else _words(example, window, selection.contrast)
        if words is not None and (selection.contrast is None or other is not None):
            return _explained(adapter, example, window, words, other, text, best, selection)
    texts = [repr(text) for text in (selection.target, selection.contrast) if text is not None]
    together = " in one window" if len(windows) > 1 else ""
    raise UserError(f"the passage does not contain {' and '.join(texts)}{together}; a target is a part of the passage")


def _explained(
    adapter: ReaderAdapter,
    example: PassageQuestion,
    window: Window,
    words: Span,
    other: Span | None,
    text: str,
    best: PredictedSpan,
    selection: TargetSelection,
) -> ExplainedPrediction:
    span = np.array(words, np.int32) + 1  # place 0 is no answer
    description = f"log-probability of the answer {text or NO_ANSWER!r}"
    target = Partial(span_target, span=span)
    if other is not None:
        target = Partial(span_contrast, span=span, other=np.array(other, np.int32) + 1)
        description += f" minus that of {selection.contrast or NO_ANSWER!r}"
    return ExplainedPrediction(
        (window,), adapter.explained_inputs(example, window), target, description, best.text or NO_ANSWER,
        rows=adapter.rows(window, words),
    )  # fmt: skip


def _words(example: PassageQuestion, window: Window, text: str) -> Span | None:
    """Return the first and last word of the first occurrence of a text in a window; None if it is not there."""
    if not text or text == NO_ANSWER:
        return NO_SPAN
    offsets = window.passage.offsets[window.first : window.last]
    inside = slice(offsets[0][0], offsets[-1][1]) if offsets else slice(0, 0)
    found = re.compile(re.escape(text), re.IGNORECASE).search(example.passage, inside.start, inside.stop)
    return tokens_of(found.span(), offsets) if found else None

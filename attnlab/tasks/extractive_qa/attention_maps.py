"""Attention maps of a predicted span: the attention between question and passage, and the probabilities of the span."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from attnlab.data.extractive_qa.encoder import Window
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.tasks.attention_map import AttentionMap, RowGroup
from attnlab.tasks.extractive_qa.span_prediction import PredictedSpan
from attnlab.tasks.input_parts import CLS, SEP
from attnlab.tasks.layer_attention import SelectedAttention, self_attention_map

MAX_WORDS = 120
"""Most words of a passage in an attention map: those around the answer."""
NO_ANSWER_MASS = 0.005
"""Probability of "no answer" above which the title mentions it."""


class WindowAttention(NamedTuple):
    """The attention of a reader in one window, and its probabilities of the answer's first and last word."""

    by_word: np.ndarray | None
    """[j t] of each word of the question and each word of the passage; None for a model without it."""
    as_whole: np.ndarray | None
    """[t] of the question as a whole to the passage; None for a model without it."""
    first: np.ndarray
    """[t]"""
    last: np.ndarray
    """[t]"""


def words_around(window: Window, span: PredictedSpan) -> slice:
    """Return the words of a window that an attention map has: at most `MAX_WORDS` around the answer."""
    count = min(window.length, MAX_WORDS)
    start = min(max(span.words[0] - count // 2, 0), window.length - count)
    return slice(start, start + count)


def span_map(
    example: PassageQuestion,
    window: Window,
    span: PredictedSpan,
    attention: WindowAttention,
    question_words: list[str],
    question_title: str,
    unknown_words: tuple[str, ...] = (),
) -> AttentionMap:
    """Return the attention map of a predicted span in its window.

    Args:
        example: the question with its passage.
        window: the window of the span.
        span: the prediction.
        attention: the attention of the window.
        question_words: labels of the rows of `attention.by_word`.
        question_title: title of these rows.
        unknown_words: words of question and passage that the vocabulary lacks.
    """
    words = words_around(window, span)
    count = words.stop - words.start
    labels = ["answer starts", "answer ends"]
    rows = [attention.first[words], attention.last[words]]
    title = "Probability of the answer's first and last word"
    if attention.as_whole is not None and attention.as_whole.any():
        labels, rows = ["question as a whole", *labels], [attention.as_whole[words], *rows]
        title = "Attention of the question as a whole, and probability of the answer's first and last word"
    if min(attention.first.sum(), attention.last.sum()) < 1 - NO_ANSWER_MASS:
        title += '; probabilities sum to 1 minus that of "no answer"'
    if count < window.length:
        title += f" ({count} of {window.length} words, those around the answer)"
    groups = [RowGroup(len(rows), title, value_label="weight or probability")]
    if attention.by_word is not None and attention.by_word.any():
        labels, rows = [*question_words, *labels], [*attention.by_word[: len(question_words), words], *rows]
        groups = [RowGroup(len(question_words), question_title, "question", from_input=True), *groups]
    start = window.first + words.start
    offsets = window.passage.offsets[start : start + count]
    return AttentionMap(
        column_labels=[example.passage[first:last] for first, last in offsets],
        row_labels=labels,
        weights=np.stack(rows),
        prediction=span.text or "(no answer)",
        score=span.score,
        reference=" / ".join(dict.fromkeys(answer.text for answer in example.answers)),
        input=f"{example.question} — {example.passage}",
        question=example.question,
        column_label="passage",
        row_label="question and answer",
        row_groups=tuple(groups),
        evidence=tuple(
            column
            for column, (first, last) in enumerate(offsets)
            if any(first < answer.span[1] and answer.span[0] < last for answer in example.answers)
        ),
        unknown_words=unknown_words,
    )


def selected_map(
    best: AttentionMap, selected: SelectedAttention, window: Window, words: slice, question_words: list[str]
) -> AttentionMap:
    """Return the attention map of a selected layer and head for the best prediction.

    Args:
        best: the attention map of the best prediction, whose columns are `words`.
        selected: the weights.
        window: the window of the prediction.
        words: the words of the window that `best` has.
        question_words: the words of the question.
    """
    passage_words = best.column_labels
    if selected.kind == "context_to_query":
        return replace(
            best,
            row_labels=passage_words,
            column_labels=question_words,
            weights=selected.weights[words, : len(question_words)],
            row_label="passage",
            column_label="question",
            row_groups=(RowGroup(len(passage_words), selected.title, "passage", from_input=True),),
            evidence=(),
        )
    if selected.kind == "query_to_context":
        return replace(
            best,
            row_labels=["question as a whole"],
            weights=selected.weights[:, words],
            row_label="question",
            row_groups=(RowGroup(1, selected.title, "question"),),
        )
    start = len(question_words) + 2  # [CLS] question [SEP] passage
    positions = np.array([*range(start), *range(start + words.start, start + words.stop)])
    tokens = [CLS, *question_words, SEP, *passage_words]
    title = selected.title
    if len(passage_words) < window.length:
        title += f"; {len(passage_words)} of {window.length} words of the passage are shown"
    shown = selected._replace(title=title, weights=selected.weights[np.ix_(positions, positions)])
    return self_attention_map(best, tokens, shown, tuple(start + column for column in best.evidence))

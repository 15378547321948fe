"""Adapters of the readers: their batches of windows, and their attention between question and passage."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from attnlab.config import Experiment
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.data.extractive_qa.encoder import PassageEncoder, Window
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.records import Span
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS
from attnlab.layers.layer_attention import LayerAttention
from attnlab.models.bidaf import BidafReader, Pointers, ReaderEmbeddings
from attnlab.models.transformer_reader import TransformerReader
from attnlab.tasks.adapter import ModelAdapter, Output
from attnlab.tasks.dropping import TokenArrays, at_places_of_text
from attnlab.tasks.input_parts import CLS, SEP, InputPart, InputSequence, text_part


class QuestionAttention(NamedTuple):
    """The attention between question and passage; None where a model has none."""

    by_word: Float[Array, "b j t"] | None
    """Of each word of the question and each word of the passage."""
    as_whole: Float[Array, "b t"] | None
    """Of the question as a whole to each word of the passage."""


class ReaderAdapter(ModelAdapter):
    """A model that predicts the span of the answer in a window of a passage.

    The logits [b 2 t+1] are of the answer's first and last word; position 0 stands for "no answer".

    Attributes:
        question_title: title of the rows of `QuestionAttention.by_word` in an attention map.
        settings: those of the search of spans.
    """

    question_title: str
    settings: ExtractiveQA
    drop_refusal = ""
    predicts_places = True

    @abstractmethod
    def removed_words(self, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> Bool[Array, " t"]:
        """Return which words of the window are removed, in a batch from before that."""

    def at_places_of_text(
        self, logits: Float[Array, "b 2 places"], batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]
    ) -> Float[Array, "b 2 places"]:
        """Return logits at the places of the whole window: a span that lost a word is almost impossible.

        The spans of `decisions` may then be one or more removed words longer than in the shortened window.
        """
        no_answer = jnp.zeros(1, bool)
        return at_places_of_text(logits, jnp.concatenate([no_answer, self.removed_words(batch, removed)]))

    @abstractmethod
    def question_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> QuestionAttention:
        """Return the attention between question and passage from the records of all layers."""

    @abstractmethod
    def explained_inputs(self, example: PassageQuestion, window: Window) -> PyTree:
        """Return an `InputSequence` for each array that `embed` returns."""

    @abstractmethod
    def rows(self, window: Window, words: Span) -> tuple[int, ...]:
        """Return the positions whose attention leads to an answer, first and last word in the window, or `NO_SPAN`."""

    def decisions(self, logits: Float[Array, "2 places"]) -> Int[Array, " 1"]:
        """Return the best span of a window as one decision, as `predict_spans` finds it there; 0 is no answer.

        A span ends where it starts or after it, and has at most `max_answer` words.
        """
        first, last = logits[:, 1:]
        words = jnp.arange(len(first), dtype=jnp.int32)
        further = jnp.arange(min(self.settings.max_answer, len(first)), dtype=jnp.int32)[:, None]
        ends = words[None, :] + further
        sums = first[None, :] + jnp.where(ends < len(first), last[jnp.minimum(ends, len(first) - 1)], -jnp.inf)
        best, none = jnp.max(sums), logits[0, 0] + logits[1, 0]
        no_answer = best == -jnp.inf
        if self.settings.unanswerable:
            no_answer |= none - best > self.settings.null_threshold
        return jnp.where(no_answer, 0, 1 + jnp.argmax(sums)).astype(jnp.int32).reshape(1)

    def output(self, raw: Pointers, layers: list[LayerAttention]) -> Output:
        logits = jnp.stack([raw.start, raw.end], axis=1)
        return Output(logits, layers, jnp.zeros(logits.shape[0]))


def adapter(config: Experiment, encoder: PassageEncoder) -> ReaderAdapter:
    """Return the adapter of an experiment's model."""
    return (BidafAdapter if config.model.kind == "bidaf_reader" else TransformerAdapter)(config, encoder)


def _column(rows: int, values: Sequence[int]) -> np.ndarray:
    column = np.zeros(rows, np.int32)
    column[: len(values)] = values
    return column


def _question_part(example: PassageQuestion, window: Window, **special: Any) -> InputPart:
    return text_part("question", example.question, window.question.offsets, **special)


def _passage_part(example: PassageQuestion, window: Window, **special: Any) -> InputPart:
    return text_part("passage", example.passage, window.passage.offsets[window.first : window.last], **special)


def _targets(rows: int, windows: Sequence[Window]) -> Batch:
    return {
        "start": _column(rows, [window.target[0] for window in windows]),
        "end": _column(rows, [window.target[1] for window in windows]),
        "real": _column(rows, [1] * len(windows)),
    }


class BidafAdapter(ReaderAdapter):
    """Bidirectional attention flow, with separate inputs for question and passage."""

    input_names = (
        "passage", "passage_lengths", "question", "question_lengths", "passage_letters", "question_letters", "match",
    )  # fmt: skip

    embedded_names = ("passage", "passage_letters", "question", "question_letters")
    sequences = (
        TokenArrays(("passage", "passage_letters", "match"), "passage_lengths"),
        TokenArrays(("question", "question_letters"), "question_lengths"),
    )
    question_title = "Attention of each word of the passage to the question"

    def __init__(self, config: Any, encoder: PassageEncoder) -> None:
        self.model = BidafReader(config.model, encoder.tokenizer.vocabulary_size, encoder.letter_count)
        self._letters = encoder.longest_word
        self.settings = encoder.config

    def lengths(self, example: Window) -> tuple[int, int]:
        return max(len(example.question.ids), 1), max(example.length, 1)

    def arrays(self, examples: Sequence[Window], shape: Shape) -> Batch:
        rows, question_width, passage_width = shape.rows, shape.source, shape.target
        batch: Batch = {}
        for name, width in (("question", question_width), ("passage", passage_width)):
            batch[name] = np.zeros((rows, width), np.int32)
            batch[f"{name}_letters"] = np.zeros((rows, width, self._letters), np.int32)
        batch["match"] = np.zeros((rows, passage_width), np.float32)
        for row, window in enumerate(examples):
            question_words, first, last = window.question, window.first, window.last
            batch["question"][row, : len(question_words.ids)] = question_words.ids
            batch["question_letters"][row, : len(question_words.ids)] = question_words.letters
            batch["passage"][row, : window.length] = window.passage.ids[first:last]
            batch["passage_letters"][row, : window.length] = window.passage.letters[first:last]
            batch["match"][row, : window.length] = window.match
        batch["question_lengths"] = _column(rows, [len(window.question.ids) for window in examples])
        batch["passage_lengths"] = _column(rows, [window.length for window in examples])
        return batch | _targets(rows, examples)

    @property
    def example_batch(self) -> Batch:
        word, letters = np.ones((1, 1), np.int32), np.ones((1, 1, self._letters), np.int32)
        batch = {"passage": word, "question": word, "passage_letters": letters, "question_letters": letters}
        return batch | {
            "passage_lengths": np.array([1], np.int32),
            "question_lengths": np.array([1], np.int32),
            "match": np.ones((1, 1), np.float32),
        }

    def explained_inputs(self, example: PassageQuestion, window: Window) -> Any:
        parts = _passage_part(example, window), _question_part(example, window)
        return ReaderEmbeddings(*(InputSequence((part,)) for part in parts))  # type: ignore[arg-type]

    def removed_words(self, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> Bool[Array, " t"]:
        return removed[0]

    def rows(self, window: Window, words: Span) -> tuple[int, ...]:
        return tuple(range(window.length) if words[0] < 0 else range(words[0], words[1] + 1))

    def question_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> QuestionAttention:
        """Return context-to-query attention, transposed, and query-to-context attention."""
        weights = {layer.kind: layer.weights[:, 0] for layer in layers}
        by_passage, by_question = weights.get("context_to_query"), weights.get("query_to_context")
        return QuestionAttention(
            None if by_passage is None else jnp.swapaxes(by_passage, 1, 2),
            None if by_question is None else by_question[:, 0],
        )


class TransformerAdapter(ReaderAdapter):
    """The Transformer, whose input is question and passage in one sequence."""

    input_names = ("tokens", "lengths", "starts", "match")
    sequences = (TokenArrays(("tokens", "match"), "lengths"),)

    question_title = "Attention of each word of the question to the passage (last layer, mean of its heads)"

    def __init__(self, config: Any, encoder: PassageEncoder) -> None:
        self.model = TransformerReader(config.model, encoder.tokenizer.vocabulary_size)
        self._tokens_after = config.model.special_tokens_after
        self.settings = encoder.config
        self.max_positions = config.model.encoder.max_positions

    def lengths(self, example: Window) -> tuple[int, int]:
        length = len(example.question.ids) + 2 + example.length + self._tokens_after
        return length, length

    def arrays(self, examples: Sequence[Window], shape: Shape) -> Batch:
        rows, positions = shape.rows, shape.target
        tokens, match = np.zeros((rows, positions), np.int32), np.zeros((rows, positions), np.float32)
        for row, window in enumerate(examples):
            start = len(window.question.ids) + 2
            tokens[row, :start] = [BOS, *window.question.ids, EOS]
            passage = [*window.passage.ids[window.first : window.last], *[EOS] * self._tokens_after]
            tokens[row, start : start + len(passage)] = passage
            match[row, start : start + window.length] = window.match
        starts = [len(window.question.ids) + 2 for window in examples]
        lengths = [self.lengths(window)[0] for window in examples]
        batch = {"tokens": tokens, "lengths": _column(rows, lengths), "starts": _column(rows, starts), "match": match}
        return batch | _targets(rows, examples)

    @property
    def example_batch(self) -> Batch:
        tokens = np.ones((1, 3), np.int32)
        return {
            "tokens": tokens,
            "lengths": np.array([3], np.int32),
            "starts": np.array([2], np.int32),
            "match": np.ones((1, 3), np.float32),
        }

    def explained_inputs(self, example: PassageQuestion, window: Window) -> InputSequence:
        question = _question_part(example, window, before=[CLS], after=[SEP])
        return InputSequence((question, _passage_part(example, window, after=[SEP] * self._tokens_after)))

    def drop(self, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> dict[str, Any]:
        """Return a batch without the removed tokens; the passage starts earlier where the question lost some."""
        starts = jnp.asarray(batch["starts"])
        before = jnp.arange(len(removed[0]), dtype=jnp.int32) < starts[:, None]
        return super().drop(batch, removed) | {"starts": starts - jnp.sum(before & removed[0], axis=1, dtype=jnp.int32)}

    def removed_words(self, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> Bool[Array, " t"]:
        places = jnp.asarray(batch["starts"])[0] + jnp.arange(len(removed[0]), dtype=jnp.int32)
        return jnp.take(removed[0], places, mode="fill", fill_value=False)

    def rows(self, window: Window, words: Span) -> tuple[int, ...]:
        start = len(window.question.ids) + 2
        return (0,) if words[0] < 0 else tuple(start + word for word in dict.fromkeys(words))

    def question_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> QuestionAttention:
        """Return the last layer's attention of the question's tokens to the passage's, the mean of its heads."""
        mean = jnp.mean(layers[-1].weights, axis=1)
        width, start = mean.shape[1], batch["starts"][:, None]
        positions = jnp.arange(width)[None, :]
        question = jnp.take_along_axis(mean, jnp.minimum(positions + 1, width - 1)[..., None], axis=1)
        passage = jnp.minimum(start + positions, width - 1)[:, None, :]
        return QuestionAttention(jnp.take_along_axis(question, passage, axis=2), None)

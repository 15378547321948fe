"""How each kind of model reads a batch of windows, and its attention between question and passage."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.config import Experiment
from attnlab.data.extractive_qa.encoder import PassageEncoder, Window
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS
from attnlab.layers.capture import LayerAttention
from attnlab.models.bidaf import BidafReader, Pointers
from attnlab.models.transformer_reader import TransformerReader
from attnlab.tasks.adapter import ModelAdapter, Output


class ReaderAdapter(ModelAdapter):
    """A model that points at the answer in a window of a passage.

    The logits [b 2 t+1] are of the answer's first and last word; position 0 stands for "no answer".

    Attributes:
        title: what the weights of `question_attention` are.
    """

    title: str

    @abstractmethod
    def question_attention(self, batch: Mapping[str, Any], output: Output) -> Float[Array, "b j t"]:
        """Return the attention between each word of the question and each word of the passage."""

    def output(self, raw: Pointers, layers: list[LayerAttention]) -> Output:
        logits = jnp.stack([raw.start, raw.end], axis=1)
        return Output(logits, layers, jnp.zeros(logits.shape[0]), raw)


def adapter(config: Experiment, reader: PassageEncoder) -> ReaderAdapter:
    """Return the adapter of an experiment's model."""
    return (BidafAdapter if config.model.kind == "bidaf_reader" else TransformerAdapter)(config, reader)


def _column(rows: int, values: Sequence[int]) -> np.ndarray:
    column = np.zeros(rows, np.int32)
    column[: len(values)] = values
    return column


def _targets(rows: int, members: Sequence[Window]) -> Batch:
    return {
        "start": _column(rows, [one.target[0] for one in members]),
        "end": _column(rows, [one.target[1] for one in members]),
        "real": _column(rows, [1] * len(members)),
    }


class BidafAdapter(ReaderAdapter):
    """The reader with attention flow, which reads question and passage apart."""

    input_names = (
        "passage", "passage_lengths", "question", "question_lengths", "passage_letters", "question_letters", "match",
    )  # fmt: skip

    title = "Where in the question each word of the passage looked"

    def __init__(self, config: Any, reader: PassageEncoder) -> None:
        self.model = BidafReader(config.model, reader.tokenizer.vocabulary_size, reader.letter_count)
        self._letters = reader.longest_word

    def lengths(self, example: Window) -> tuple[int, int]:
        return max(len(example.question.ids), 1), max(example.length, 1)

    def arrays(self, examples: Sequence[Window], shape: Shape) -> Batch:
        rows, question, positions = shape.rows, shape.source, shape.target
        batch: Batch = {}
        for name, width in (("question", question), ("passage", positions)):
            batch[name] = np.zeros((rows, width), np.int32)
            batch[f"{name}_letters"] = np.zeros((rows, width, self._letters), np.int32)
        batch["match"] = np.zeros((rows, positions), np.float32)
        for row, window in enumerate(examples):
            encoded, first, last = window.question, window.first, window.last
            batch["question"][row, : len(encoded.ids)] = encoded.ids
            batch["question_letters"][row, : len(encoded.ids)] = encoded.letters
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

    def question_attention(self, batch: Mapping[str, Any], output: Output) -> Array:
        return jnp.swapaxes(output.weights.question, 1, 2)


class TransformerAdapter(ReaderAdapter):
    """The Transformer, which reads question and passage as one sequence."""

    input_names = ("tokens", "lengths", "starts", "match")

    title = "Where in the passage each word of the question looked (last layer, mean of its heads)"

    def __init__(self, config: Any, reader: PassageEncoder) -> None:
        self.model = TransformerReader(config.model, reader.tokenizer.vocabulary_size)
        self._after = config.model.special_tokens_after

    def lengths(self, example: Window) -> tuple[int, int]:
        length = len(example.question.ids) + 2 + example.length + self._after
        return length, length

    def arrays(self, examples: Sequence[Window], shape: Shape) -> Batch:
        rows, positions = shape.rows, shape.target
        tokens, match = np.zeros((rows, positions), np.int32), np.zeros((rows, positions), np.float32)
        for row, window in enumerate(examples):
            start = len(window.question.ids) + 2
            tokens[row, :start] = [BOS, *window.question.ids, EOS]
            passage = [*window.passage.ids[window.first : window.last], *[EOS] * self._after]
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

    def question_attention(self, batch: Mapping[str, Any], output: Output) -> Array:
        """Return the last layer's attention of the question's tokens to the passage's, the mean of its heads."""
        mean = jnp.mean(output.attention[-1].weights, axis=1)
        width, start = mean.shape[1], batch["starts"][:, None]
        places = jnp.arange(width)[None, :]
        question = jnp.take_along_axis(mean, jnp.minimum(places + 1, width - 1)[..., None], axis=1)
        passage = jnp.minimum(start + places, width - 1)[:, None, :]
        return jnp.take_along_axis(question, passage, axis=2)

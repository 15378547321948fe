"""How each kind of reader takes a batch of windows, and where it looks: words of the question over the passage."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from attnlab.config import Experiment
from attnlab.data.extractive_qa.encoder import PassageReader, Window
from attnlab.data.text.batching import Batch
from attnlab.data.text.tokenizer import BOS, EOS
from attnlab.layers.capture import apply_with_attention
from attnlab.models.bidaf import BidafReader, Pointers
from attnlab.models.transformer_reader import TransformerReader


class Form(Protocol):
    """The form in which a model reads windows."""

    model: nn.Module

    title: str
    """What the weights of `looks` tell."""

    def lengths(self, window: Window) -> tuple[int, int]:
        """Positions that a window takes in a batch: those of the question, and those that a batch is measured by."""
        ...

    def fill(self, rows: int, question: int, positions: int, members: Sequence[Window]) -> Batch:
        """Make the arrays of a batch; rows beyond the members are filler."""
        ...

    def initialize(self, rng: Array) -> PyTree:
        """Draw the parameters."""
        ...

    def point(self, params: PyTree, batch: Any, rng: Array | None) -> Pointers:
        """Point at the answers."""
        ...

    def inputs(self, batch: Any) -> list[Any]:
        """Take the model's inputs from a batch."""
        ...

    def looks(self, params: PyTree, batch: Any) -> tuple[Pointers, Float[Array, "b j t"]]:
        """Point, and tell how each word of the question and each word of the passage attend to one another."""
        ...


def form(config: Experiment, reader: PassageReader) -> Form:
    """Choose by the model's kind."""
    return (AsTwoTexts if config.model.kind == "bidaf_reader" else AsSequence)(config, reader)


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


class AsTwoTexts:
    """Question and passage apart: the reader with attention flow."""

    title = "Where in the question each word of the passage looked"

    def __init__(self, config: Any, reader: PassageReader) -> None:
        self.model: nn.Module = BidafReader(config.model, reader.tokenizer.vocabulary_size, reader.letters_told_apart)
        self._letters = reader.longest_word

    def lengths(self, window: Window) -> tuple[int, int]:
        return max(len(window.question.ids), 1), max(window.length, 1)

    def fill(self, rows: int, question: int, positions: int, members: Sequence[Window]) -> Batch:
        batch: Batch = {}
        for name, width in (("question", question), ("passage", positions)):
            batch[name] = np.zeros((rows, width), np.int32)
            batch[f"{name}_letters"] = np.zeros((rows, width, self._letters), np.int32)
        batch["match"] = np.zeros((rows, positions), np.float32)
        for row, one in enumerate(members):
            asked, first, last = one.question, one.first, one.last
            batch["question"][row, : len(asked.ids)] = asked.ids
            batch["question_letters"][row, : len(asked.ids)] = asked.letters
            batch["passage"][row, : one.length] = one.passage.ids[first:last]
            batch["passage_letters"][row, : one.length] = one.passage.letters[first:last]
            batch["match"][row, : one.length] = one.match
        batch["question_lengths"] = _column(rows, [len(one.question.ids) for one in members])
        batch["passage_lengths"] = _column(rows, [one.length for one in members])
        return batch | _targets(rows, members)

    def initialize(self, rng: Array) -> PyTree:
        word, letters = jnp.ones((1, 1), jnp.int32), jnp.ones((1, 1, self._letters), jnp.int32)
        one = jnp.array([1])
        return self.model.init(rng, word, one, word, one, letters, letters, jnp.ones((1, 1)), train=False)["params"]

    def point(self, params: PyTree, batch: Any, rng: Array | None) -> Pointers:
        rngs = {} if rng is None else {"dropout": rng}
        found: Any = self.model.apply({"params": params}, *self.inputs(batch), train=rng is not None, rngs=rngs)
        return found

    def inputs(self, batch: Any) -> list[Any]:
        names = "passage", "passage_lengths", "question", "question_lengths", "passage_letters", "question_letters"
        return [batch[name] for name in (*names, "match")]

    def looks(self, params: PyTree, batch: Any) -> tuple[Pointers, Array]:
        found = self.point(params, batch, None)
        return found, jnp.swapaxes(found.question, 1, 2)


class AsSequence:
    """Question and passage in one sequence: the Transformer."""

    title = "Where in the passage each word of the question looked (last layer, mean of its heads)"

    def __init__(self, config: Any, reader: PassageReader) -> None:
        self.model: nn.Module = TransformerReader(config.model, reader.tokenizer.vocabulary_size)
        self._layers, self._after = config.model.encoder.layers, config.model.marks_after

    def lengths(self, window: Window) -> tuple[int, int]:
        length = len(window.question.ids) + 2 + window.length + self._after
        return length, length

    def fill(self, rows: int, question: int, positions: int, members: Sequence[Window]) -> Batch:
        tokens, match = np.zeros((rows, positions), np.int32), np.zeros((rows, positions), np.float32)
        for row, one in enumerate(members):
            start = len(one.question.ids) + 2
            tokens[row, :start] = [BOS, *one.question.ids, EOS]
            passage = [*one.passage.ids[one.first : one.last], *[EOS] * self._after]
            tokens[row, start : start + len(passage)] = passage
            match[row, start : start + one.length] = one.match
        starts = [len(one.question.ids) + 2 for one in members]
        lengths = [self.lengths(one)[0] for one in members]
        batch = {"tokens": tokens, "lengths": _column(rows, lengths), "starts": _column(rows, starts), "match": match}
        return batch | _targets(rows, members)

    def initialize(self, rng: Array) -> PyTree:
        three = jnp.ones((1, 3), jnp.int32)
        return self.model.init(rng, three, jnp.array([3]), jnp.array([2]), jnp.ones((1, 3)), train=False)["params"]

    def point(self, params: PyTree, batch: Any, rng: Array | None) -> Pointers:
        rngs = {} if rng is None else {"dropout": rng}
        found: Any = self.model.apply({"params": params}, *self.inputs(batch), train=rng is not None, rngs=rngs)
        return found

    def inputs(self, batch: Any) -> list[Any]:
        return [batch[name] for name in ("tokens", "lengths", "starts", "match")]

    def looks(self, params: PyTree, batch: Any) -> tuple[Pointers, Array]:
        """The last layer's attention of the question's tokens to the passage's, the mean of its heads."""
        found, attention = apply_with_attention(self.model, {"params": params}, *self.inputs(batch), train=False)
        mean = jnp.mean(attention[-1].weights, axis=1)
        width, start = mean.shape[1], batch["starts"][:, None]
        places = jnp.arange(width)[None, :]
        asked = jnp.take_along_axis(mean, jnp.minimum(places + 1, width - 1)[..., None], axis=1)
        told = jnp.minimum(start + places, width - 1)[:, None, :]
        return found, jnp.take_along_axis(asked, told, axis=2)

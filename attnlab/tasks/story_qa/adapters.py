"""How each kind of model reads a batch of stories, and where it looks: hops or layers over the sentences."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from attnlab.config import Experiment
from attnlab.config.models.story_qa import MemoryNetwork as MemoryNetworkConfig
from attnlab.config.models.story_qa import TransformerStoryReader as TransformerConfig
from attnlab.data.story_qa import encoder
from attnlab.data.story_qa.encoder import BREAK, SPECIALS, START, Read, Vocabulary, cut_as_written
from attnlab.data.story_qa.generated import Story
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import LayerAttention, apply_with_attention
from attnlab.models.memory_network import MemoryNetwork
from attnlab.models.transformer_story_reader import SentenceStoryReader, TransformerStoryReader, latest_first


class Form(Protocol):
    """The form in which a model reads stories."""

    model: nn.Module
    steps: list[str]
    """Names of the rows of weights that `looks` tells."""
    title: str
    """What these rows are; "" where they need no title."""
    longest: int | None
    """Positions that a story may take; None: any."""

    def length(self, read: Read) -> int:
        """Positions that a story takes in a batch."""
        ...

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        """Make the arrays of a batch."""
        ...

    def labels(self, story: Story, vocabulary: Vocabulary, memory: int) -> list[str]:
        """Name the positions of the Transformer, of which the last `memory` sentences are read; none: it is none."""
        ...

    def inputs(self, batch: Any) -> list[Any]:
        """Take the model's inputs from a batch."""
        ...

    def initialize(self, rng: Array) -> PyTree:
        """Draw the parameters."""
        ...

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Float[Array, "b v"]:
        """Say the answer."""
        ...

    def looks(self, params: PyTree, batch: Any) -> tuple[Float[Array, "b v"], Float[Array, "b h n"]]:
        """Say the answer, and how much of each step's attention every sentence had."""
        ...


def form(config: Experiment, vocabulary: Vocabulary, words: int) -> Form:
    """Choose by the model's kind. `words` is the number of places in a sentence."""
    if isinstance(config.model, MemoryNetworkConfig):
        return AsMemories(config, vocabulary, words)
    assert isinstance(config.model, TransformerConfig)
    return {"word": AsSequence, "sentence": AsFacts}[config.model.unit](config, vocabulary, words)


class _Table:
    """A story is a table of sentences."""

    model: nn.Module
    title = ""

    def __init__(self, words: int, longest: int | None) -> None:
        self._words, self.longest = words, longest

    def length(self, read: Read) -> int:
        return len(read.sentences)

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        widest = max((len(text) for read in members for text in (*read.sentences, read.question)), default=0)
        return encoder.memories(shape, members, max(self._words, widest))

    def labels(self, story: Story, vocabulary: Vocabulary, memory: int) -> list[str]:
        return []

    def inputs(self, batch: Any) -> list[Any]:
        return [batch[name] for name in ("story", "sentences", "question")]

    def initialize(self, rng: Array) -> PyTree:
        story = jnp.ones((1, 1, self._words), jnp.int32)
        return self.model.init(rng, story, jnp.array([1]), story[:, 0], train=False)["params"]

    def _apply(self, params: PyTree, batch: Any, rng: Array | None) -> Any:
        rngs = {} if rng is None else {"dropout": rng}
        return self.model.apply({"params": params}, *self.inputs(batch), train=rng is not None, rngs=rngs)


class AsMemories(_Table):
    """The memory network."""

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        super().__init__(words, config.task.memory)
        self.model: nn.Module = MemoryNetwork(config.model, len(vocabulary.words), config.task.memory)
        self.steps = [f"hop {n}" for n in range(1, config.model.hops + 1)]

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Array:
        return self._apply(params, batch, rng).logits

    def looks(self, params: PyTree, batch: Any) -> tuple[Array, Array]:
        out = self._apply(params, batch, None)
        return out.logits, out.weights


class AsFacts(_Table):
    """The Transformer over sentences. What the question attends to is where it looks."""

    title = "What the question attends to, mean of the heads of each layer"

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        places = config.model.encoder.longest
        super().__init__(words, None if places is None else places - 1)
        self.model: nn.Module = SentenceStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]

    def labels(self, story: Story, vocabulary: Vocabulary, memory: int) -> list[str]:
        return [story.question, *story.sentences[-memory:][::-1]]

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Array:
        return self._apply(params, batch, rng)

    def looks(self, params: PyTree, batch: Any) -> tuple[Array, Array]:
        logits, found = apply_with_attention(self.model, {"params": params}, *self.inputs(batch), train=False)
        asked = _of_first(found)[:, :, 1:]
        return logits, jnp.take_along_axis(asked, latest_first(batch["sentences"], asked.shape[2])[:, None], axis=2)


class AsSequence:
    """The Transformer over the words of question and story. What its first token attends to is where it looks."""

    title = "What the first token attends to, mean of the heads of each layer, summed over the words of a sentence"

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        self.model: nn.Module = TransformerStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]
        self.longest = config.model.encoder.longest
        self._memory = config.task.memory

    def length(self, read: Read) -> int:
        return read.tokens

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        return encoder.sequences(shape, members)

    def labels(self, story: Story, vocabulary: Vocabulary, memory: int) -> list[str]:
        question, *told = [cut_as_written(text) or [text] for text in (story.question, *story.sentences[-memory:])]
        return [SPECIALS[START], *question, SPECIALS[BREAK], *(word for words in told for word in words)]

    def inputs(self, batch: Any) -> list[Any]:
        return [batch[name] for name in ("tokens", "types", "lengths")]

    def initialize(self, rng: Array) -> PyTree:
        one = jnp.ones((1, 2), jnp.int32)
        return self.model.init(rng, one, one, jnp.array([2]), train=False)["params"]

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Array:
        rngs = {} if rng is None else {"dropout": rng}
        found: Any = self.model.apply({"params": params}, *self.inputs(batch), train=rng is not None, rngs=rngs)
        return found

    def looks(self, params: PyTree, batch: Any) -> tuple[Array, Array]:
        logits, found = apply_with_attention(self.model, {"params": params}, *self.inputs(batch), train=False)
        of_sentence = jax.nn.one_hot(batch["sentence"], self._memory)
        return logits, jnp.einsum("bht,btn->bhn", _of_first(found), of_sentence)


def _of_first(layers: Sequence[LayerAttention]) -> Float[Array, "b l t"]:
    """Return the attention of the first position in each layer, the mean over heads."""
    return jnp.stack([jnp.mean(layer.weights[:, :, 0], axis=1) for layer in layers], axis=1)

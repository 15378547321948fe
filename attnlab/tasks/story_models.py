"""How each kind of model reads a batch of stories, and where it looks: hops or layers over the sentences."""

from collections.abc import Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from attnlab.config import Experiment
from attnlab.data import story_words
from attnlab.data.batching import Batch
from attnlab.data.buckets import Shape
from attnlab.data.story_words import Read, Vocabulary
from attnlab.models.memory_network import MemoryNetwork
from attnlab.models.transformer import with_attention
from attnlab.models.transformer_stories import TransformerStories


class Form(Protocol):
    """The form in which a model reads stories."""

    model: nn.Module
    steps: list[str]
    """Names of the rows of weights that `looks` tells."""

    def length(self, read: Read) -> int:
        """Positions that a story takes in a batch."""
        ...

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        """Make the arrays of a batch."""
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
    made = AsMemories if config.model.kind == "memory_network" else AsSequence
    return made(config, vocabulary, words)


class AsMemories:
    """A story is a table of sentences: the memory network."""

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        self.model: nn.Module = MemoryNetwork(config.model, len(vocabulary.words), config.task.memory)
        self.steps = [f"hop {n}" for n in range(1, config.model.hops + 1)]
        self._words = words

    def length(self, read: Read) -> int:
        return len(read.sentences)

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        widest = max((len(text) for read in members for text in (*read.sentences, read.question)), default=0)
        return story_words.memories(shape, members, max(self._words, widest))

    def initialize(self, rng: Array) -> PyTree:
        story = jnp.ones((1, 1, self._words), jnp.int32)
        return self.model.init(rng, story, jnp.array([1]), story[:, 0], train=False)["params"]

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Array:
        return self._apply(params, batch, rng).logits

    def looks(self, params: PyTree, batch: Any) -> tuple[Array, Array]:
        out = self._apply(params, batch, None)
        return out.logits, out.weights

    def _apply(self, params: PyTree, batch: Any, rng: Array | None) -> Any:
        rngs = {} if rng is None else {"dropout": rng}
        inputs = batch["story"], batch["sentences"], batch["question"]
        return self.model.apply({"params": params}, *inputs, train=rng is not None, rngs=rngs)


class AsSequence:
    """Question and story are one sequence: the Transformer. What its first token attends to is where it looks."""

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        self.model: nn.Module = TransformerStories(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]
        self._memory = config.task.memory

    def length(self, read: Read) -> int:
        return read.tokens

    def fill(self, shape: Shape, members: Sequence[Read]) -> Batch:
        return story_words.sequences(shape, members)

    def initialize(self, rng: Array) -> PyTree:
        one = jnp.ones((1, 2), jnp.int32)
        return self.model.init(rng, one, one, jnp.array([2]), train=False)["params"]

    def logits(self, params: PyTree, batch: Any, rng: Array | None) -> Array:
        rngs = {} if rng is None else {"dropout": rng}
        inputs = batch["tokens"], batch["types"], batch["lengths"]
        found: Any = self.model.apply({"params": params}, *inputs, train=rng is not None, rngs=rngs)
        return found

    def looks(self, params: PyTree, batch: Any) -> tuple[Array, Array]:
        inputs = batch["tokens"], batch["types"], batch["lengths"]
        logits, found = with_attention(self.model, {"params": params}, *inputs, train=False)
        layers = sorted(found, key=lambda path: int(path.split("layer_")[1].split("/")[0]))
        first = jnp.stack([jnp.mean(found[path][:, :, 0], axis=1) for path in layers], axis=1)
        of_sentence = jax.nn.one_hot(batch["sentence"], self._memory)
        return logits, jnp.einsum("bht,btn->bhn", first, of_sentence)

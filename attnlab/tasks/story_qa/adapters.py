"""How each kind of model reads a batch of stories, and its attention to the sentences."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PyTree

from attnlab.config import Experiment
from attnlab.config.models.story_qa import MemoryNetwork as MemoryNetworkConfig
from attnlab.config.models.story_qa import TransformerStoryReader as TransformerConfig
from attnlab.data.story_qa import encoder
from attnlab.data.story_qa.encoder import BREAK, SPECIALS, START, EncodedStory, Vocabulary, split_words_cased
from attnlab.data.story_qa.records import StoryQuestion
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import LayerAttention
from attnlab.models.memory_network import MemoryNetwork
from attnlab.models.transformer_story_reader import SentenceStoryReader, TransformerStoryReader, latest_first
from attnlab.tasks.adapter import ModelAdapter, Output


class StoryAdapter(ModelAdapter):
    """A model of stories, which also sums up its attention as one row for each step over the sentences.

    Attributes:
        steps: labels of the rows of `sentence_attention`.
        title: what these rows are; empty if they need no title.
        longest: positions that a story may take; None: any number.
    """

    steps: list[str]
    title: str = ""
    longest: int | None

    @abstractmethod
    def sentence_attention(self, batch: Mapping[str, Any], output: Output) -> Float[Array, "b h n"]:
        """Return the attention of each step to each sentence."""

    def labels(self, story: StoryQuestion, memory: int) -> list[str]:
        """Return a label for each position of a Transformer that reads the last `memory` sentences; else none."""
        return []

    def lengths(self, example: EncodedStory) -> tuple[int, int]:
        return self.length(example), self.length(example)

    @abstractmethod
    def length(self, example: EncodedStory) -> int:
        """Return the positions that a story takes in a batch."""

    def with_attention(self, params: PyTree, batch: Batch) -> tuple[Array, Array]:
        """Return logits, and the attention of each step to each sentence."""
        output = self.forward(params, batch)
        return output.logits, self.sentence_attention(batch, output)


def adapter(config: Experiment, vocabulary: Vocabulary, words: int) -> StoryAdapter:
    """Return the adapter of an experiment's model.

    Args:
        config: the experiment.
        vocabulary: of the stories.
        words: positions in a sentence.
    """
    if isinstance(config.model, MemoryNetworkConfig):
        return MemoryNetworkAdapter(config, vocabulary, words)
    assert isinstance(config.model, TransformerConfig)
    return {"word": WordTransformerAdapter, "sentence": SentenceTransformerAdapter}[config.model.unit](
        config, vocabulary, words
    )


class _SentenceTableAdapter(StoryAdapter):
    """A story is a table of sentences."""

    input_names = ("story", "sentences", "question")

    def __init__(self, words: int, longest: int | None) -> None:
        self._words, self.longest = words, longest

    @property
    def example_batch(self) -> Batch:
        story = np.ones((1, 1, self._words), np.int32)
        return {"story": story, "sentences": np.array([1], np.int32), "question": story[:, 0]}

    def length(self, example: EncodedStory) -> int:
        return len(example.sentences)

    def arrays(self, examples: Sequence[EncodedStory], shape: Shape) -> Batch:
        widest = max((len(text) for read in examples for text in (*read.sentences, read.question)), default=0)
        return encoder.memory_batch(shape, examples, max(self._words, widest))


class MemoryNetworkAdapter(_SentenceTableAdapter):
    """The memory network."""

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        super().__init__(words, config.task.memory)
        self.model = MemoryNetwork(config.model, len(vocabulary.words), config.task.memory)
        self.steps = [f"hop {n}" for n in range(1, config.model.hops + 1)]

    def sentence_attention(self, batch: Mapping[str, Any], output: Output) -> Array:
        return output.weights


class SentenceTransformerAdapter(_SentenceTableAdapter):
    """The Transformer over sentences, of which the attention of the question is shown."""

    title = "What the question attends to, mean of the heads of each layer"

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        positions = config.model.encoder.max_positions
        super().__init__(words, None if positions is None else positions - 1)
        self.model = SentenceStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]

    def labels(self, story: StoryQuestion, memory: int) -> list[str]:
        return [story.question, *story.sentences[-memory:][::-1]]

    def output(self, raw: Array, layers: list[LayerAttention]) -> Output:
        return Output(raw, layers, jnp.zeros(raw.shape[0]))

    def sentence_attention(self, batch: Mapping[str, Any], output: Output) -> Array:
        by_question = _of_first_position(output.attention)[:, :, 1:]
        order = latest_first(batch["sentences"], by_question.shape[2])
        return jnp.take_along_axis(by_question, order[:, None], axis=2)


class WordTransformerAdapter(StoryAdapter):
    """The Transformer over the words of question and story, of which the attention of the first token is shown."""

    title = "What the first token attends to, mean of the heads of each layer, summed over the words of a sentence"
    input_names = ("tokens", "types", "lengths")

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        self.model = TransformerStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]
        self.longest = config.model.encoder.max_positions
        self._memory = config.task.memory

    @property
    def example_batch(self) -> Batch:
        tokens = np.ones((1, 2), np.int32)
        return {"tokens": tokens, "types": tokens, "lengths": np.array([2], np.int32)}

    def length(self, example: EncodedStory) -> int:
        return example.tokens

    def arrays(self, examples: Sequence[EncodedStory], shape: Shape) -> Batch:
        return encoder.sequence_batch(shape, examples)

    def labels(self, story: StoryQuestion, memory: int) -> list[str]:
        texts = (story.question, *story.sentences[-memory:])
        question, *sentences = [split_words_cased(text) or [text] for text in texts]
        return [SPECIALS[START], *question, SPECIALS[BREAK], *(word for sentence in sentences for word in sentence)]

    def output(self, raw: Array, layers: list[LayerAttention]) -> Output:
        return Output(raw, layers, jnp.zeros(raw.shape[0]))

    def sentence_attention(self, batch: Mapping[str, Any], output: Output) -> Array:
        of_sentence = jax.nn.one_hot(batch["sentence"], self._memory)
        return jnp.einsum("bht,btn->bhn", _of_first_position(output.attention), of_sentence)


def _of_first_position(layers: Sequence[LayerAttention]) -> Float[Array, "b l t"]:
    """Return the attention of the first position in each layer, the mean over heads."""
    return jnp.stack([jnp.mean(layer.weights[:, :, 0], axis=1) for layer in layers], axis=1)

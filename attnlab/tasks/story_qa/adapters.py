"""Adapters of the models of stories: their batches, and their attention to the sentences."""

import re
from abc import abstractmethod
from collections.abc import Collection, Mapping, Sequence
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
from attnlab.data.text.letters import WORD, composed
from attnlab.layers.layer_attention import LayerAttention
from attnlab.models.memory_network import MemoryNetwork, StoryEmbeddings
from attnlab.models.transformer_story_reader import SentenceStoryReader, TransformerStoryReader, latest_first
from attnlab.tasks.adapter import ModelAdapter, Output
from attnlab.tasks.dropping import TokenArrays
from attnlab.tasks.input_parts import InputPart, InputSequence, joined, sentence_part, text_part


class StoryAdapter(ModelAdapter):
    """A model of stories, whose attention is summarized as a row for each step over the sentences.

    Attributes:
        steps: labels of the rows of `sentence_attention`.
        title: title of these rows; empty if they need none.
        rows: the positions from whose states the answer is predicted; None for a model without such positions.
        latest_first: whether `explained_inputs` has the sentences in reverse order.
    """

    steps: list[str]
    title: str = ""
    rows: tuple[int, ...] | None = (0,)
    latest_first: bool = False

    @abstractmethod
    def sentence_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> Float[Array, "b h n"]:
        """Return the attention of each step to each sentence, from the records of all layers."""

    def position_labels(self, story: StoryQuestion, memory: int) -> list[str]:
        """Return a label for each position of a Transformer whose input is the last `memory` sentences; else none."""
        return []

    @abstractmethod
    def explained_inputs(self, sentences: Sequence[str], question: str) -> PyTree:
        """Return an `InputSequence` for each array, or group of arrays, that `embed` returns."""

    def facts_among(self, inputs: PyTree, sentences: int, facts: Collection[int]) -> np.ndarray:
        """Return which positions of `explained_inputs` belong to the supporting facts.

        Args:
            inputs: as `explained_inputs` returns them.
            sentences: number of sentences of the story.
            facts: indices of the supporting facts among them.
        """
        marks = []
        for part in [part for sequence in jax.tree.leaves(inputs) for part in sequence.parts]:
            order = list(range(sentences))[:: -1 if self.latest_first else 1]
            for span in part.spans:
                place = next((n for n, s in enumerate(part.sentences) if span and s[0] <= span[0] < s[1]), None)
                marks.append(part.name == "story" and place is not None and order[place] in facts)
        return np.array(marks, bool)

    def lengths(self, example: EncodedStory) -> tuple[int, int]:
        return self.length(example), self.length(example)

    @abstractmethod
    def length(self, example: EncodedStory) -> int:
        """Return the number of positions of a story in a batch."""


def adapter(config: Experiment, vocabulary: Vocabulary, words: int) -> StoryAdapter:
    """Return the adapter of an experiment's model.

    Args:
        config: the experiment.
        vocabulary: of the stories.
        words: number of words of the longest training sentence.
    """
    if isinstance(config.model, MemoryNetworkConfig):
        return MemoryNetworkAdapter(config, vocabulary, words)
    assert isinstance(config.model, TransformerConfig)
    return {"word": WordTransformerAdapter, "sentence": SentenceTransformerAdapter}[config.model.unit](
        config, vocabulary, words
    )


class _SentenceTableAdapter(StoryAdapter):
    """Stories as arrays [b sentences words]."""

    input_names = ("story", "sentences", "question")
    embedded_names = ("story", "question")
    sequences = (TokenArrays(("story",), "sentences"),)
    drop_refusal = ""

    def __init__(self, words: int, max_positions: int | None) -> None:
        self._words, self.max_positions = words, max_positions

    @property
    def example_batch(self) -> Batch:
        story = np.ones((1, 1, self._words), np.int32)
        return {"story": story, "sentences": np.array([1], np.int32), "question": story[:, 0]}

    def length(self, example: EncodedStory) -> int:
        return len(example.sentences)

    @abstractmethod
    def sentences_and_question(self, batch: Mapping[str, Any], removed: Sequence[Array]) -> tuple[Array, Array]:
        """Return which sentences [n] of the story, in its order, are removed, and whether the question is []."""

    def drop(self, batch: Mapping[str, Any], removed: Sequence[Array]) -> dict[str, Any]:
        """Return a batch without the removed sentences; the question, where it is removed, has no words."""
        sentences, question = self.sentences_and_question(batch, removed)
        return super().drop(batch, [sentences]) | {"question": jnp.where(question, 0, batch["question"])}

    def arrays(self, examples: Sequence[EncodedStory], shape: Shape) -> Batch:
        widest = max((len(text) for story in examples for text in (*story.sentences, story.question)), default=0)
        return encoder.memory_batch(shape, examples, max(self._words, widest))


class MemoryNetworkAdapter(_SentenceTableAdapter):
    """The memory network."""

    rows = None

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        super().__init__(words, config.task.memory)
        self.model = MemoryNetwork(config.model, len(vocabulary.words), config.task.memory)
        self.steps = [f"hop {n}" for n in range(1, config.model.hops + 1)]

    def explained_inputs(self, sentences: Sequence[str], question: str) -> Any:
        story, query = sentence_part("story", sentences), sentence_part("question", [question])
        return StoryEmbeddings(InputSequence((story,)), InputSequence((query,)))  # type: ignore[arg-type]

    def sentences_and_question(self, batch: Mapping[str, Any], removed: Sequence[Array]) -> tuple[Array, Array]:
        return removed[0], removed[1][0]

    def sentence_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> Array:
        return jnp.concatenate([layer.weights[:, 0] for layer in layers], axis=1)


class SentenceTransformerAdapter(_SentenceTableAdapter):
    """The Transformer over sentences; its sentence attention is that of the question."""

    title = "Attention of the question, mean of the heads of each layer"
    latest_first = True

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        positions = config.model.encoder.max_positions
        super().__init__(words, None if positions is None else positions - 1)
        self.model = SentenceStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]

    def position_labels(self, story: StoryQuestion, memory: int) -> list[str]:
        return [story.question, *story.sentences[-memory:][::-1]]

    def explained_inputs(self, sentences: Sequence[str], question: str) -> InputSequence:
        return InputSequence((sentence_part("question", [question]), sentence_part("story", sentences[::-1])))

    def sentences_and_question(self, batch: Mapping[str, Any], removed: Sequence[Array]) -> tuple[Array, Array]:
        order = latest_first(jnp.asarray(batch["sentences"])[:1], len(removed[0]) - 1)[0]
        return removed[0][1:][order], removed[0][0]

    def output(self, raw: Array, layers: list[LayerAttention]) -> Output:
        return Output(raw, layers, jnp.zeros(raw.shape[0]))

    def sentence_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> Array:
        by_question = _of_first_position(layers)[:, :, 1:]
        order = latest_first(batch["sentences"], by_question.shape[2])
        return jnp.take_along_axis(by_question, order[:, None], axis=2)


class WordTransformerAdapter(StoryAdapter):
    """The Transformer over the words of question and story; its sentence attention is that of the first token."""

    title = "Attention of the first token, mean of the heads of each layer, summed over the words of a sentence"
    input_names = ("tokens", "types", "lengths")
    sequences = (TokenArrays(("tokens", "types"), "lengths"),)
    drop_refusal = ""

    def __init__(self, config: Any, vocabulary: Vocabulary, words: int) -> None:
        self.model = TransformerStoryReader(config.model, len(vocabulary.words))
        self.steps = [f"layer {n}" for n in range(1, config.model.encoder.layers + 1)]
        self.max_positions = config.model.encoder.max_positions
        self._memory = config.task.memory

    @property
    def example_batch(self) -> Batch:
        tokens = np.ones((1, 2), np.int32)
        return {"tokens": tokens, "types": tokens, "lengths": np.array([2], np.int32)}

    def length(self, example: EncodedStory) -> int:
        return example.tokens

    def arrays(self, examples: Sequence[EncodedStory], shape: Shape) -> Batch:
        return encoder.sequence_batch(shape, examples)

    def position_labels(self, story: StoryQuestion, memory: int) -> list[str]:
        texts = (story.question, *story.sentences[-memory:])
        question, *sentences = [split_words_cased(text) or [text] for text in texts]
        return [SPECIALS[START], *question, SPECIALS[BREAK], *(word for sentence in sentences for word in sentence)]

    def explained_inputs(self, sentences: Sequence[str], question: str) -> InputSequence:
        return InputSequence((
            _words_part("question", [question], before=[SPECIALS[START]], after=[SPECIALS[BREAK]]),
            _words_part("story", sentences),
        ))  # fmt: skip

    def output(self, raw: Array, layers: list[LayerAttention]) -> Output:
        return Output(raw, layers, jnp.zeros(raw.shape[0]))

    def sentence_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> Array:
        of_sentence = jax.nn.one_hot(batch["sentence"], self._memory)
        return jnp.einsum("bht,btn->bhn", _of_first_position(layers), of_sentence)


def _words_part(name: str, sentences: Sequence[str], **special: Any) -> InputPart:
    """Return the part of the words of sentences, as `split_words_cased` finds them; one without any is a word."""
    text, whole = joined([composed(sentence) for sentence in sentences])
    words = [
        (start + first, start + last)
        for start, end in whole
        for first, last in [match.span() for match in re.finditer(WORD, text[start:end])] or [(0, end - start)]
    ]
    return text_part(name, text, words, sentences=whole, **special)


def _of_first_position(layers: Sequence[LayerAttention]) -> Float[Array, "b l t"]:
    """Return the attention of the first position in each layer, averaged over heads."""
    return jnp.stack([jnp.mean(layer.weights[:, :, 0], axis=1) for layer in layers], axis=1)

"""End-to-end memory network: a question attends to the sentences of a story in several hops.

    m_i = Σ_j l_j ∘ A x_ij + T_A(i),  c_i = Σ_j l_j ∘ C x_ij + T_C(i)    a sentence as key and as value
    p = attend(u, m),  o = Σ_i p_i c_i,  u ← u + o                       one hop
    logits = W u                                                         after the last

Reference: Sukhbaatar, Szlam, Weston & Fergus 2015.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.models.story_qa import MemoryNetwork as Config
from attnlab.layers.attention import Attention
from attnlab.layers.dropout import Dropout

SMALL = nn.initializers.normal(0.1)
"""Initializer of all parameters, as in the paper, section 4.2."""


class StoryEmbeddings(NamedTuple):
    """The embeddings of a batch of stories, without the temporal encoding of the sentences."""

    sentences: tuple[Float[Array, "b n d"], ...]
    """Embeddings of all sentences, for each of the embedding matrices."""
    question: Float[Array, "b 1 d"]


@struct.dataclass
class Answers:
    """Output of the model for a batch."""

    logits: Float[Array, "b v"] | Any
    """Logits of every word of the vocabulary as the answer."""
    weights: Float[Array, "b h n"] | Any
    """Attention weights of each hop over the sentences."""


def position_encoding(lengths: Int[Array, "*b"], words: int, width: int) -> Float[Array, "*b w d"]:
    """Compute the weights of a word's features by its position in the sentence.

    l[j, k] = (1 − j/J) − (k/d) (1 − 2j/J),    j = 1 … J, k = 1 … d

    Args:
        lengths: J, words of each sentence.
        words: positions in a sentence; those beyond its length are meaningless.
        width: d, number of features.
    Returns: the weights, in [−1, 1] for the words of the sentence.
    Reference: Sukhbaatar et al. 2015, section 4.1.

    >>> position_encoding(jnp.array(2), 2, 2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    constant, slope = _coefficients(lengths, words)
    return constant[..., None] - slope[..., None] * _features(width)


def _coefficients(lengths: Int[Array, "*b"], words: int) -> tuple[Float[Array, "*b w"], Float[Array, "*b w"]]:
    """Return the two terms of a position in `position_encoding`: 1 − j/J, and 1 − 2j/J, the factor of k/d."""
    position = jnp.arange(1, words + 1, dtype=jnp.float32) / jnp.maximum(lengths, 1)[..., None]
    return 1 - position, 1 - 2 * position


def _features(width: int) -> Float[Array, " d"]:
    return jnp.arange(1, width + 1, dtype=jnp.float32) / width


def ages(lengths: Int[Array, " b"], sentences: int, jitter: float, rng: Array | None) -> Int[Array, "b n"]:
    """Compute the age of each sentence: 1 for the last sentence of a story, 2 for the sentence before it.

    Args:
        lengths: sentences of each story.
        sentences: n, padding included; padding has age 0.
        jitter: probability of a gap after a sentence, which makes it and all sentences before it older by one.
        rng: rng of the gaps; None for no gaps.
    Returns: the ages, in 0 … 2n.
    Reference: Sukhbaatar et al. 2015, section 4.1, "learning time invariance by injecting random noise".

    >>> ages(jnp.array([2, 3]), 3, 0.1, None).tolist()
    [[2, 1, 0], [3, 2, 1]]
    """
    real = jnp.arange(sentences)[None, :] < lengths[:, None]
    steps = real.astype(jnp.int32)
    if rng is not None and jitter:
        steps += jax.random.bernoulli(rng, jitter, real.shape) & real
    return jnp.where(real, jnp.cumsum(steps[:, ::-1], axis=1)[:, ::-1], 0)


class MemoryNetwork(nn.Module):
    """An end-to-end memory network: maps a story and a question to the logits of the answer's word."""

    config: Config
    vocabulary: int
    memory: int
    """Greatest number of sentences of a story."""

    def setup(self) -> None:
        self.tables = self.config.hops + 1 if self.config.tying == "adjacent" else 2
        self.words = self.param("words", SMALL, (self.tables, self.vocabulary, self.config.width))

    def embed(
        self, story: Int[Array, "b n w"], sentences: Int[Array, " b"], question: Int[Array, "b w"]
    ) -> StoryEmbeddings:
        """Return the embeddings of the sentences and of the question, without the temporal encoding."""
        bags = self._bags(story)
        memories = [self._embed(table, bags) for table in self.words]
        return StoryEmbeddings(tuple(memories), self._embed(self.words[0], self._bags(question[:, None])))

    @nn.compact
    def __call__(
        self,
        story: Int[Array, "b n w"],
        sentences: Int[Array, " b"],
        question: Int[Array, "b w"],
        *,
        train: bool,
        embedded: StoryEmbeddings | None = None,
    ) -> Answers:
        """Return logits of the answer.

        Args:
            story: words of each sentence; word 0 is padding.
            sentences: number of sentences that are not padding.
            question: words of the question; word 0 is padding.
            train: whether to apply dropout and to jitter the ages (needs the rng "dropout").
            embedded: replaces the embeddings of the sentences and the question; see `embed`.
        """
        config, longest = self.config, story.shape[1]
        adjacent, tables = config.tying == "adjacent", self.tables
        embeddings = self.embed(story, sentences, question) if embedded is None else embedded
        memories, state = list(embeddings.sentences), embeddings.question
        if config.temporal_encoding:
            jittered = train and config.time_noise
            age = ages(sentences, longest, config.time_noise, self.make_rng("dropout") if jittered else None)
            times = self.param("times", SMALL, (tables, 2 * self.memory + 1, config.width))
            one_hot = jax.nn.one_hot(age, 2 * longest + 1)
            memories = [
                memory + one_hot @ table[: 2 * longest + 1] for memory, table in zip(memories, times, strict=True)
            ]
        dropout = Dropout(config.dropout)
        between = None if adjacent else nn.Dense(config.width, use_bias=False, name="between")
        width, weights = config.width, []
        attends = [
            Attention(config.attention, 1, width, width, kind="hop", stack="memory", name=f"hop_{n}")
            for n in range(config.hops if adjacent else 1)
        ]
        for hop in range(config.hops):
            key, value = (memories[hop], memories[hop + 1]) if adjacent else memories
            attend = attends[hop if adjacent else 0]
            result = attend(
                dropout(state, train=train), key, value, sentences, returns=("weights",), implementation="dense",
                layer=hop + 1, train=train,
            )  # fmt: skip
            state = (state if between is None else between(state)) + result.output
            weights.append(result.weights)
        if adjacent:
            logits = state[:, 0] @ self.words[-1].T
        else:
            logits = nn.Dense(self.vocabulary, use_bias=False, name="answer")(state[:, 0])
        return Answers(logits, jnp.concatenate(weights, axis=1))

    def _bags(self, words: Int[Array, "b n w"]) -> Float[Array, "s b n v"]:
        """Return bags of words of the sentences, one for each coefficient of the position encoding."""
        real = words > 0
        coefficients = [jnp.ones(words.shape)]
        if self.config.encoding == "position":
            coefficients = list(_coefficients(jnp.sum(real, axis=-1), words.shape[-1]))
        return jnp.einsum("sbnw,bnwv->sbnv", jnp.stack(coefficients) * real, jax.nn.one_hot(words, self.vocabulary))

    def _embed(self, table: Float[Array, "v d"], bags: Float[Array, "s b n v"]) -> Float[Array, "b n d"]:
        """Embed each sentence as Σ_j l_j ∘ A x_j, summing over the positions before the product with A."""
        sums = bags @ table
        return sums[0] if len(sums) == 1 else sums[0] - sums[1] * _features(self.config.width)

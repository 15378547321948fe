"""End-to-end memory network: a question asks the sentences of a story several times over.

    m_i = Σ_j l_j ∘ A x_ij + T_A(i),  c_i = Σ_j l_j ∘ C x_ij + T_C(i)    a sentence as key and as value
    p = attend(u, m),  o = Σ_i p_i c_i,  u ← u + o                       one hop
    logits = W u                                                         after the last

Reference: Sukhbaatar, Szlam, Weston & Fergus 2015.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.models.story_qa import MemoryNetwork as Config
from attnlab.layers.between import Between
from attnlab.layers.capture import record
from attnlab.layers.dropout import Dropout

SMALL = nn.initializers.normal(0.1)
"""As in the paper, section 4.2."""


class StoryEmbeddings(NamedTuple):
    """The embeddings of a batch of stories, before what encodes the age of a sentence is added."""

    sentences: tuple[Float[Array, "b n d"], ...]
    """Of every sentence, by each of the embedding matrices."""
    question: Float[Array, "b 1 d"]


@struct.dataclass
class Answers:
    """What the model says of a batch."""

    logits: Float[Array, "b v"]
    """Of every word of the vocabulary as the answer."""
    weights: Float[Array, "b h n"]
    """Attention of each hop over the sentences."""


def position_encoding(lengths: Int[Array, "*b"], words: int, width: int) -> Float[Array, "*b w d"]:
    """Weigh the features of a word by where it stands in its sentence.

    l[j, k] = (1 − j/J) − (k/d) (1 − 2j/J),    j = 1 … J, k = 1 … d

    Args:
        lengths: J, words of each sentence.
        words: places in a sentence; those beyond its length mean nothing.
        width: d.
    Returns: between −1 and 1 for the words of the sentence.
    Reference: Sukhbaatar et al. 2015, section 4.1.

    >>> position_encoding(jnp.array(2), 2, 2).tolist()
    [[0.5, 0.5], [0.0, 1.0]]
    """
    once, of_feature = _shares(lengths, words)
    return once[..., None] - of_feature[..., None] * _features(width)


def _shares(lengths: Int[Array, "*b"], words: int) -> tuple[Float[Array, "*b w"], Float[Array, "*b w"]]:
    """The two numbers of a place in `position_encoding`: 1 − j/J, and what is multiplied by k/d."""
    place = jnp.arange(1, words + 1, dtype=jnp.float32) / jnp.maximum(lengths, 1)[..., None]
    return 1 - place, 1 - 2 * place


def _features(width: int) -> Float[Array, " d"]:
    return jnp.arange(1, width + 1, dtype=jnp.float32) / width


def ages(lengths: Int[Array, " b"], sentences: int, jitter: float, rng: Array | None) -> Int[Array, "b n"]:
    """Tell how long ago each sentence was: 1 for the last one of a story, 2 for that before it.

    Args:
        lengths: sentences of each story.
        sentences: n; those beyond a story's length have age 0.
        jitter: with this probability a gap follows a sentence, which makes it and all before it older by one.
        rng: None leaves no gaps.
    Returns: between 0 and 2n.
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
    """Story and question in, logits of the answer's word out."""

    config: Config
    vocabulary: int
    memory: int
    """Sentences, at most."""

    def setup(self) -> None:
        self.tables = self.config.hops + 1 if self.config.tying == "adjacent" else 2
        self.words = self.param("words", SMALL, (self.tables, self.vocabulary, self.config.width))

    def embed(
        self, story: Int[Array, "b n w"], sentences: Int[Array, " b"], question: Int[Array, "b w"]
    ) -> StoryEmbeddings:
        """Return the embeddings of the sentences and of the question, without what encodes their age."""
        bags = self._bags(story)
        memories = [self._read(table, bags) for table in self.words]
        return StoryEmbeddings(tuple(memories), self._read(self.words[0], self._bags(question[:, None])))

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
            story: words of each sentence; words of number 0 are padding.
            sentences: how many of them are real.
            question: words.
            train: apply dropout, and jitter the ages (needs the rng "dropout").
            embedded: used in place of the embeddings of the sentences and the question; see `embed`.
        """
        config, longest = self.config, story.shape[1]
        adjacent, tables = config.tying == "adjacent", self.tables
        embeddings = self.embed(story, sentences, question) if embedded is None else embedded
        memories, state = list(embeddings.sentences), embeddings.question
        if config.time:
            jittered = train and config.jitter
            age = ages(sentences, longest, config.jitter, self.make_rng("dropout") if jittered else None)
            times = self.param("times", SMALL, (tables, 2 * self.memory + 1, config.width))
            since = jax.nn.one_hot(age, 2 * longest + 1)
            memories = [
                memory + since @ table[: 2 * longest + 1] for memory, table in zip(memories, times, strict=True)
            ]
        dropout = Dropout(config.dropout)
        between = None if adjacent else nn.Dense(config.width, use_bias=False, name="between")
        asks = [Between(config.attention, config.width, name=f"hop_{n}") for n in range(config.hops if adjacent else 1)]
        weights = []
        for hop in range(config.hops):
            key, value = (memories[hop], memories[hop + 1]) if adjacent else memories
            found = asks[hop if adjacent else 0](dropout(state, train=train), key, value, sentences, train=train)
            state = (state if between is None else between(state)) + found.output
            weights.append(found.weights)
            record(self, found.weights[:, None], kind="hop", stack="memory", layer=hop + 1)
        if adjacent:
            logits = state[:, 0] @ self.words[-1].T
        else:
            logits = nn.Dense(self.vocabulary, use_bias=False, name="answer")(state[:, 0])
        return Answers(logits, jnp.concatenate(weights, axis=1))

    def _bags(self, words: Int[Array, "b n w"]) -> Float[Array, "s b n v"]:
        """Count the words of each sentence, under either share of the position encoding: all that a sentence is."""
        real = words > 0
        shares = [jnp.ones(words.shape)]
        if self.config.encoding == "position":
            shares = list(_shares(jnp.sum(real, axis=-1), words.shape[-1]))
        return jnp.einsum("sbnw,bnwv->sbnv", jnp.stack(shares) * real, jax.nn.one_hot(words, self.vocabulary))

    def _read(self, table: Float[Array, "v d"], bags: Float[Array, "s b n v"]) -> Float[Array, "b n d"]:
        """Make a vector of each sentence: Σ_j l_j ∘ A x_j, the places summed up before the product with A."""
        read = bags @ table
        return read[0] if len(read) == 1 else read[0] - read[1] * _features(self.config.width)

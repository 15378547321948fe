"""Readers that point at the span of a passage that answers a question.

Bidirectional attention flow, for passage states h_t and question states u_j:

    S[t, j] = score(h_t, u_j)
    ũ_t = Σ_j normalizer(S[t])_j u_j                      every word of the passage attends to the question
    h̃ = Σ_t normalizer(max_j S[·, j])_t h_t               the question attends to the passage
    g_t = [h_t; ũ_t; h_t ∘ ũ_t; h_t ∘ h̃]
    start = w_s [g; m],  end = w_e [g; m'],  m = BiRNN(g), m' = BiRNN(m)

Without the question's attention g_t = [h_t; ũ_t; h_t ∘ ũ_t]; without any, ũ_t is the question's last states.

Place 0 of the logits stands for "no answer here", place t + 1 for word t. Reference: Seo et al. 2017; the place of no
answer: Levy et al. 2017.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from attnlab.config.models.extractive_qa import BidafReader as Config
from attnlab.config.models.extractive_qa import Characters
from attnlab.functional import masks
from attnlab.functional.attention import attention
from attnlab.layers.attention import Attention
from attnlab.layers.capture import record
from attnlab.layers.dropout import Dropout
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.recurrent import Bidirectional

VECTORS = nn.initializers.normal(0.1)
"""Of words and letters."""


class ReaderEmbeddings(NamedTuple):
    """The vectors of the words of a batch, before the highway network."""

    passage: Float[Array, "b t e"]
    question: Float[Array, "b j e"]


@struct.dataclass
class Pointers:
    """What a reader says of a batch."""

    start: Float[Array, "b places"] | Any
    """Logits of the answer's first word; place 0 is no answer. −inf beyond the passage."""
    end: Float[Array, "b places"] | Any
    """The same of its last word."""
    question: Float[Array, "b t j"] | Any
    """Attention of each word of the passage over the question; zeros without attention."""
    passage: Float[Array, "b t"] | Any
    """Attention of the question over the passage; zeros without it."""


class CharacterConvolution(nn.Module):
    """What stands out in a word's letters: each filter's largest answer over all places (Kim 2014)."""

    config: Characters
    letters: int

    @nn.compact
    def __call__(self, words: Int[Array, "b t c"]) -> Float[Array, "b t f"]:
        """Read the letters of every word; letters of number 0 are padding."""
        config = self.config
        vectors = nn.Embed(self.letters, config.embedding, embedding_init=VECTORS)(words) * (words > 0)[..., None]
        flat = vectors.reshape(-1, *vectors.shape[2:])
        found = nn.Conv(config.filters, (config.kernel_size,), name="filters")(flat)
        return jax.nn.relu(jnp.max(found, axis=1)).reshape(*words.shape[:2], config.filters)


class Highway(nn.Module):
    """y = gate ⊙ relu(W x + b) + (1 − gate) ⊙ x, layer upon layer (Srivastava et al. 2015)."""

    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Pass every vector through by itself."""
        for layer in range(self.layers):
            gate = nn.Dense(x.shape[-1], bias_init=nn.initializers.constant(-1.0), name=f"gate_{layer}")(x)
            new = jax.nn.relu(nn.Dense(x.shape[-1], name=f"new_{layer}")(x))
            x = x + jax.nn.sigmoid(gate) * (new - x)
        return x


class BidafReader(nn.Module):
    """Passage and question in, logits of the answer's first and last word out."""

    config: Config
    vocabulary: int
    letters: int
    """Number of letters that are told apart, padding and unknown counted."""

    def setup(self) -> None:
        config = self.config
        self.embedding = nn.Embed(self.vocabulary, config.embedding, embedding_init=VECTORS)
        if config.characters is not None:
            self.characters = CharacterConvolution(config.characters, self.letters)
        self.highway = Highway(config.highway)
        self.contextual = Bidirectional(config.cell, config.hidden)
        if config.attention is not None:
            width = 2 * config.hidden
            self.attention = Attention(config.attention, 1, width, width, kind="context_to_query", stack="reader")
            if config.flow == "both":
                self.to_passage = Normalizer(config.attention.normalizer, 1, 2 * config.hidden)
        self.modeling = [Bidirectional(config.cell, config.hidden) for _ in range(config.modeling_layers)]
        self.to_end = Bidirectional(config.cell, config.hidden)
        self.start, self.end = nn.Dense(1), nn.Dense(1)
        self.none = self.param("none", nn.initializers.zeros_init(), (2,))
        self.dropout = Dropout(config.dropout)

    def __call__(
        self,
        passage: Int[Array, "b t"],
        passage_lengths: Int[Array, " b"],
        question: Int[Array, "b j"],
        question_lengths: Int[Array, " b"],
        passage_letters: Int[Array, "b t c"],
        question_letters: Int[Array, "b j c"],
        match: Float[Array, "b t"],
        *,
        train: bool,
        embedded: ReaderEmbeddings | None = None,
    ) -> Pointers:
        """Return logits of the answer's first and last word.

        Args:
            passage: words.
            passage_lengths: how many of them are real; 0 for filler.
            question: words.
            question_lengths: how many of them are real.
            passage_letters: letters of each word; without a column where the model reads none.
            question_letters: likewise.
            match: 1 for the words of the passage that the question has too; used where the config says so.
            train: apply dropout (needs the rng "dropout").
            embedded: used in place of the embeddings of passage and question; see `embed`.
        """
        if embedded is None:
            embedded = self.embed(
                passage, passage_lengths, question, question_lengths, passage_letters, question_letters
            )
        inside = jnp.arange(passage.shape[1])[None, :] < passage_lengths[:, None]
        question_valid = jnp.arange(question.shape[1])[None, :] < question_lengths[:, None]
        in_question = jnp.ones(question.shape)
        h, _ = self._context(embedded.passage, match, inside, train)
        u, last = self._context(embedded.question, in_question, question_valid, train)
        g, by_question, by_passage = self._flow(h, u, last, inside, question_lengths, train)
        return self._point(g, inside, by_question, by_passage, train)

    def embed(
        self,
        passage: Int[Array, "b t"],
        passage_lengths: Int[Array, " b"],
        question: Int[Array, "b j"],
        question_lengths: Int[Array, " b"],
        passage_letters: Int[Array, "b t c"],
        question_letters: Int[Array, "b j c"],
        *_: Any,
    ) -> ReaderEmbeddings:
        """Return the vectors of all words, their letters' features included; takes the arguments of `__call__`."""
        return ReaderEmbeddings(self._vectors(passage, passage_letters), self._vectors(question, question_letters))

    def _vectors(self, words: Array, letters: Array) -> Array:
        parts = [self.embedding(words)]
        if self.config.characters is not None:
            parts.append(self.characters(letters))
        return jnp.concatenate(parts, axis=-1)

    def _context(self, vectors: Array, match: Array, valid: Array, train: bool) -> tuple[Array, Array]:
        """Return the contextual states of words, and the last ones of both directions."""
        embedded = self.highway(vectors)
        if self.config.exact_match:
            embedded = jnp.concatenate([embedded, match[..., None]], axis=-1)
        return self.contextual(self.dropout(embedded, train=train), valid)

    def _flow(
        self, h: Array, u: Array, last: Array, inside: Bool[Array, "b t"], lengths: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        """What each word of the passage knows of the question, and the weights of both attentions."""
        nowhere = jnp.zeros(h.shape[:2], h.dtype)
        if self.config.attention is None:
            seen, by_question = jnp.broadcast_to(last[:, None], h.shape), jnp.zeros((*h.shape[:2], u.shape[1]), h.dtype)
            return jnp.concatenate([h, seen, h * seen], axis=-1), by_question, nowhere
        found: Any = self.attention(h, u, u, lengths, returns=("weights", "max"), implementation="dense", train=train)
        parts, by_passage = [h, found.output, h * found.output], nowhere
        if self.config.flow == "both":
            regarded, by_passage = self._regarded(h, last, found.max, jnp.sum(inside, axis=1), train)
            parts.append(h * regarded)
        return jnp.concatenate(parts, axis=-1), found.weights, by_passage

    def _regarded(self, h: Array, last: Array, logits: Array, lengths: Array, train: bool) -> tuple[Array, Array]:
        """The mean of the passage's states that the question attends to as one, and its weights."""
        question = last[:, None, None, :]
        random = train and draws(self.to_passage.config)
        found: Any = attention(
            question,
            jnp.where(jnp.isfinite(logits), logits, 0.0)[:, :, None, None],
            h[:, :, None, :],
            score=_given,
            mask=masks.lengths(lengths),
            normalizer=self.to_passage()(question, lengths, self.make_rng("dropout") if random else None),
            returns=("weights",),
            implementation="dense",
        )
        record(self, found.weights, kind="query_to_context", stack="reader")
        return found.output[:, :, 0], found.weights[:, 0, 0]

    def _point(self, g: Array, inside: Array, by_question: Array, by_passage: Array, train: bool) -> Pointers:
        drop = lambda x: self.dropout(x, train=train)  # noqa: E731
        m = g
        for layer in self.modeling:
            m, _ = layer(drop(m), inside)
        m_end, _ = self.to_end(drop(m), inside)
        ends = []
        for read, states, none in ((self.start, m, self.none[0]), (self.end, m_end, self.none[1])):
            logits = read(drop(jnp.concatenate([g, states], axis=-1)))[..., 0]
            logits = jnp.where(inside, logits, -jnp.inf)
            ends.append(jnp.concatenate([jnp.broadcast_to(none, (len(logits), 1)), logits], axis=1))
        return Pointers(ends[0], ends[1], by_question, by_passage)


def _given(query: Array, key: Array) -> Array:
    """The score whose keys are the logits themselves."""
    return jnp.broadcast_to(key.T, (len(query), len(key)))

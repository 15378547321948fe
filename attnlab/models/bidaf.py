"""Bidirectional attention flow (BiDAF): a reader that predicts the span of a passage that answers a question.

For passage states h_t and question states u_j:

    S[t, j] = score(h_t, u_j)
    ũ_t = Σ_j normalizer(S[t])_j u_j                      every word of the passage attends to the question
    h̃ = Σ_t normalizer(max_j S[·, j])_t h_t               the question attends to the passage
    g_t = [h_t; ũ_t; h_t ∘ ũ_t; h_t ∘ h̃]
    start = w_s [g; m],  end = w_e [g; m'],  m = BiRNN(g), m' = BiRNN(m)

Without the attention of the question to the passage, g_t = [h_t; ũ_t; h_t ∘ ũ_t]; without any attention, ũ_t is the
question's last states.

Position 0 of the logits stands for "no answer", position t + 1 for word t. Reference: Seo et al. 2017; for the position
of "no answer": Levy et al. 2017.
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
from attnlab.layers.attention import Attention, intervene_and_record, recorded_extras
from attnlab.layers.dropout import Dropout
from attnlab.layers.layer_attention import layer_name
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.part_inputs import PartInputs
from attnlab.layers.recurrent import Bidirectional

VECTORS = nn.initializers.normal(0.1)
"""Initializer of the embeddings of words and letters."""


class ReaderEmbeddings(NamedTuple):
    """The embeddings of the words of a batch, before the highway network."""

    passage: Float[Array, "b t e"]
    question: Float[Array, "b j e"]


@struct.dataclass
class Pointers:
    """Output of a reader for a batch."""

    start: Float[Array, "b places"] | Any
    """Logits of the answer's first word; position 0 is no answer. −inf beyond the passage."""
    end: Float[Array, "b places"] | Any
    """Logits of the answer's last word, likewise."""
    question: Float[Array, "b t j"] | Any
    """Attention weights of each word of the passage over the question; zeros without attention."""
    passage: Float[Array, "b t"] | Any
    """Attention weights of the question over the passage; zeros without attention."""


class CharacterConvolution(nn.Module):
    """A convolution over the letters of a word, with the maximum of each filter over all positions (Kim 2014)."""

    config: Characters
    letters: int

    @nn.compact
    def __call__(self, words: Int[Array, "b t c"]) -> Float[Array, "b t f"]:
        """Return the features of every word from its letters; letter 0 is padding."""
        config = self.config
        vectors = nn.Embed(self.letters, config.embedding, embedding_init=VECTORS)(words) * (words > 0)[..., None]
        flat = vectors.reshape(-1, *vectors.shape[2:])
        features = nn.Conv(config.filters, (config.kernel_size,), name="filters")(flat)
        return jax.nn.relu(jnp.max(features, axis=1)).reshape(*words.shape[:2], config.filters)


class Highway(nn.Module):
    """A highway network: y = gate ⊙ relu(W x + b) + (1 − gate) ⊙ x in each layer (Srivastava et al. 2015)."""

    layers: int

    @nn.compact
    def __call__(self, x: Float[Array, "b t d"]) -> Float[Array, "b t d"]:
        """Apply the network to every vector on its own."""
        for layer in range(self.layers):
            gate = nn.Dense(x.shape[-1], bias_init=nn.initializers.constant(-1.0), name=f"gate_{layer}")(x)
            new = jax.nn.relu(nn.Dense(x.shape[-1], name=f"new_{layer}")(x))
            x = x + jax.nn.sigmoid(gate) * (new - x)
        return x


class BidafReader(nn.Module):
    """BiDAF: maps passage and question to the logits of the answer's first and last word."""

    config: Config
    vocabulary: int
    """Number of words, padding and unknown included."""
    letters: int
    """Number of letters, padding and unknown included."""

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
            passage: words of the passage.
            passage_lengths: number of them that are not padding; 0 for a padding row.
            question: words of the question.
            question_lengths: number of them that are not padding.
            passage_letters: letters of each word of the passage; without columns if the model does not use letters.
            question_letters: letters of each word of the question, likewise.
            match: 1 for words of the passage that occur in the question; used with `exact_match` in the config.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of passage and question; see `embed`.
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
        g, over_question, over_passage = self._flow(h, u, last, inside, question_lengths, train)
        return self._point(g, inside, over_question, over_passage, train)

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
        """Return the embeddings of all words with the features of their letters; takes the arguments of `__call__`."""
        return ReaderEmbeddings(self._vectors(passage, passage_letters), self._vectors(question, question_letters))

    def _vectors(self, words: Array, letters: Array) -> Array:
        parts = [self.embedding(words)]
        if self.config.characters is not None:
            parts.append(self.characters(letters))
        return jnp.concatenate(parts, axis=-1)

    def _context(self, vectors: Array, match: Array, valid: Array, train: bool) -> tuple[Array, Array]:
        """Return the contextual states of words, and the last states of both directions."""
        embedded = self.highway(vectors)
        if self.config.exact_match:
            embedded = jnp.concatenate([embedded, match[..., None]], axis=-1)
        return self.contextual(self.dropout(embedded, train=train), valid)

    def _flow(
        self, h: Array, u: Array, last: Array, inside: Bool[Array, "b t"], lengths: Array, train: bool
    ) -> tuple[Array, Array, Array]:
        """Return the question-aware states of the passage, and the weights over the question and over the passage."""
        no_weights = jnp.zeros(h.shape[:2], h.dtype)
        if self.config.attention is None:
            context = jnp.broadcast_to(last[:, None], h.shape)
            over_question = jnp.zeros((*h.shape[:2], u.shape[1]), h.dtype)
            return jnp.concatenate([h, context, h * context], axis=-1), over_question, no_weights
        result: Any = self.attention(h, u, u, lengths, returns=("weights", "max"), implementation="dense", train=train)
        parts, over_passage = [h, result.output, h * result.output], no_weights
        if self.config.flow == "both":
            context, over_passage = self._attend_to_passage(h, last, result.max, jnp.sum(inside, axis=1), train)
            parts.append(h * context)
        return jnp.concatenate(parts, axis=-1), result.weights, over_passage

    def _attend_to_passage(
        self, h: Array, last: Array, logits: Array, lengths: Array, train: bool
    ) -> tuple[Array, Array]:
        """Return the mean of the passage's states weighted by the question's attention, and the weights."""
        question = last[:, None, None, :]
        rng = self.make_rng("dropout") if train and draws(self.to_passage.config) else None
        inputs = PartInputs(question, lengths, layer_name("query_to_context", "reader"), rng)
        result: Any = attention(
            question,
            jnp.where(jnp.isfinite(logits), logits, 0.0)[:, :, None, None],
            h[:, :, None, :],
            score=_logits,
            mask=masks.lengths(lengths),
            normalizer=self.to_passage()(inputs),
            returns=("weights", *(name for name in recorded_extras(self) if name != "weights")),
            implementation="dense",
        )
        result = intervene_and_record(self, result, h[:, :, None, :], kind="query_to_context", stack="reader")
        return result.output[:, :, 0], result.weights[:, 0, 0]

    def _point(self, g: Array, inside: Array, over_question: Array, over_passage: Array, train: bool) -> Pointers:
        drop = lambda x: self.dropout(x, train=train)  # noqa: E731
        m = g
        for layer in self.modeling:
            m, _ = layer(drop(m), inside)
        m_end, _ = self.to_end(drop(m), inside)
        ends = []
        for dense, states, no_answer in ((self.start, m, self.none[0]), (self.end, m_end, self.none[1])):
            logits = dense(drop(jnp.concatenate([g, states], axis=-1)))[..., 0]
            logits = jnp.where(inside, logits, -jnp.inf)
            ends.append(jnp.concatenate([jnp.broadcast_to(no_answer, (len(logits), 1)), logits], axis=1))
        return Pointers(ends[0], ends[1], over_question, over_passage)


def _logits(query: Array, key: Array) -> Array:
    """Return the keys as logits: the score of keys that are logits already."""
    return jnp.broadcast_to(key.T, (len(query), len(key)))

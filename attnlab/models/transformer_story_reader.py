"""Transformers that read question and story as one sequence and predict the answer from the first position's state.

    logits = W tanh(V state_0 + b) + c

`TransformerStoryReader` reads word by word. `SentenceStoryReader` has one position for the question and one for each
sentence, which is Σ_j l_j ∘ E x_ij over its words as in a memory network. The latest sentence comes first, so that the
distance to the question is the age of a sentence.

Reference: Dehghani et al. 2019, section 3.1, for sentences as positions.
"""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.models.story_qa import TransformerStoryReader as Config
from attnlab.models.memory_network import position_encoding
from attnlab.models.seq2seq import EMBEDDING_INIT
from attnlab.models.transformer import EncoderBody, TransformerEncoder


class TransformerStoryReader(nn.Module):
    """A reader of words: maps question and story to the logits of the answer's word."""

    config: Config
    vocabulary: int

    def setup(self) -> None:
        self.encoder = TransformerEncoder(self.config.encoder, self.vocabulary)

    def embed(self, tokens: Int[Array, "b t"], *_: Any) -> Float[Array, "b t d"]:
        """Return the embeddings of the tokens; takes the positional arguments of `__call__`."""
        return self.encoder.embed(tokens)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b t"],
        types: Int[Array, "b t"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b t d"] | None = None,
    ) -> Float[Array, "b v"]:
        """Return logits of the answer.

        Args:
            tokens: question and story, padding included.
            types: token types, used if the encoder's config has any.
            lengths: tokens of each row that are not padding; 0 for a padding row.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens; see `embed`.
        """
        token_types = types if self.config.encoder.token_types else None
        states: Any = self.encoder(tokens, lengths, token_types, train=train, embedded=embedded)
        return _logits(states, self.vocabulary)


class SentenceStoryReader(nn.Module):
    """A reader of sentence vectors: maps question and story to the logits of the answer's word."""

    config: Config
    vocabulary: int

    def setup(self) -> None:
        self.embedding = nn.Embed(self.vocabulary, self.config.encoder.width, embedding_init=EMBEDDING_INIT)

    def embed(
        self, story: Int[Array, "b n w"], sentences: Int[Array, " b"], question: Int[Array, "b w"]
    ) -> Float[Array, "b n+1 w d"]:
        """Return the embeddings of the words in reading order: the question, then the sentences from the latest on."""
        return self.embedding(_in_order(story, sentences, question))

    @nn.compact
    def __call__(
        self,
        story: Int[Array, "b n w"],
        sentences: Int[Array, " b"],
        question: Int[Array, "b w"],
        *,
        train: bool,
        embedded: Float[Array, "b n+1 w d"] | None = None,
    ) -> Float[Array, "b v"]:
        """Return logits of the answer.

        Args:
            story: words of each sentence; word 0 is padding.
            sentences: number of sentences that are not padding.
            question: words of the question; word 0 is padding.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the words; see `embed`.
        """
        encoder = self.config.encoder
        texts = _in_order(story, sentences, question)
        words = self.embed(story, sentences, question) if embedded is None else embedded
        lengths = jnp.sum(texts > 0, axis=-1)
        position_weights = position_encoding(lengths, texts.shape[-1], encoder.width) * (texts > 0)[..., None]
        types = jnp.broadcast_to(jnp.arange(texts.shape[1]) > 0, texts.shape[:2]).astype(jnp.int32)
        body = EncoderBody(encoder, name="body")
        vectors = jnp.sum(words * position_weights, axis=2)
        states = body(vectors, sentences + 1, types if encoder.token_types else None, train=train)
        return _logits(states, self.vocabulary)


def _in_order(
    story: Int[Array, "b n w"], sentences: Int[Array, " b"], question: Int[Array, "b w"]
) -> Int[Array, "b n+1 w"]:
    """Return the question, then the sentences from the latest on."""
    order = latest_first(sentences, story.shape[1])
    return jnp.concatenate([question[:, None], jnp.take_along_axis(story, order[..., None], axis=1)], axis=1)


def latest_first(sentences: Int[Array, " b"], places: int) -> Int[Array, "b n"]:
    """Return the permutation that reverses the sentences of each story and leaves padding in place; its own inverse.

    >>> latest_first(jnp.array([2, 3]), 3).tolist()
    [[1, 0, 2], [2, 1, 0]]
    """
    position, count = jnp.arange(places)[None, :], sentences[:, None]
    return jnp.where(position < count, count - 1 - position, position)


def _logits(states: Float[Array, "b t d"], vocabulary: int) -> Float[Array, "b v"]:
    """Return logits of the words from the first state; its layers become submodules of the calling module."""
    hidden = jnp.tanh(nn.Dense(states.shape[-1], name="hidden")(states[:, 0]))
    return nn.Dense(vocabulary, name="answer")(hidden)

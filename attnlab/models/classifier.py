"""Text classifiers: an encoder, pooling of its states, and a linear layer.

logits = W pool(states) + b, with the states of a bidirectional recurrent network (with additive attention: Yang et al.
2016; with structured self-attention: Lin et al. 2017), of a Transformer encoder (Devlin et al. 2019), of a hidden layer
for each token by itself, or the embeddings themselves.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.models import classifier as config
from attnlab.data.text.tokenizer import BOS, EOS, UNK
from attnlab.layers.pooling import Pooled, Pooling
from attnlab.layers.recurrent import Bidirectional
from attnlab.models.transformer import TransformerEncoder

EMBEDDING_INIT = nn.initializers.normal(0.1)


@struct.dataclass
class Output:
    """Output of a classifier for a batch of texts."""

    logits: Float[Array, "b c"] | Any
    weights: Float[Array, "b r s"] | Any
    """Weight of each token in the pooling, one row per hop."""
    penalty: Float[Array, " b"] | Any
    """Penalty to add to the loss of each text (Lin et al. 2017, equation 8)."""


class EmbeddedTokens(nn.Module):
    """The embeddings of a classifier that are computed token by token, without positions."""

    config: config.RecurrentClassifier | config.MlpClassifier
    vocabulary: int
    classes: int

    def setup(self) -> None:
        self.embedding = nn.Embed(self.vocabulary, self.config.embedding, embedding_init=EMBEDDING_INIT)

    def embed(self, tokens: Int[Array, "b s"], *_: Any) -> Float[Array, "b s e"]:
        """Return the embeddings of the tokens; takes the positional arguments of `__call__`."""
        return self.embedding(tokens)


class RecurrentClassifier(EmbeddedTokens):
    """A classifier with a bidirectional recurrent encoder, or without an encoder."""

    config: config.RecurrentClassifier

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b s e"] | None = None,
    ) -> Output:
        """Classify texts.

        All tokens of a text share one dropout mask (Gal & Ghahramani 2016).

        Args:
            tokens: tokens of each text, padding included.
            lengths: tokens of each text that are not padding; 0 for a padding row.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens (see `embed`); word dropout does not apply to it.
        """
        config = self.config
        dropout = nn.Dropout(config.dropout, broadcast_dims=(1,), deterministic=not train)
        tokens = _drop_words(self, tokens, config.word_dropout, train)
        states = self.embed(tokens) if embedded is None else embedded
        valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
        last = states[:, 0]
        if config.encoder is not None:
            for layer in range(config.encoder.layers):
                encoder = Bidirectional(config.encoder.cell, config.encoder.hidden, name=f"layer_{layer}")
                states, last = encoder(dropout(states), valid)
        pooled = Pooling(config.pooling, name="pooling")(states, lengths, last, train=train)
        return _classify(pooled, config.hidden, config.dropout, self.classes, train)


class MlpClassifier(EmbeddedTokens):
    """A classifier without context: a hidden layer for each token by itself, and pooling.

    logits = W_o Σ_i α_i tanh(W_h e(x_i) + b_h) + b_o

    The tokens do not see each other, so the pooling weights α are all that it learns about the context. If the weights
    of a trained model classify better than uniform ones, they tell which tokens matter. With the pooling `frozen` the
    weights are an argument: those of a trained model, of an adversary, or any others.

    Reference: Wiegreffe & Pinter 2019, section 3.4.
    """

    config: config.MlpClassifier

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        frozen: Float[Array, "b s"] | None = None,
        *,
        train: bool,
        embedded: Float[Array, "b s e"] | None = None,
    ) -> Output:
        """Classify texts.

        Args:
            tokens: tokens of each text, padding included.
            lengths: tokens of each text that are not padding; 0 for a padding row.
            frozen: the weights of the pooling `frozen`; other kinds have their own.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens (see `embed`); word dropout does not apply to it.
        """
        config = self.config
        states = self.embed(_drop_words(self, tokens, config.word_dropout, train)) if embedded is None else embedded
        states = nn.Dropout(config.dropout, broadcast_dims=(1,), deterministic=not train)(states)
        states = jnp.tanh(nn.Dense(config.hidden, name="hidden")(states))
        pooled = Pooling(config.pooling, name="pooling")(states, lengths, states[:, 0], train=train, frozen=frozen)
        return _classify(pooled, None, config.dropout, self.classes, train)


class TransformerClassifier(nn.Module):
    """A classifier with a Transformer encoder.

    [CLS] (the start token) is put before the text, and [SEP] (the end token) after it, if `special_tokens_before` and
    `special_tokens_after` of the config are 1.
    """

    config: config.TransformerClassifier
    vocabulary: int
    classes: int

    def setup(self) -> None:
        self.encoder = TransformerEncoder(self.config.encoder, self.vocabulary)

    def embed(self, tokens: Int[Array, "b s"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
        """Return the embeddings of the tokens, [CLS] and [SEP] included."""
        return self.encoder.embed(self._with_special_tokens(tokens, lengths))

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b n d"] | None = None,
    ) -> Output:
        """Classify texts; the weights have a column for each special token too.

        Args:
            tokens: tokens of each text, padding included.
            lengths: tokens of each text that are not padding; 0 for a padding row.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens (see `embed`); word dropout does not apply to it.
        """
        config = self.config
        tokens = self._with_special_tokens(_drop_words(self, tokens, config.word_dropout, train), lengths)
        lengths = lengths + config.special_tokens_before + config.special_tokens_after
        states = self.encoder(tokens, lengths, train=train, embedded=embedded)
        position = jnp.maximum(lengths - 1, 0)
        last = jnp.take_along_axis(states, position[:, None, None], axis=1)[:, 0]
        pooled = Pooling(config.pooling, name="pooling")(states, lengths, last, train=train)
        return _classify(pooled, config.hidden, config.dropout, self.classes, train)

    def _with_special_tokens(self, tokens: Int[Array, "b s"], lengths: Int[Array, " b"]) -> Int[Array, "b n"]:
        if self.config.special_tokens_after:
            position = jnp.arange(tokens.shape[1] + 1)[None, :]
            tokens = jnp.where(position == lengths[:, None], EOS, jnp.pad(tokens, ((0, 0), (0, 1))))
        if self.config.special_tokens_before:
            tokens = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=BOS)
        return tokens


def _drop_words(module: nn.Module, tokens: Int[Array, "b s"], rate: float, train: bool) -> Int[Array, "b s"]:
    """Replace words by the unknown word with probability `rate` in training (Iyyer et al. 2015)."""
    if not (train and rate):
        return tokens
    return jnp.where(jax.random.bernoulli(module.make_rng("dropout"), rate, tokens.shape), UNK, tokens)


def _classify(pooled: Pooled, hidden: int | None, rate: float, classes: int, train: bool) -> Output:
    """Compute the logits of the classes; its layers become submodules of the calling module."""
    drop = lambda x: nn.Dropout(rate, deterministic=not train)(x)  # noqa: E731
    features = drop(pooled.vector)
    if hidden is not None:
        features = drop(jax.nn.relu(nn.Dense(hidden, name="hidden")(features)))
    return Output(nn.Dense(classes, name="classes")(features), pooled.weights, pooled.penalty)

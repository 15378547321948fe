"""Classifiers of texts: read the tokens, pool the states, and weigh the classes.

logits = W [pool(states)] + b, with states of a bidirectional recurrent network (Bahdanau-style attention: Yang et al.
2016; structured self-attention: Lin et al. 2017), of a Transformer's encoder (Devlin et al. 2019), or the embeddings
themselves.
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
    """What a classifier says of a batch of texts."""

    logits: Float[Array, "b c"]
    weights: Float[Array, "b r s"]
    """Weight of each token in the pooling, a row a hop."""
    penalty: Float[Array, " b"]
    """To be added to the loss of each text (Lin et al. 2017, eq. 8)."""


class RecurrentClassifier(nn.Module):
    """Tokens in, logits of the classes out."""

    config: config.RecurrentClassifier
    vocabulary: int
    classes: int

    def setup(self) -> None:
        self.embedding = nn.Embed(self.vocabulary, self.config.embedding, embedding_init=EMBEDDING_INIT)

    def embed(self, tokens: Int[Array, "b s"], *_: Any) -> Float[Array, "b s e"]:
        """Return the embeddings of the tokens; takes the positional arguments of `__call__`."""
        return self.embedding(tokens)

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b s e"] | None = None,
    ) -> Output:
        """Classify the first `lengths` tokens of each row (0 for filler).

        One mask of dropout holds for all tokens of a text (Gal & Ghahramani 2016). `embedded` is used in place of the
        embeddings of the tokens (see `embed`); no word of it is dropped.
        """
        config = self.config
        dropout = nn.Dropout(config.dropout, broadcast_dims=(1,), deterministic=not train)
        tokens = _words_dropped(self, tokens, config.word_dropout, train)
        states = self.embed(tokens) if embedded is None else embedded
        valid = jnp.arange(tokens.shape[1])[None, :] < lengths[:, None]
        last = states[:, 0]
        if config.encoder is not None:
            for layer in range(config.encoder.layers):
                read = Bidirectional(config.encoder.cell, config.encoder.hidden, name=f"layer_{layer}")
                states, last = read(dropout(states), valid)
        pooled = Pooling(config.pooling, name="pooling")(states, lengths, last, train=train)
        return _classified(pooled, config.hidden, config.dropout, self.classes, train)


class TransformerClassifier(nn.Module):
    """Tokens in, logits of the classes out. [CLS] (the start token) comes before the text with the pooling `first` and
    with pretrained weights, [SEP] (the end token) after it where the config says so."""

    config: config.TransformerClassifier
    vocabulary: int
    classes: int

    def setup(self) -> None:
        self.encoder = TransformerEncoder(self.config.encoder, self.vocabulary)

    def embed(self, tokens: Int[Array, "b s"], lengths: Int[Array, " b"]) -> Float[Array, "b n d"]:
        """Return the embeddings of the tokens, the marks before and after the text included."""
        return self.encoder.embed(self._with_marks(tokens, lengths))

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b n d"] | None = None,
    ) -> Output:
        """Classify the first `lengths` tokens of each row (0 for filler); the weights have a column for every mark.

        `embedded` is used in place of the embeddings of the tokens and marks (see `embed`); no word of it is dropped.
        """
        config = self.config
        tokens = self._with_marks(_words_dropped(self, tokens, config.word_dropout, train), lengths)
        lengths = lengths + config.marks_before + config.marks_after
        states = self.encoder(tokens, lengths, train=train, embedded=embedded)
        place = jnp.maximum(lengths - 1, 0)
        last = jnp.take_along_axis(states, place[:, None, None], axis=1)[:, 0]
        pooled = Pooling(config.pooling, name="pooling")(states, lengths, last, train=train)
        return _classified(pooled, config.hidden, config.dropout, self.classes, train)

    def _with_marks(self, tokens: Int[Array, "b s"], lengths: Int[Array, " b"]) -> Int[Array, "b n"]:
        if self.config.marks_after:
            place = jnp.arange(tokens.shape[1] + 1)[None, :]
            tokens = jnp.where(place == lengths[:, None], EOS, jnp.pad(tokens, ((0, 0), (0, 1))))
        if self.config.marks_before:
            tokens = jnp.pad(tokens, ((0, 0), (1, 0)), constant_values=BOS)
        return tokens


def _words_dropped(module: nn.Module, tokens: Int[Array, "b s"], rate: float, train: bool) -> Int[Array, "b s"]:
    """Read some words as unknown ones (Iyyer et al. 2015)."""
    if not (train and rate):
        return tokens
    return jnp.where(jax.random.bernoulli(module.make_rng("dropout"), rate, tokens.shape), UNK, tokens)


def _classified(pooled: Pooled, hidden: int | None, rate: float, classes: int, train: bool) -> Output:
    """Weigh the classes; called inside a module, whose layers these become."""
    drop = lambda x: nn.Dropout(rate, deterministic=not train)(x)  # noqa: E731
    features = drop(pooled.vector)
    if hidden is not None:
        features = drop(jax.nn.relu(nn.Dense(hidden, name="hidden")(features)))
    return Output(nn.Dense(classes, name="classes")(features), pooled.weights, pooled.penalty)

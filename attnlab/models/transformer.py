"""Transformers: an encoder, a decoder, and both together, of layers that attend by any `Attention`.

Encoder: states = layers(entry(embedded tokens)); decoder: the same, causal, and every layer attends to a memory too;
logits_t = E state_t + b, with E the target embedding when embeddings are tied.

The weights of all layers and heads are returned by `layers.capture.apply_with_attention`. `Output.weights` is one
layer's attention to the memory, the mean of its heads.

Reference: Vaswani et al. 2017; pre-norm: Xiong et al. 2020.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.models import transformer as config
from attnlab.functional import cache, masks
from attnlab.functional import mods as functional
from attnlab.functional.parts import each
from attnlab.layers.transformer import DecoderLayer, EncoderLayer, Entry, norm
from attnlab.models.seq2seq import EMBEDDING_INIT


@struct.dataclass
class Output:
    """What a decoder says of a batch."""

    logits: Float[Array, "b t v"]
    weights: Any
    """Attention of each target position over the memory [b t s]: one layer's, the mean of its heads; None when it was
    not asked for."""


@struct.dataclass
class Memory:
    """What a decoder attends to: keys and values [b s k e] of every layer, and how many of each row are real."""

    layers: tuple[tuple[Array, Array], ...]
    lengths: Int[Array, " b"]

    def repeat(self, times: int) -> "Memory":
        """Every row `times` times in a row, as beam search asks for."""
        return jax.tree.map(lambda a: jnp.repeat(a, times, axis=0), self)


@struct.dataclass
class DecoderState:
    """Keys and values [b l k e] of the tokens written so far, a pair a layer; all rows are equally long."""

    layers: tuple[tuple[Array, Array], ...]
    length: Int[Array, " b"]

    def caches(self) -> list[cache.Cache]:
        """The cache of each layer."""
        return [cache.Cache(key, value, self.length[0]) for key, value in self.layers]

    @staticmethod
    def of(caches: Sequence[cache.Cache], rows: int) -> "DecoderState":
        """Give every array the rows in front, so that a search can reorder them."""
        return DecoderState(tuple((c.key, c.value) for c in caches), jnp.broadcast_to(caches[0].length, (rows,)))


class EncoderBody(nn.Module):
    """An encoder of vectors that are already embedded (tokens', or features of a picture)."""

    config: config.TransformerEncoder

    @nn.compact
    def __call__(
        self,
        embedded: Float[Array, "b s d"],
        lengths: Int[Array, " b"],
        token_types: Int[Array, "b s"] | None = None,
        segments: Int[Array, "b s"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b s d"]:
        """Read each row: as `TransformerEncoder.__call__`."""
        config = self.config
        states = Entry(config, config.token_types, name="entry")(embedded, token_types=token_types, train=train)
        where = masks.lengths(lengths)
        if segments is not None:
            where &= masks.segments(segments)
        mods = _shared_mods(self, config, bidirectional=True)
        layer = nn.remat(EncoderLayer, static_argnums=(5,)) if config.remat else EncoderLayer
        for n in range(config.layers):
            chosen = config.placed(config.self_attention(n))
            states = layer(config, chosen, n + 1, name=f"layer_{n}")(states, lengths, where, mods, train)
        return norm(config, "final_norm")(states) if config.has_final_norm else states


class DecoderBody(nn.Module):
    """A decoder of vectors that are already embedded."""

    config: config.TransformerDecoder

    def setup(self) -> None:
        config = self.config
        self.entry = Entry(config)
        layer = nn.remat(DecoderLayer, static_argnums=(5, 6)) if config.remat else DecoderLayer
        self.layers = [
            layer(config, config.placed(config.self_attention(n)), n + 1, config.memory_attention(n), name=f"layer_{n}")
            for n in range(config.layers)
        ]
        self.mods = _shared_mods(self, config, bidirectional=False)
        if config.has_final_norm:
            self.final_norm = norm(config)

    def __call__(
        self,
        embedded: Float[Array, "b t d"],
        memory: Float[Array, "b s c"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        weights: bool,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b t s"] | None]:
        """Read all target tokens at once; return states, and the weights over the memory when asked."""
        states = self.entry(embedded, train=train)
        reported = None
        for n, layer in enumerate(self.layers):
            asked = weights and n == self.config.aligned_by
            states, found = layer(states, memory, lengths, self.mods, train, asked)
            reported = found if asked else reported
        return self._last(states), None if reported is None else jnp.mean(reported, axis=1)

    def start(self, memory: Float[Array, "b s c"], lengths: Int[Array, " b"]) -> tuple[Memory, DecoderState]:
        """Prepare the memory for a search, and empty caches."""
        rows = memory.shape[0]
        remembered = tuple(layer.remember(memory) for layer in self.layers)
        caches = [layer.empty(rows, memory.dtype) for layer in self.layers]
        return Memory(remembered, lengths), DecoderState.of(caches, rows)

    def step(
        self, embedded: Float[Array, "b t d"], memory: Memory, state: DecoderState
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b t s"], DecoderState]:
        """Read the next target tokens; return states, weights over the memory, and the longer caches."""
        states = self.entry(embedded, state.length[0], train=False)
        longer, reported = [], None
        for n, (layer, past, remembered) in enumerate(zip(self.layers, state.caches(), memory.layers, strict=True)):
            asked = n == self.config.aligned_by
            states, found, new = layer.step(states, past, remembered, memory.lengths, self.mods, asked)
            longer.append(new)
            reported = found if asked else reported
        assert reported is not None
        return self._last(states), jnp.mean(reported, axis=1), DecoderState.of(longer, embedded.shape[0])

    def _last(self, states: Array) -> Array:
        return self.final_norm(states) if self.config.has_final_norm else states


class TransformerEncoder(nn.Module):
    """Tokens in, states out."""

    config: config.TransformerEncoder
    vocabulary: int

    def setup(self) -> None:
        self.embedding = _table(self.vocabulary, self.config.width)
        self.body = EncoderBody(self.config)

    def embed(self, tokens: Int[Array, "b s"], *_: Any) -> Float[Array, "b s d"]:
        """Return the embeddings of the tokens; takes the positional arguments of `__call__`."""
        return self.embedding(tokens)

    def __call__(
        self,
        tokens: Int[Array, "b s"],
        lengths: Int[Array, " b"],
        token_types: Int[Array, "b s"] | None = None,
        segments: Int[Array, "b s"] | None = None,
        *,
        train: bool,
        embedded: Float[Array, "b s d"] | None = None,
    ) -> Float[Array, "b s d"]:
        """Return a state for every token; those of padding are meaningless.

        Args:
            tokens: of each row.
            lengths: real tokens of each row; 0 for filler.
            token_types: in 0 … config.token_types − 1; None is all 0.
            segments: several sequences in a row: a token attends to those of its own number. None: one sequence.
            train: apply dropout (needs the rng "dropout").
            embedded: used in place of the embeddings of the tokens; see `embed`.
        """
        states = self.embed(tokens) if embedded is None else embedded
        return self.body(states, lengths, token_types, segments, train=train)


class TransformerDecoder(nn.Module):
    """Tokens written so far and a memory [b s c] (an encoder's states, features of a picture) in, logits out."""

    config: config.TransformerDecoder
    vocabulary: int

    def setup(self) -> None:
        self.embedding = _table(self.vocabulary, self.config.width)
        self.body = DecoderBody(self.config)
        self.readout = _Readout(self.vocabulary, self.config.tie_embeddings)

    def __call__(
        self,
        memory: Float[Array, "b s c"],
        lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        weights: bool | None = None,
    ) -> Output:
        """Teacher forcing: `target` begins with the start token; logits[:, i] are of the token after target[:, i].

        Args:
            weights: compute Output.weights; None: when not training.
        """
        asked = not train if weights is None else weights
        states, found = self.body(self.embedding(target), memory, lengths, train=train, weights=asked)
        return Output(self.readout(states, self.embedding), found)

    def start(self, memory: Float[Array, "b s c"], lengths: Int[Array, " b"]) -> tuple[Memory, DecoderState]:
        """Prepare the memory for a search, and an empty cache of config.max_length tokens."""
        return self.body.start(memory, lengths)

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool = False
    ) -> tuple[DecoderState, Output]:
        """Read the next target tokens (one of them when searching) and say what may follow each, with its weights."""
        if train:
            raise ValueError("decode continues a text with a cache; training reads whole ones by __call__")
        states, found, state = self.body.step(self.embedding(target), memory, state)
        return state, Output(self.readout(states, self.embedding), found)


class TransformerSeq2Seq(nn.Module):
    """Source tokens and target tokens in, logits of the next target token out: called as `seq2seq.RecurrentSeq2Seq`."""

    config: config.TransformerSeq2Seq
    source_vocabulary: int
    target_vocabulary: int

    def setup(self) -> None:
        config = self.config
        self.encoder = EncoderBody(config.encoder_alone())
        self.decoder = DecoderBody(config.decoder_alone())
        self.target_embedding = _table(self.target_vocabulary, config.width)
        if config.tie_embeddings != "all":
            self.source_embedding = _table(self.source_vocabulary, config.width)
        self.readout = _Readout(self.target_vocabulary, config.tie_embeddings != "none")

    def __call__(
        self,
        source: Int[Array, "b s"],
        source_lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        weights: bool | None = None,
        embedded: Float[Array, "b s d"] | None = None,
    ) -> Output:
        """Return logits under teacher forcing: logits[:, i] predict the token after target[:, i].

        Args:
            source: tokens of the source.
            source_lengths: how many of them are real; 0 for filler.
            target: tokens that begin with the start token.
            train: apply dropout (needs the rng "dropout").
            weights: compute Output.weights; None: when not training.
            embedded: used in place of the embeddings of the source; see `embed`.
        """
        memory = self.read(source, source_lengths, train=train, embedded=embedded)
        return self.write(
            memory, source_lengths, target, train=train, weights=not train if weights is None else weights
        )

    def embed(self, source: Int[Array, "b s"], *_: Any) -> Float[Array, "b s d"]:
        """Return the embeddings of the source; takes the positional arguments of `__call__`."""
        table = self.target_embedding if self.config.tie_embeddings == "all" else self.source_embedding
        return table(source)

    def read(
        self,
        source: Int[Array, "b s"],
        source_lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b s d"] | None = None,
    ) -> Float[Array, "b s d"]:
        """Encode the source: the states that the decoder attends to."""
        return self.encoder(self.embed(source) if embedded is None else embedded, source_lengths, train=train)

    def write(
        self,
        memory: Float[Array, "b s d"],
        lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        weights: bool = False,
    ) -> Output:
        """Say what may follow each of the target tokens, which are read at once, without a cache."""
        embedded = self.target_embedding(target)
        states, found = self.decoder(embedded, memory, lengths, train=train, weights=weights)
        return Output(self.readout(states, self.target_embedding), found)

    def encode(
        self, source: Int[Array, "b s"], source_lengths: Int[Array, " b"], *, train: bool = False
    ) -> tuple[Memory, DecoderState]:
        """Read the source: what the decoder attends to, and an empty cache of config.max_length tokens."""
        return self.decoder.start(self.read(source, source_lengths, train=train), source_lengths)

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool = False
    ) -> tuple[DecoderState, Output]:
        """Read target tokens (one of them when searching) and say what may follow each, with its weights."""
        if train:
            raise ValueError("decode continues a text with a cache; training reads whole ones by __call__")
        states, found, state = self.decoder.step(self.target_embedding(target), memory, state)
        return state, Output(self.readout(states, self.target_embedding), found)


class _Readout(nn.Module):
    """States to logits, by the embedding or by a matrix of its own."""

    vocabulary: int
    tied: bool

    @nn.compact
    def __call__(self, states: Float[Array, "b t d"], embedding: nn.Embed) -> Float[Array, "b t v"]:
        bias = self.param("bias", nn.initializers.zeros_init(), (self.vocabulary,))
        logits = embedding.attend(states) if self.tied else nn.Dense(self.vocabulary, use_bias=False)(states)
        return logits + bias


def _table(vocabulary: int, width: int, name: str | None = None) -> nn.Embed:
    return nn.Embed(vocabulary, width, embedding_init=EMBEDDING_INIT, name=name)


def _shared_mods(module: nn.Module, block: config.Block, *, bidirectional: bool) -> tuple[Any, ...]:
    """The mods of positions that all layers share: T5's table."""
    if not isinstance(block.positions, config.T5):
        return ()
    chosen = block.positions
    table = module.param("t5_bias", nn.initializers.zeros_init(), (block.heads, chosen.buckets))
    own = each(table, "h")
    return (functional.t5_bias(own, bidirectional=bidirectional, max_distance=chosen.max_distance),)

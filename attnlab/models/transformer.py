"""Transformers: an encoder, a decoder, and both together, with any attention config in each layer.

Encoder: states = layers(entry(embedded tokens)); decoder: the same, but causal, and every layer attends to a memory
too; logits_t = E state_t + b, with E the target embedding if embeddings are tied.

The weights of all layers and heads are returned by `layers.capture.apply_with_attention`. `Output.weights` are the
weights of one layer over the memory, averaged over its heads.

Reference: Vaswani et al. 2017; pre-norm: Xiong et al. 2020.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int, PyTree

from attnlab.config.models import transformer as config
from attnlab.functional import masks
from attnlab.functional import mods as functional
from attnlab.functional.parts import map_over
from attnlab.layers.mixer import Context, MakeMixer
from attnlab.layers.multi_head import SelfAttention
from attnlab.layers.transformer import DecoderLayer, EncoderLayer, InputEmbedding, norm
from attnlab.models.seq2seq import EMBEDDING_INIT


@struct.dataclass
class Output:
    """Output of a decoder for a batch."""

    logits: Float[Array, "b t v"] | Any
    weights: Any
    """Attention weights [b t s] of each target position over the memory: of one layer, averaged over its heads; None if
    they were not requested."""


@struct.dataclass
class Memory:
    """The projected memory of a decoder: keys and values [b s k e] for every layer."""

    layers: tuple[tuple[Array, Array], ...]
    lengths: Int[Array, " b"] | Any
    """Number of keys of each row that are not padding."""

    def repeat(self, times: int) -> "Memory":
        """Return the memory with every row repeated `times` times in a row, for beam search."""
        return jax.tree.map(lambda a: jnp.repeat(a, times, axis=0), self)


@struct.dataclass
class DecoderState:
    """The state of a decoder between two steps."""

    layers: tuple[PyTree, ...]
    """The state of each layer's sequence mixer."""
    length: Int[Array, " b"] | Any
    """Number of tokens so far, the same for every row."""


class EncoderBody(nn.Module):
    """A Transformer encoder of embedded tokens or of image features."""

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
        """Return the states of each row; see `TransformerEncoder.__call__`."""
        config = self.config
        states = InputEmbedding(config, config.token_types, name="entry")(
            embedded, token_types=token_types, train=train
        )
        where = masks.lengths(lengths)
        if segments is not None:
            where &= masks.segments(segments)
        mods = _shared_mods(self, config, bidirectional=True)
        layer = nn.remat(EncoderLayer, static_argnums=(3,)) if config.remat else EncoderLayer
        for n in range(config.layers):
            chosen = config.with_position_mods(config.self_attention(n))
            states = layer(config, chosen, n + 1, name=f"layer_{n}")(states, Context(lengths, where, mods), train)
        return norm(config, "final_norm")(states) if config.has_final_norm else states


class DecoderBody(nn.Module):
    """A Transformer decoder of embedded tokens."""

    config: config.TransformerDecoder
    mixer: MakeMixer = SelfAttention

    def setup(self) -> None:
        config = self.config
        self.entry = InputEmbedding(config)
        layer = nn.remat(DecoderLayer, static_argnums=(5, 6)) if config.remat else DecoderLayer
        self.layers = [
            layer(
                config,
                config.with_position_mods(config.self_attention(n)),
                n + 1,
                config.memory_attention(n),
                self.mixer,
                name=f"layer_{n}",
            )
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
        """Return the states of all target tokens, and the weights over the memory if `weights` is set."""
        states = self.entry(embedded, train=train)
        reported = None
        for n, layer in enumerate(self.layers):
            report = weights and n == self.config.reported_layer
            states, layer_weights = layer(states, memory, lengths, self.mods, train, report)
            reported = layer_weights if report else reported
        return self._normed(states), None if reported is None else jnp.mean(reported, axis=1)

    def start(self, memory: Float[Array, "b s c"], lengths: Int[Array, " b"]) -> tuple[Memory, DecoderState]:
        """Project the memory, and return the state before the first token."""
        rows = memory.shape[0]
        projected = tuple(layer.project_memory(memory) for layer in self.layers)
        states = tuple(layer.init_state(rows, memory.dtype) for layer in self.layers)
        return Memory(projected, lengths), DecoderState(states, jnp.zeros(rows, jnp.int32))

    def step(
        self, state: DecoderState, embedded: Float[Array, "b t d"], memory: Memory
    ) -> tuple[DecoderState, Float[Array, "b t d"], Float[Array, "b t s"]]:
        """Return the next state, the states of the next target tokens, and their weights over the memory."""
        states = self.entry(embedded, state.length[0], train=False)
        new, reported = [], None
        for n, (layer, past, projected) in enumerate(zip(self.layers, state.layers, memory.layers, strict=True)):
            report = n == self.config.reported_layer
            options = self.mods, report, state.length[0]
            past, states, weights = layer.step(past, states, projected, memory.lengths, *options)
            new.append(past)
            reported = weights if report else reported
        assert reported is not None
        length = state.length + embedded.shape[1]
        return DecoderState(tuple(new), length), self._normed(states), jnp.mean(reported, axis=1)

    def _normed(self, states: Array) -> Array:
        return self.final_norm(states) if self.config.has_final_norm else states


class TransformerEncoder(nn.Module):
    """A Transformer encoder: maps tokens to states."""

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
        """Return a state for every token; states of padding are meaningless.

        Args:
            tokens: tokens of each row, padding included.
            lengths: tokens of each row that are not padding; 0 for a padding row.
            token_types: in 0 … config.token_types − 1; None is all 0.
            segments: number of each token's sequence, for several packed sequences in a row: tokens attend only within
                their sequence. None: one sequence per row.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the tokens; see `embed`.
        """
        states = self.embed(tokens) if embedded is None else embedded
        return self.body(states, lengths, token_types, segments, train=train)


class TransformerDecoder(nn.Module):
    """A Transformer decoder: maps target tokens and a memory (an encoder's states or image features) to logits."""

    config: config.TransformerDecoder
    vocabulary: int
    mixer: MakeMixer = SelfAttention
    """Makes the sequence mixer of each layer."""

    def setup(self) -> None:
        self.embedding = _table(self.vocabulary, self.config.width)
        self.body = DecoderBody(self.config, self.mixer)
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
        """Return logits under teacher forcing: logits[:, i] predict the token after target[:, i].

        Args:
            memory: states that the decoder attends to, padding included.
            lengths: states of each row that are not padding; 0 for a padding row.
            target: tokens that begin with the start token.
            train: whether to apply dropout (needs the rng "dropout").
            weights: whether to return Output.weights; None: if `train` is False.
        """
        weights = not train if weights is None else weights
        states, over_memory = self.body(self.embedding(target), memory, lengths, train=train, weights=weights)
        return Output(self.readout(states, self.embedding), over_memory)

    def start(self, memory: Float[Array, "b s c"], lengths: Int[Array, " b"]) -> tuple[Memory, DecoderState]:
        """Project the memory, and return the state before the first of config.max_length tokens."""
        return self.body.start(memory, lengths)

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool = False
    ) -> tuple[DecoderState, Output]:
        """Return the state after the next target tokens, and their logits and weights."""
        if train:
            raise ValueError("decode is for inference, token by token; call the module itself to train")
        state, states, over_memory = self.body.step(state, self.embedding(target), memory)
        return state, Output(self.readout(states, self.embedding), over_memory)


class TransformerSeq2Seq(nn.Module):
    """A Transformer encoder and decoder: maps source and target tokens to logits, like `seq2seq.RecurrentSeq2Seq`."""

    config: config.TransformerSeq2Seq
    source_vocabulary: int
    target_vocabulary: int
    mixer: MakeMixer = SelfAttention
    """Makes the sequence mixer of each layer of the decoder."""

    def setup(self) -> None:
        config = self.config
        self.encoder = EncoderBody(config.encoder_config())
        self.decoder = TransformerDecoder(config.decoder_config(), self.target_vocabulary, self.mixer)
        if config.tie_embeddings != "all":
            self.source_embedding = _table(self.source_vocabulary, config.width)

    def embed(self, source: Int[Array, "b s"], *_: Any) -> Float[Array, "b s d"]:
        """Return the embeddings of the source; takes the positional arguments of `__call__`."""
        return self.decoder.embedding(source) if self.config.tie_embeddings == "all" else self.source_embedding(source)

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
            source_lengths: number of them that are not padding; 0 for a padding row.
            target: tokens that begin with the start token.
            train: whether to apply dropout (needs the rng "dropout").
            weights: whether to return Output.weights; None: if `train` is False.
            embedded: replaces the embeddings of the source; see `embed`.
        """
        states = self.embed(source) if embedded is None else embedded
        memory = self.encoder(states, source_lengths, train=train)
        return self.decoder(memory, source_lengths, target, train=train, weights=weights)

    def encode(
        self, source: Int[Array, "b s"], source_lengths: Int[Array, " b"], *, train: bool = False
    ) -> tuple[Memory, DecoderState]:
        """Encode the source; return the projected memory, and the decoder's state before the first token."""
        return self.decoder.start(self.encoder(self.embed(source), source_lengths, train=train), source_lengths)

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool = False
    ) -> tuple[DecoderState, Output]:
        """Return the state after the next target tokens, and their output; see `TransformerDecoder.decode`."""
        return self.decoder.decode(memory, state, target, train=train)


class _Readout(nn.Module):
    """The output layer: logits from the tied embedding or from a separate matrix."""

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
    """Return the position mods that all layers share: the bias of T5."""
    if not isinstance(block.positions, config.T5Bias):
        return ()
    chosen = block.positions
    table = module.param("t5_bias", nn.initializers.zeros_init(), (block.heads, chosen.buckets))
    bias = functional.t5_bias(map_over(table, "h"), bidirectional=bidirectional, max_distance=chosen.max_distance)
    return (bias,)

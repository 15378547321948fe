"""Recurrent sequence-to-sequence model with attention in the two classical variants, or without attention.

Encoder: annotations = [forward; backward] states of a bidirectional recurrent network.

Bahdanau, Cho & Bengio 2015 (attend with the previous state):
    context_t = attend(state_{t−1}), state_t = cell([y_{t−1}; context_t], state_{t−1}),
    readout_t = tanh(W [state_t; context_t; y_{t−1}])

Luong, Pham & Manning 2015 (attend with the current state, input feeding):
    state_t = cell([y_{t−1}; readout_{t−1}], state_{t−1}), context_t = attend(state_t),
    readout_t = tanh(W [state_t; context_t])

Both: logits_t = E readout_t + b, with E the target embedding if embeddings are tied. (Bahdanau et al. have a maxout
layer instead of this tanh.)
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from attnlab.config.models.recurrent import RecurrentSeq2Seq as Config
from attnlab.layers.decoder_attention import AttentionFunction, DecoderAttention, Memory
from attnlab.layers.recurrent import CELLS, Bidirectional, Cell, State, initial_state

EMBEDDING_INIT = nn.initializers.variance_scaling(1.0, "fan_in", "normal", out_axis=0)


@struct.dataclass
class Output:
    """Output of the model for a batch."""

    logits: Float[Array, "b t v"] | Any
    weights: Float[Array, "b t s"] | Any
    """Attention weights of each target position over the source; zeros without attention."""


@struct.dataclass
class DecoderState:
    """The state of the decoder between two steps."""

    cell: State | Any
    readout: Float[Array, "b e"] | Any
    """The previous readout, for input feeding; of width 0 in the Bahdanau variant."""
    length: Int[Array, " b"] | Any
    """Number of tokens so far, the same for every row."""

    def numbers(self, count: int) -> Int[Array, " t"]:
        """Return the numbers, from 0, of the next `count` tokens of the sequence."""
        return jnp.max(self.length, initial=0) + jnp.arange(count, dtype=jnp.int32)


class Encoder(nn.Module):
    """A bidirectional recurrent encoder of the embedded source."""

    config: Config

    @nn.compact
    def __call__(
        self, embedded: Float[Array, "b s e"], valid: Bool[Array, "b s"], *, train: bool
    ) -> tuple[Array, Array]:
        """Return annotations [b s c] and the final states [b c] of the last layer."""
        config = self.config.encoder
        dropout = nn.Dropout(self.config.dropout, deterministic=not train)
        outputs, summary = embedded, embedded[:, 0]
        for layer in range(config.layers):
            outputs, summary = Bidirectional(config.cell, config.hidden, name=f"layer_{layer}")(dropout(outputs), valid)
        return dropout(outputs), summary


Step = Callable[[Memory, DecoderState, Array, Array], tuple[DecoderState, tuple[Array, Array]]]
"""(memory, state, contribution of the input to the gates, number) -> (state, (features of the readout, weights))."""


class Decoder(nn.Module):
    """A recurrent layer with attention at every step. Its steps are pure functions of (memory, state, input)."""

    config: Config

    def setup(self) -> None:
        config, cell = self.config, self.config.decoder
        glorot, gates, context = (
            nn.initializers.glorot_uniform(),
            CELLS[cell.cell].gates * cell.hidden,
            self._context_width,
        )
        luong = cell.variant == "luong"
        self.bridge = nn.Dense(cell.hidden)
        self.input = nn.Dense(gates)
        self.feed = self.param("feed", glorot, (config.embedding if luong else context, gates))
        self.cell = Cell(cell.cell, cell.hidden)
        self.attention = DecoderAttention(config.attention, cell.hidden, context)
        features = cell.hidden + context + (0 if luong else config.embedding)
        self.w_readout = self.param("w_readout", glorot, (features, config.embedding))
        self.b_readout = self.param("b_readout", nn.initializers.zeros_init(), (config.embedding,))

    def start(self, annotations: Array, lengths: Array, summary: Array) -> tuple[Memory, DecoderState]:
        """Return the memory for an encoded source, and the state before the first target token."""
        state = initial_state(self.config.decoder.cell, jnp.tanh(self.bridge(summary)))
        feed = self.config.embedding if self.config.decoder.variant == "luong" else 0
        return self.attention.project_memory(annotations, lengths, summary), DecoderState(
            state, jnp.zeros((summary.shape[0], feed), summary.dtype), jnp.zeros(len(summary), jnp.int32)
        )

    def __call__(
        self, memory: Memory, state: DecoderState, embedded: Float[Array, "b t e"], *, train: bool
    ) -> tuple[DecoderState, Float[Array, "b t e"], Float[Array, "b t s"]]:
        """Return the state after the target embeddings, the readouts and the attention weights."""
        attend = self.attention.function(embedded.shape[1], train=train)
        step = {"bahdanau": self._bahdanau, "luong": self._luong}[self.config.decoder.variant](attend)
        gates = jnp.swapaxes(self.input(embedded), 0, 1)
        inputs = gates, state.numbers(len(gates))
        state, outs = jax.lax.scan(lambda state, inputs: step(memory, state, *inputs), state, inputs)
        state = DecoderState(state.cell, state.readout, state.length + len(gates))
        features, weights = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), outs)
        self.attention.record(memory, weights)
        if self.config.decoder.variant == "bahdanau":
            features = self._readout()(features, embedded)
        return state, features, weights

    def _bahdanau(self, attend: AttentionFunction) -> Step:
        cell, w_context = self.cell(), self.feed

        def step(
            memory: Memory, state: DecoderState, gates: Array, number: Array
        ) -> tuple[DecoderState, tuple[Array, Array]]:
            context, weights = attend(memory, state.cell[0], number)
            new = cell(gates + context @ w_context, state.cell)
            return DecoderState(new, state.readout, state.length), (
                jnp.concatenate([new[0], context], axis=-1),
                weights,
            )

        return step

    def _luong(self, attend: AttentionFunction) -> Step:
        cell, w_feed, readout = self.cell(), self.feed, self._readout()

        def step(
            memory: Memory, state: DecoderState, gates: Array, number: Array
        ) -> tuple[DecoderState, tuple[Array, Array]]:
            new = cell(gates + state.readout @ w_feed, state.cell)
            context, weights = attend(memory, new[0], number)
            out = readout(new[0], context)
            return DecoderState(new, out, state.length), (out, weights)

        return step

    def _readout(self) -> Callable[..., Array]:
        kernel, bias = self.w_readout, self.b_readout
        return lambda *parts: jnp.tanh(jnp.concatenate(parts, axis=-1) @ kernel + bias)

    @property
    def _context_width(self) -> int:
        return 2 * self.config.encoder.hidden


class RecurrentSeq2Seq(nn.Module):
    """A recurrent encoder and decoder: maps source and target tokens to the logits of the next target token."""

    config: Config
    source_vocabulary: int
    target_vocabulary: int

    def setup(self) -> None:
        config = self.config
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.target_embedding = nn.Embed(self.target_vocabulary, config.embedding, embedding_init=EMBEDDING_INIT)
        if config.tie_embeddings != "all":
            self.source_embedding = nn.Embed(self.source_vocabulary, config.embedding, embedding_init=EMBEDDING_INIT)
        if config.tie_embeddings == "none":
            self.output = nn.Dense(self.target_vocabulary, use_bias=False)
        self.output_bias = self.param("output_bias", nn.initializers.zeros_init(), (self.target_vocabulary,))
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, source: Int[Array, "b s"], *_: Any) -> Float[Array, "b s e"]:
        """Return the embeddings of the source; takes the positional arguments of `__call__`."""
        embedding = self.target_embedding if self.config.tie_embeddings == "all" else self.source_embedding
        return embedding(source)

    def __call__(
        self,
        source: Int[Array, "b s"],
        source_lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        embedded: Float[Array, "b s e"] | None = None,
    ) -> Output:
        """Return logits under teacher forcing: logits[:, i] predict the token after target[:, i].

        Args:
            source: tokens of the source.
            source_lengths: number of them that are not padding; 0 for a padding row.
            target: tokens that begin with the start token.
            train: whether to apply dropout (needs the rng "dropout").
            embedded: replaces the embeddings of the source; see `embed`.
        """
        memory, state = self.encode(source, source_lengths, train=train, embedded=embedded)
        _, output = self.decode(memory, state, target, train=train)
        return output

    def encode(
        self,
        source: Int[Array, "b s"],
        source_lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b s e"] | None = None,
    ) -> tuple[Memory, DecoderState]:
        """Encode the source; return the memory that the decoder attends to, and the decoder's first state."""
        states = self.embed(source) if embedded is None else embedded
        valid = jnp.arange(source.shape[1])[None, :] < source_lengths[:, None]
        annotations, summary = self.encoder(states, valid, train=train)
        return self.decoder.start(annotations, source_lengths, summary)

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool
    ) -> tuple[DecoderState, Output]:
        """Return the state after the target tokens (one of them in beam search), and the logits of the next tokens."""
        embedded = self.dropout(self.target_embedding(target), deterministic=not train)
        state, readout, weights = self.decoder(memory, state, embedded, train=train)
        readout = self.dropout(readout, deterministic=not train)
        logits = self.output(readout) if self.config.tie_embeddings == "none" else self.target_embedding.attend(readout)
        return state, Output(logits + self.output_bias, weights)

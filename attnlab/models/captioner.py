"""Image captioning models, which attend to the cells of an image before each word.

Xu et al. 2015 (`ShowAttendTell`), with a_s the features of cell s, y_t the words and h_t the LSTM's state:
    weights_t = attend(h_{t−1}; a),   z_t = β_t Σ_s weights_ts a_s,   β_t = σ(w_β h_{t−1} + b_β)
    h_t = LSTM([E y_{t−1}; z_t], h_{t−1}),   h_0 = tanh(W mean_s a_s)
    logits_t = E tanh(W_o [h_t; z_t; E y_{t−1}]) + b

With hard attention the context z_t is a single cell: in training a cell drawn with the weights as probabilities, with
the gradient of soft attention (straight-through, which is biased; Xu et al. use REINFORCE, which is unbiased but has a
larger variance); at inference the cell with the largest weight.

`TransformerCaptioner` is a Transformer decoder whose memory is the cells.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, Num

from attnlab.config.models import captioner as config
from attnlab.layers.decoder_attention import DecoderAttention, Memory
from attnlab.layers.recurrent import CELLS, Cell, initial_state
from attnlab.models.image_encoder import ImageEncoder
from attnlab.models.seq2seq import EMBEDDING_INIT, DecoderState, Output
from attnlab.models.transformer import TransformerDecoder

CELL = "lstm"


class ShowAttendTell(nn.Module):
    """Show, attend and tell: maps an image and the words so far to the logits of the next word."""

    config: config.ShowAttendTell
    vocabulary: int

    def setup(self) -> None:
        config, glorot = self.config, nn.initializers.glorot_uniform()
        gates = CELLS[CELL].gates * config.hidden
        self.image = ImageEncoder(config.image)
        self.embedding = nn.Embed(self.vocabulary, config.embedding, embedding_init=EMBEDDING_INIT)
        self.bridge = nn.Dense(config.hidden)
        self.input = nn.Dense(gates)
        self.seen = self.param("seen", glorot, (config.image.width, gates))
        self.cell = Cell(CELL, config.hidden)
        self.attention = DecoderAttention(config.attention, config.hidden, config.image.width)
        if config.gate:
            self.w_gate = self.param("w_gate", nn.initializers.zeros_init(), (config.hidden, 1))
            self.b_gate = self.param("b_gate", nn.initializers.zeros_init(), (1,))
        self.readout = nn.Dense(config.embedding)
        self.bias = self.param("bias", nn.initializers.zeros_init(), (self.vocabulary,))
        self.dropout = nn.Dropout(config.dropout)

    def embed(self, image: Num[Array, "b ..."], *_: Any) -> Float[Array, "b s c"]:
        """Return the features of the image's cells; takes the positional arguments of `__call__`."""
        return self.image(image)

    def __call__(
        self,
        image: Num[Array, "b ..."],
        lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        embedded: Float[Array, "b s c"] | None = None,
    ) -> Output:
        """Return logits under teacher forcing: logits[:, i] predict the word after target[:, i].

        Args:
            image: pixels or features, as for `ImageEncoder`.
            lengths: cells of each image; 0 for a padding row.
            target: words of the caption.
            train: whether to apply dropout and to sample with hard attention (needs the rng "dropout").
            embedded: replaces the features of the image's cells; see `embed`.
        """
        memory, state = self.encode(image, lengths, train=train, embedded=embedded)
        return self.decode(memory, state, target, train=train)[1]

    def encode(
        self,
        image: Num[Array, "b ..."],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        embedded: Float[Array, "b s c"] | None = None,
    ) -> tuple[Memory, DecoderState]:
        """Encode the image; return the memory that the decoder attends to, and the decoder's first state."""
        grid = self.dropout(self.embed(image) if embedded is None else embedded, deterministic=not train)
        mean = jnp.mean(grid, axis=1)
        state = initial_state(CELL, jnp.tanh(self.bridge(mean)))
        return self.attention.project_memory(grid, lengths, mean), DecoderState(
            state, grid[:, 0, :0], jnp.zeros(len(grid), jnp.int32)
        )

    def decode(
        self, memory: Memory, state: DecoderState, target: Int[Array, "b t"], *, train: bool
    ) -> tuple[DecoderState, Output]:
        """Return the state after the next words (one of them in beam search), and the logits of the word after each."""
        embedded = self.dropout(self.embedding(target), deterministic=not train)
        attend, cell, w_context = self.attention.function(target.shape[1], train=train), self.cell(), self.seen
        hard, replaced = self.config.attention_type == "hard", self.attention.is_replaced
        gate = (self.w_gate, self.b_gate) if self.config.gate else None

        def step(state: Any, inputs: tuple[Array, Array, Array]) -> tuple[Any, tuple[Array, Array, Array, Array]]:
            gates, noise, number = inputs
            choose = (lambda weights: _sample(weights, noise)) if hard else None
            context, weights = attend(memory, state[0], number, choose)
            sampled = weights if replaced or choose is None else choose(weights)
            if gate is not None:
                context = jax.nn.sigmoid(state[0] @ gate[0] + gate[1]) * context
            new = cell(gates + context @ w_context, state)
            return new, (new[0], context, weights, sampled)

        gates = jnp.swapaxes(self.input(embedded), 0, 1)
        noise = self._noise(gates.shape[0], *memory.values.shape[:2], sample=hard and train)
        last, out = jax.lax.scan(step, state.cell, (gates, noise, state.numbers(len(gates))))
        hidden, contexts, weights, sampled = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), out)
        self.attention.record(memory, weights, sampled)
        features = jnp.tanh(self.readout(jnp.concatenate([hidden, contexts, embedded], axis=-1)))
        logits = self.embedding.attend(self.dropout(features, deterministic=not train)) + self.bias
        return DecoderState(last, state.readout, state.length + len(gates)), Output(logits, weights)

    def _noise(self, words: int, rows: int, cells: int, *, sample: bool) -> Array:
        """Return Gumbel noise, so that argmax(log weights + noise) is a sample; zeros if `sample` is False."""
        if not sample:
            return jnp.zeros((words, rows, 1))
        return jax.random.gumbel(self.make_rng("dropout"), (words, rows, cells))


def _sample(weights: Float[Array, "b s"], noise: Float[Array, "b #s"]) -> Float[Array, "b s"]:
    """Return one-hot weights on a sampled cell of each row, with the gradient of `weights`; rows of zeros stay zero."""
    cell = jnp.argmax(jnp.where(weights > 0, jnp.log(jnp.maximum(weights, 1e-30)) + noise, -jnp.inf), axis=-1)
    hard = jax.nn.one_hot(cell, weights.shape[-1], dtype=weights.dtype) * jnp.any(weights > 0, axis=-1, keepdims=True)
    return jax.lax.stop_gradient(hard - weights) + weights


class TransformerCaptioner(nn.Module):
    """A Transformer decoder that attends to the cells of an image in every layer."""

    config: config.TransformerCaptioner
    vocabulary: int

    def setup(self) -> None:
        self.image = ImageEncoder(self.config.image)
        self.decoder = TransformerDecoder(self.config.decoder, self.vocabulary)

    def embed(self, image: Num[Array, "b ..."], *_: Any) -> Float[Array, "b s c"]:
        """Return the features of the image's cells; takes the positional arguments of `__call__`."""
        return self.image(image)

    def __call__(
        self,
        image: Num[Array, "b ..."],
        lengths: Int[Array, " b"],
        target: Int[Array, "b t"],
        *,
        train: bool,
        embedded: Float[Array, "b s c"] | None = None,
    ) -> Any:
        """Return logits under teacher forcing, as `ShowAttendTell.__call__`; in training without the weights."""
        return self.decoder(self.embed(image) if embedded is None else embedded, lengths, target, train=train)

    def encode(self, image: Num[Array, "b ..."], lengths: Int[Array, " b"], *, train: bool) -> tuple[Any, Any]:
        """Project the cells to keys and values, and return them with the decoder's first state."""
        return self.decoder.start(self.image(image), lengths)

    def decode(self, memory: Any, state: Any, target: Int[Array, "b t"], *, train: bool) -> tuple[Any, Any]:
        """Return the state after the next words (one of them in beam search), and the logits of the word after each."""
        return self.decoder.decode(memory, state, target, train=train)

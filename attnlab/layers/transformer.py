"""Building blocks of Transformers: norms, feed-forward networks, input embeddings, encoder and decoder layers."""

import math
from collections.abc import Callable
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from attnlab.config.attention import Attention
from attnlab.config.models.transformer import SELF, Block, LayerNorm
from attnlab.functional import masks
from attnlab.layers.capture import record_detail, recording_details
from attnlab.layers.dropout import Dropout
from attnlab.layers.layer_attention import Kind, Residual
from attnlab.layers.mixer import Context, MakeMixer
from attnlab.layers.multi_head import CrossAttention, FusedDense, SelfAttention

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "swiglu": jax.nn.silu,
}


def norm(config: Block, name: str | None = None) -> nn.Module:
    """Build the norm that a config names."""
    if isinstance(config.norm, LayerNorm):
        return nn.LayerNorm(epsilon=config.norm.epsilon, name=name)
    return nn.RMSNorm(epsilon=config.norm.epsilon, name=name)


def record_residual(
    module: nn.Module,
    norm_layer: nn.Module,
    states: Float[Array, "b t d"],
    total: Float[Array, "b t d"],
    *,
    pre: bool,
    gate: Array | float = 1.0,
    kind: Kind,
    stack: str,
    layer: int | None,
    feed_forward: bool = False,
) -> None:
    """Record the residual connection around a sublayer, if this application of the model records details.

    Args:
        module: the bound module that adds the residual connection.
        norm_layer: the norm of the sublayer, after it has been applied.
        states: input of the residual connection.
        total: the sum of it and the sublayer's output.
        pre: whether the norm is applied to the input of the sublayer, and not to the sum.
        gate: factor of the sublayer's output.
        kind: as in `capture.record`, like `stack` and `layer`: those of the attention layer.
        feed_forward: whether the sublayer is the feed-forward network that follows the attention layer.
    """
    if not recording_details(module):
        return
    params, name = norm_layer.variables["params"], "layer_norm" if isinstance(norm_layer, nn.LayerNorm) else "rms_norm"
    residual = Residual(
        states, total, gate, params["scale"], params.get("bias"), "pre" if pre else "post", name, norm_layer.epsilon
    )
    record_detail(module, residual, kind=kind, stack=stack, layer=layer, feed_forward=feed_forward)


def sinusoids(positions: Int[Array, " t"], width: int) -> Float[Array, "t d"]:
    """Encode positions by sines and cosines of decreasing frequencies: all sines, then all cosines.

    p[i, m] = sin(i · 10000^(−2m/d)),  p[i, d/2 + m] = cos(i · 10000^(−2m/d))    for m = 0 … d/2 − 1

    The paper alternates sines and cosines; the order of features does not matter to a learned projection.

    Args:
        positions: positions, from 0.
        width: d; if it is odd, the last feature is 0.
    Returns: the encodings, in [−1, 1].
    Numerics: float32.
    Reference: Vaswani et al. 2017, section 3.5.

    >>> sinusoids(jnp.arange(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    frequencies = 10000.0 ** (-jnp.arange(width // 2, dtype=jnp.float32) * 2 / width)
    angles = positions.astype(jnp.float32)[:, None] * frequencies[None, :]
    return jnp.pad(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1), ((0, 0), (0, width % 2)))


class InputEmbedding(nn.Module):
    """The input of the first layer: embedded tokens with scale, positions, token types, norm and dropout."""

    config: Block
    token_types: int = 0

    @nn.compact
    def __call__(
        self,
        embedded: Float[Array, "b t d"],
        start: Int[Array, ""] | None = None,
        token_types: Int[Array, "b t"] | None = None,
        *,
        train: bool,
    ) -> Float[Array, "b t d"]:
        """Return the input states of tokens whose first has the position `start` (None: 0)."""
        config, (length, width) = self.config, embedded.shape[1:]
        states = embedded * math.sqrt(width) if config.scale_embeddings else embedded
        positions = jnp.arange(length, dtype=jnp.int32) + (0 if start is None else start)
        if config.positions.kind == "learned":
            if length > config.max_length:
                raise ValueError(f"{length} tokens, but there are learned positions for max_length {config.max_length}")
            init = nn.initializers.normal(0.02)
            table = self.param("positions", init, (config.max_length, width))
            states += table[None, :length] if start is None else table[positions][None]
        if config.positions.kind == "sinusoidal":
            states += sinusoids(positions, width)[None].astype(states.dtype)
        if self.token_types:
            types = nn.Embed(self.token_types, width, embedding_init=nn.initializers.normal(0.02), name="token_types")
            states += types(jnp.zeros(embedded.shape[:2], jnp.int32) if token_types is None else token_types)
        elif token_types is not None:
            raise ValueError("token_types were passed, but the config has token_types 0")
        if config.embedding_norm:
            states = norm(config, "norm")(states)
        return Dropout(config.dropout)(states, train=train)


class FeedForward(nn.Module):
    """A feed-forward network: W_2 f(W_1 x), or with a gate W_2 (f(W_g x) ⊙ W_1 x).

    Reference: Vaswani et al. 2017, equation 2; Shazeer 2020.
    """

    config: Block

    @nn.compact
    def __call__(self, states: Float[Array, "b t d"], *, train: bool) -> Float[Array, "b t d"]:
        """Apply the network to every state on its own."""
        config, activate = self.config, ACTIVATIONS[self.config.activation]
        gated = config.activation == "swiglu"
        hidden = FusedDense((config.feed_forward,) * (2 if gated else 1), config.biases, name="hidden")(states)
        inner = activate(hidden[0]) * hidden[1] if gated else activate(hidden[0])
        inner = Dropout(config.activation_dropout)(inner, train=train)
        glorot = nn.initializers.glorot_uniform()
        return nn.Dense(config.width, use_bias=config.biases, kernel_init=glorot, name="output")(inner)


class _Layer(nn.Module):
    """A layer whose sublayers each have a residual connection and a norm."""

    config: Block
    attention: Attention
    layer: int | None = None
    """Number of the layer in its stack, from 1."""
    stack: ClassVar[str]

    def residual(
        self,
        norm_layer: nn.Module,
        states: Array,
        sublayer: Callable[[Array], tuple[Array, Any]],
        train: bool,
        kind: Kind,
        feed_forward: bool = False,
    ) -> tuple[Array, Any]:
        """Apply a sublayer x ↦ (f(x), aux) with norm and residual connection; return the states and aux.

        pre-norm: x + f(norm(x)),    post-norm: norm(x + f(x))

        It is recorded with the attention layer of this `kind`, as its own or as that of the `feed_forward` network.
        """
        normed: Any = norm_layer
        pre = self.config.norm_position == "pre"
        output, aux = sublayer(normed(states) if pre else states)
        total = states + self.dropout(output, train=train)
        result = total if pre else normed(total)
        place: Any = {"kind": kind, "stack": self.stack, "layer": self.layer}
        record_residual(self, norm_layer, states, total, pre=pre, feed_forward=feed_forward, **place)
        return result, aux

    def feed(self, states: Array, train: bool, kind: Kind) -> Array:
        """Apply the feed-forward network, the last sublayer, which follows attention of this `kind`."""
        network = lambda x: (self.feed_forward(x, train=train), None)  # noqa: E731
        return self.residual(self.feed_forward_norm, states, network, train, kind, feed_forward=True)[0]

    def setup_shared(self) -> None:
        """Build the modules that encoder and decoder layers share."""
        self.self_norm = norm(self.config)
        self.feed_forward = FeedForward(self.config)
        self.feed_forward_norm = norm(self.config)
        self.dropout = Dropout(self.config.dropout)


class EncoderLayer(_Layer):
    """A sequence mixer (self-attention), then a feed-forward network."""

    mixer: MakeMixer = SelfAttention
    stack: ClassVar[str] = "encoder"

    def setup(self) -> None:
        self.self_attention: Any = self.mixer(self.config, self.attention, stack=self.stack, layer=self.layer)
        self.setup_shared()

    def __call__(self, states: Float[Array, "b t d"], context: Context, train: bool) -> Float[Array, "b t d"]:
        """Return the states after the layer."""
        mix = lambda x: (self.self_attention(x, context, train=train), None)  # noqa: E731
        return self.feed(self.residual(self.self_norm, states, mix, train, "self")[0], train, "self")


class DecoderLayer(_Layer):
    """A causal sequence mixer (self-attention), cross-attention to a memory, then a feed-forward network."""

    cross: Attention = SELF
    mixer: MakeMixer = SelfAttention
    stack: ClassVar[str] = "decoder"

    def setup(self) -> None:
        options: Any = {"bidirectional": False, "stack": self.stack, "layer": self.layer}
        self.self_attention: Any = self.mixer(self.config, self.attention, **options)
        self.cross_attention = CrossAttention(self.config, self.cross, stack=self.stack, layer=self.layer)
        self.cross_norm = norm(self.config)
        self.setup_shared()

    def project_memory(self, memory: Float[Array, "b s c"]) -> tuple[Array, Array]:
        """Project the memory to keys and values."""
        return self.cross_attention.project_memory(memory)

    def init_state(self, rows: int, dtype: Any) -> PyTree:
        """Return the mixer's state before the first token."""
        return self.self_attention.init_state(rows, dtype)

    def __call__(
        self,
        states: Float[Array, "b t d"],
        memory: Float[Array, "b s c"],
        lengths: Int[Array, " b"],
        mods: tuple[Any, ...],
        train: bool,
        weights: bool,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b n t s"] | None]:
        """Return the states of all tokens after the layer, and the weights over the memory if `weights` is set."""
        context = Context(jnp.full(states.shape[0], states.shape[1], jnp.int32), masks.causal(), mods)
        mix = lambda x: (self.self_attention(x, context, train=train), None)  # noqa: E731
        states, _ = self.residual(self.self_norm, states, mix, train, "self")
        return self._cross(states, self.project_memory(memory), lengths, 0, train, weights)

    def step(
        self,
        state: PyTree,
        states: Float[Array, "b t d"],
        memory: tuple[Array, Array],
        lengths: Int[Array, " b"],
        mods: tuple[Any, ...],
        weights: bool,
        start: Any = 0,
    ) -> tuple[PyTree, Float[Array, "b t d"], Float[Array, "b n t s"] | None]:
        """Return the mixer's next state, the states of the next tokens, and the weights if `weights` is set.

        The tokens begin at position `start` of their sequence, for parts and interventions.
        """
        mix = lambda x: self.self_attention.step(state, x, mods)[::-1]  # noqa: E731
        states, state = self.residual(self.self_norm, states, mix, False, "self")
        return state, *self._cross(states, memory, lengths, start, False, weights)

    def _cross(
        self, states: Array, memory: tuple[Array, Array], lengths: Array, start: Any, train: bool, weights: bool
    ) -> tuple[Array, Array | None]:
        options: Any = {"train": train, "weights": weights, "start": start}
        cross = lambda x: self.cross_attention(x, *memory, lengths, **options)  # noqa: E731
        states, attended = self.residual(self.cross_norm, states, cross, train, "cross")
        return self.feed(states, train, "cross"), attended

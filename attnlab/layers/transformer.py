"""What Transformers are stacked from: norms, feed-forward networks, the entry of tokens, and two kinds of layers."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention
from attnlab.config.models.transformer import SELF, Block, LayerNorm
from attnlab.functional import cache, masks
from attnlab.layers.dropout import Dropout
from attnlab.layers.multi_head import CrossAttention, Fused, SelfAttention

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "gelu": lambda x: jax.nn.gelu(x, approximate=False),
    "gelu_tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "swiglu": jax.nn.silu,
}


def norm(config: Block, name: str | None = None) -> nn.Module:
    """Make the norm that a config names."""
    if isinstance(config.norm, LayerNorm):
        return nn.LayerNorm(epsilon=config.norm.epsilon, name=name)
    return nn.RMSNorm(epsilon=config.norm.epsilon, name=name)


def sinusoids(positions: Int[Array, " t"], width: int) -> Float[Array, "t d"]:
    """Encode positions by sines and cosines of falling frequencies: all sines, then all cosines.

    p[i, m] = sin(i · 10000^(−2m/d)),  p[i, d/2 + m] = cos(i · 10000^(−2m/d))    for m = 0 … d/2 − 1

    The paper has sines and cosines in turn; the order of features means nothing to a learned map.

    Args:
        positions: from 0 on.
        width: d; an odd one ends with a 0.
    Returns: numbers in [−1, 1], of float32.
    Reference: Vaswani et al. 2017, section 3.5.

    >>> sinusoids(jnp.arange(1), 4).tolist()
    [[0.0, 0.0, 1.0, 1.0]]
    """
    speeds = 10000.0 ** (-jnp.arange(width // 2, dtype=jnp.float32) * 2 / width)
    angles = positions.astype(jnp.float32)[:, None] * speeds[None, :]
    return jnp.pad(jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1), ((0, 0), (0, width % 2)))


class Entry(nn.Module):
    """What becomes of embedded tokens before the first layer: scaled, positions and types added, normed, dropped."""

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
        """Prepare tokens of which the first stands at position `start` (None: 0)."""
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
            raise ValueError("token types are given, but the config has token_types 0")
        if config.embedding_norm:
            states = norm(config, "norm")(states)
        return Dropout(config.dropout)(states, train=train)


class FeedForward(nn.Module):
    """output = W_2 f(W_1 x), or with a gate W_2 (f(W_g x) ⊙ W_1 x) (Vaswani et al. 2017, eq. 2; Shazeer 2020)."""

    config: Block

    @nn.compact
    def __call__(self, states: Float[Array, "b t d"], *, train: bool) -> Float[Array, "b t d"]:
        """Map every state by itself."""
        config, activate = self.config, ACTIVATIONS[self.config.activation]
        gated = config.activation == "swiglu"
        hidden = Fused((config.feed_forward,) * (2 if gated else 1), config.biases, name="hidden")(states)
        inner = activate(hidden[0]) * hidden[1] if gated else activate(hidden[0])
        inner = Dropout(config.activation_dropout)(inner, train=train)
        glorot = nn.initializers.glorot_uniform()
        return nn.Dense(config.width, use_bias=config.biases, kernel_init=glorot, name="output")(inner)


class _Layer(nn.Module):
    """Sublayers with a residual connection and a norm each."""

    config: Block
    attention: Attention
    layer: int | None = None
    """Number of the layer in its stack, from 1."""

    def around(
        self, inner: nn.Module, states: Array, sublayer: Callable[[Array], tuple[Array, Any]], train: bool
    ) -> tuple[Array, Any]:
        """Add what a sublayer makes: pre-norm x + f(norm(x)), post-norm norm(x + f(x)); pass on what else it tells."""
        normed: Any = inner
        pre = self.config.norm_position == "pre"
        made, told = sublayer(normed(states) if pre else states)
        states += self.dropout(made, train=train)
        return states if pre else normed(states), told

    def feed(self, states: Array, train: bool) -> Array:
        """Pass states through the feed-forward network, the last sublayer."""
        network = lambda x: (self.feed_forward(x, train=train), None)  # noqa: E731
        return self.around(self.feed_forward_norm, states, network, train)[0]

    def common(self) -> None:
        """Make what both kinds of layers have."""
        self.self_norm = norm(self.config)
        self.feed_forward = FeedForward(self.config)
        self.feed_forward_norm = norm(self.config)
        self.dropout = Dropout(self.config.dropout)


class EncoderLayer(_Layer):
    """Attention to the own sequence, then a feed-forward network."""

    def setup(self) -> None:
        self.self_attention = SelfAttention(self.config, self.attention, stack="encoder", layer=self.layer)
        self.common()

    def __call__(
        self, states: Array, lengths: Array, where: masks.Mask, mods: Sequence[Any], train: bool
    ) -> Float[Array, "b t d"]:
        """Pass states [b t d] through the layer."""
        attend = lambda x: (self.self_attention(x, lengths, where, mods, train=train), None)  # noqa: E731
        return self.feed(self.around(self.self_norm, states, attend, train)[0], train)


class DecoderLayer(_Layer):
    """Attention to what was written so far, attention to the memory, then a feed-forward network."""

    cross: Attention = SELF

    def setup(self) -> None:
        at: Any = {"stack": "decoder", "layer": self.layer}
        self.self_attention = SelfAttention(self.config, self.attention, bidirectional=False, **at)
        self.cross_attention = CrossAttention(self.config, self.cross, **at)
        self.cross_norm = norm(self.config)
        self.common()

    def remember(self, memory: Array) -> tuple[Array, Array]:
        """Project the memory to keys and values."""
        return self.cross_attention.remember(memory)

    def empty(self, rows: int, dtype: Any) -> cache.Cache:
        """Make an empty cache."""
        return self.self_attention.empty(rows, dtype)

    def __call__(
        self, states: Array, memory: Array, lengths: Array, mods: Sequence[Any], train: bool, weights: bool
    ) -> tuple[Float[Array, "b t d"], Array | None]:
        """Pass all tokens [b t d] through the layer at once; return the weights [b n t s] when they are asked for."""
        whole = jnp.full(states.shape[0], states.shape[1], jnp.int32)
        attend = lambda x: (self.self_attention(x, whole, masks.causal(), mods, train=train), None)  # noqa: E731
        states, _ = self.around(self.self_norm, states, attend, train)
        return self._ask(states, self.remember(memory), lengths, train, weights)

    def step(
        self,
        states: Array,
        past: cache.Cache,
        memory: tuple[Array, Array],
        lengths: Array,
        mods: Sequence[Any],
        weights: bool,
    ) -> tuple[Float[Array, "b t d"], Array | None, cache.Cache]:
        """Pass the next tokens through the layer; return the weights when they are asked for, and the longer cache."""
        attend = lambda x: self.self_attention.step(x, past, mods)  # noqa: E731
        states, longer = self.around(self.self_norm, states, attend, False)
        return *self._ask(states, memory, lengths, False, weights), longer

    def _ask(
        self, states: Array, memory: tuple[Array, Array], lengths: Array, train: bool, weights: bool
    ) -> tuple[Array, Array | None]:
        ask = lambda x: self.cross_attention(x, *memory, lengths, train=train, weights=weights)  # noqa: E731
        states, seen = self.around(self.cross_norm, states, ask, train)
        return self.feed(states, train), seen

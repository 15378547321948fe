"""Multi-head linear attention: a sequence mixer whose state has a fixed size."""

import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jax.tree_util import Partial
from jaxtyping import Array, Float, Int

from attnlab.config import linear_attention as settings
from attnlab.config.models.transformer import Block, Rotary
from attnlab.functional import linear
from attnlab.functional.masks.extent import Lengths
from attnlab.functional.parts import map_over
from attnlab.functional.rotary import rotary
from attnlab.layers.mixer import Context
from attnlab.layers.multi_head import FusedDense


@struct.dataclass
class RecurrentState:
    """The state of linear attention after some tokens, of equal number in all rows."""

    memory: Float[Array, "b k m w"] | Any
    length: Int[Array, " b"] | Any
    """Number of tokens so far, the same for every row."""


class LinearAttention(nn.Module):
    """Multi-head linear attention, with the learned gates and feature maps of its config.

    (S_i, output_i) = rule(S_{i−1}, φ(x_i W_q), φ(x_i W_k), x_i W_v),    y_i = norm(output_i) W_o

    A sequence mixer (`mixer.SequenceMixer`). It records no attention: it computes no weights.

    Numerics: as `functional.linear.linear_attention`; padding has meaningless outputs.
    Reference: that of the rule. Of gated DeltaNet and DeltaNet, the short convolutions before, and the gate after the
        norm are not part of it.

    >>> from attnlab.functional import masks
    >>> layer, states = LinearAttention(Block(width=8, heads=2), settings.LinearAttention()), jnp.ones((1, 3, 8))
    >>> context = Context(jnp.array([3]), masks.lengths(jnp.array([3])))
    >>> layer.init_with_output(jax.random.key(0), states, context, train=False)[0].shape
    (1, 3, 8)
    """

    config: Block
    attention: settings.LinearAttention
    bidirectional: bool = True
    """False if each token attends only to the tokens up to itself."""
    stack: str = "encoder"
    """The part of the model that the layer belongs to, as in `LayerAttention`."""
    layer: int | None = None
    """Number of the layer, from 1."""

    def setup(self) -> None:
        block = self.config
        widths = (block.heads, block.key_heads, block.key_heads)
        self.qkv = FusedDense(tuple(heads * block.head_features for heads in widths), block.biases)
        self.gates = Gates(self.attention.rule, block.key_heads, block.head_features)
        sizes = block.head_features, block.max_length, self.layer or 0
        self.query_map = FeatureMap(self.attention, block.heads, *sizes)
        self.key_map = FeatureMap(self.attention, block.key_heads, *sizes)
        self.output = nn.Dense(block.width, use_bias=block.biases, kernel_init=nn.initializers.glorot_uniform())
        if self.attention.has_output_norm:
            self.output_norm = nn.RMSNorm()

    def __call__(self, states: Float[Array, "b t d"], context: Context, *, train: bool) -> Float[Array, "b t d"]:
        """Return the output for all tokens at once; raise for a mask of other than padding, and for mods."""
        if context.mods:
            raise ValueError(f"{self._place}: linear attention has no logits, so it cannot apply mods of the positions")
        if self.bidirectional and not isinstance(context.mask, Lengths):
            raise ValueError(
                f"{self._place}: linear attention can mask padding only, not {context.mask.expression()}; packed "
                "segments need softmax attention"
            )
        where = jnp.arange(states.shape[1])[None, :] < context.lengths[:, None]
        return self._attend(states, where, None)[0]

    def init_state(self, rows: int, dtype: Any) -> RecurrentState:
        """Return the state before the first token."""
        block = self.config
        features = self.key_map.features
        normalized = isinstance(self.attention.rule, settings.SumRule) and self.attention.rule.normalized
        shape = (rows, block.key_heads, features, block.head_features + normalized)
        wide = jnp.float64 if jnp.dtype(dtype) == jnp.float64 else jnp.float32
        return RecurrentState(jnp.zeros(shape, wide), jnp.zeros(rows, jnp.int32))

    def step(
        self, state: RecurrentState, states: Float[Array, "b t d"], mods: Sequence[Any] = ()
    ) -> tuple[RecurrentState, Float[Array, "b t d"]]:
        """Return the state after the next tokens, and the output for them."""
        if mods:
            raise ValueError(f"{self._place}: linear attention has no logits, so it cannot apply mods of the positions")
        output, after = self._attend(states, None, linear.State(state.memory, state.length[0]))
        return RecurrentState(after.memory, jnp.broadcast_to(after.length, state.length.shape)), output

    @property
    def _place(self) -> str:
        return f"{self.stack}/layer_{self.layer}" if self.layer is not None else self.stack

    def _attend(
        self, states: Array, where: Array | None, state: linear.State | None
    ) -> tuple[Float[Array, "b t d"], linear.State]:
        block, shape = self.config, states.shape[:2]
        query, key, value = (x.reshape(*shape, -1, block.head_features) for x in self.qkv(states))
        if isinstance(block.positions, Rotary):
            options: Any = {"base": block.positions.base, "interleaved": block.positions.interleaved}
            positions = jnp.arange(shape[1], dtype=jnp.int32) + (0 if state is None else state.length)
            query, key = rotary(query, positions, **options), rotary(key, positions, **options)
        options = {} if self.bidirectional else {"chunk": self.attention.chunk}
        heads, after = linear.linear_attention(
            query, key, value, rule=self.gates(states), feature_map=(self.query_map(), self.key_map()),
            causal=not self.bidirectional, where=where, state=state, **options,
        )  # fmt: skip
        if self.attention.has_output_norm:
            heads = self.output_norm(heads)
        return self.output(heads.reshape(*shape, -1)), after


class Gates(nn.Module):
    """A state rule with gates computed from the states.

    >>> Gates(settings.DeltaRule(), 2, 4).init_with_output(jax.random.key(0), jnp.ones((1, 3, 8)))[0].beta.shape
    (1, 3, 2)
    """

    config: settings.Rule
    heads: int
    """Number of key heads."""
    features: int
    """Number of features of a key."""

    @nn.compact
    def __call__(self, states: Float[Array, "b t d"]) -> linear.Rule:
        """Return the rule for these tokens."""
        match self.config:
            case settings.SumRule(normalized=normalized):
                return linear.sum_rule(normalized=normalized)
            case settings.Retention():
                return linear.retention(linear.retention_decays(self.heads))
            case settings.Gated(rank=rank, temperature=temperature):
                narrow = nn.Dense(rank, use_bias=False, name="narrow")(states)
                logits = nn.Dense(self.heads * self.features, name="decay")(narrow)
                log_decay = jax.nn.log_sigmoid(logits) / temperature
                return linear.gated(log_decay.reshape(*states.shape[:2], self.heads, self.features))
            case settings.DeltaRule():
                return linear.delta_rule(self._beta(states))
            case settings.GatedDeltaRule():
                logits = nn.Dense(self.heads, use_bias=False, name="decay")(states)
                rate = jnp.exp(self.param("log_rate", _log_uniform(1.0, 16.0), (self.heads,)))
                step = jax.nn.softplus(logits + self.param("step_bias", _inverse_softplus(1e-3, 0.1), (self.heads,)))
                return linear.gated_delta_rule(self._beta(states), -rate * step)

    def _beta(self, states: Array) -> Float[Array, "b t k"]:
        return jax.nn.sigmoid(nn.Dense(self.heads, use_bias=False, name="beta")(states))


class FeatureMap(nn.Module):
    """A feature map of queries or of keys, with its parameters bound.

    >>> FeatureMap(settings.LinearAttention(), 2, 4, 16).apply({})(jnp.zeros((1, 4))).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """

    config: settings.LinearAttention
    heads: int
    width: int
    """Number of features of a query or key."""
    max_length: int
    """Largest number of tokens."""
    layer: int = 0
    """Number of the layer, which has random features of its own."""

    @property
    def features(self) -> int:
        """The number of features that the map returns."""
        match self.config.feature_map:
            case settings.Favor(features=features):
                return features
            case settings.Cosformer() | settings.Hedgehog():
                return 2 * self.width
        return self.width

    @nn.compact
    def __call__(self) -> Any:
        """Return the map."""
        match self.config.feature_map:
            case settings.Favor(features=features, seed=seed):
                rng = jax.random.fold_in(jax.random.key(seed), self.layer)
                return Partial(linear.favor, projection=linear.orthogonal_projection(rng, features, self.width))
            case settings.Cosformer():
                return linear.cosformer(self.max_length)
            case settings.Hedgehog():
                w = self.param("w", lambda _, shape: jnp.broadcast_to(jnp.eye(self.width), shape), self._shape(2))
                b = self.param("b", nn.initializers.zeros_init(), self._shape(1))
                return Partial(linear.hedgehog, w=map_over(w, "h"), b=map_over(b, "h"))
        return getattr(linear, self.config.map_kind)

    def _shape(self, rank: int) -> tuple[int, ...]:
        return (self.heads, *(self.width,) * rank)


def _log_uniform(low: float, high: float) -> Any:
    """Return an initializer of logarithms of numbers that are uniform between low and high, as in Mamba-2."""
    return lambda rng, shape: jnp.log(jax.random.uniform(rng, shape, minval=low, maxval=high))


def _inverse_softplus(low: float, high: float) -> Any:
    """Return an initializer after which softplus is log-uniform between low and high, as in Mamba-2."""

    def draw(rng: Array, shape: tuple[int, ...]) -> Array:
        step = jnp.exp(jax.random.uniform(rng, shape, minval=math.log(low), maxval=math.log(high)))
        return step + jnp.log(-jnp.expm1(-step))

    return draw

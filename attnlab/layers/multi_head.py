"""Multi-head self-attention (all tokens at once, or token by token with a cache) and cross-attention.

head_h = attention(x W_q^h, y W_k^h, y W_v^h),    output = [head_1; …; head_N] W_o    (Vaswani et al. 2017, 3.2.2)

With fewer key heads than query heads, several query heads share a key head (Ainslie et al. 2023).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.config.models.transformer import Block, Rotary
from attnlab.functional import cache
from attnlab.functional.rotary import rotary
from attnlab.layers.attention import Attention
from attnlab.layers.capture import record_detail, recording_details
from attnlab.layers.layer_attention import Kind, Projection
from attnlab.layers.masks import mask
from attnlab.layers.mixer import Context


class FusedDense(nn.Module):
    """Several dense layers of the same input as one matrix product, each with its own Glorot initialization."""

    features: tuple[int, ...]
    use_bias: bool

    @nn.compact
    def __call__(self, inputs: Float[Array, "b t d"]) -> list[Array]:
        """Return the output [b t f] of each layer."""
        width, total = inputs.shape[-1], sum(self.features)
        kernel = self.param("kernel", self._draw, (width, total))
        outputs = inputs @ kernel
        if self.use_bias:
            outputs += self.param("bias", nn.initializers.zeros_init(), (total,))
        ends = [sum(self.features[:n]) for n in range(1, len(self.features))]
        return jnp.split(outputs, ends, axis=-1)

    def _draw(self, rng: Array, shape: tuple[int, int]) -> Array:
        glorot = nn.initializers.glorot_uniform()
        rngs = jax.random.split(rng, len(self.features))
        kernels = [glorot(kernel_rng, (shape[0], f)) for kernel_rng, f in zip(rngs, self.features, strict=True)]
        return jnp.concatenate(kernels, axis=1)


class _MultiHead(nn.Module):
    """Attention with several heads, and the projection of their outputs to the width of the states."""

    config: Block
    attention: Config
    bidirectional: bool = True
    stack: str = "encoder"
    """The part of the model that the layer belongs to, as in `LayerAttention`."""
    layer: int | None = None
    """Number of the layer, from 1."""
    kind: ClassVar[Kind]

    def setup(self) -> None:
        config = self.config
        self.attend = Attention(
            self.attention, config.heads, config.head_features, config.head_features, kind=self.kind, stack=self.stack,
            layer=self.layer, dropout=config.attention_dropout, bidirectional=self.bidirectional,
        )  # fmt: skip
        self.output = nn.Dense(config.width, use_bias=config.biases, kernel_init=nn.initializers.glorot_uniform())
        self.project()

    def project(self) -> None:
        """Make the projections of the inputs."""
        raise NotImplementedError

    def merge(self, heads: Float[Array, "b t n e"]) -> Float[Array, "b t d"]:
        """Project the concatenated outputs of the heads to the width of the states."""
        states = self.output(heads.reshape(*heads.shape[:2], -1))
        if recording_details(self):
            params = self.output.variables["params"]
            projection = Projection(params["kernel"].reshape(*heads.shape[2:], -1), params.get("bias"))
            record_detail(self, projection, kind=self.kind, stack=self.stack, layer=self.layer)
        return states

    def split(self, features: Array, heads: int) -> Float[Array, "b t n e"]:
        """Split features into heads."""
        return features.reshape(*features.shape[:2], heads, -1)


@struct.dataclass
class KeyValues:
    """The state of self-attention: keys and values of the tokens so far, of equal number in all rows."""

    key: Float[Array, "b l k e"] | Any
    value: Float[Array, "b l k e"] | Any
    length: Int[Array, " b"] | Any
    """Number of tokens so far, the same for every row."""


class SelfAttention(_MultiHead):
    """Multi-head self-attention: every token attends to the tokens of its own sequence.

    A sequence mixer (`mixer.SequenceMixer`), whose state is a key-value cache.

    Numerics: as `functional.attention`; padding has meaningless outputs. `step` gives NaN after the cache overflows.
    Reference: Vaswani et al. 2017, section 3.2.2; Ainslie et al. 2023 for fewer key heads.

    >>> from attnlab.config.attention import ScaledDot
    >>> from attnlab.functional import masks
    >>> layer, states = SelfAttention(Block(width=8, heads=2), Config(score=ScaledDot())), jnp.ones((1, 3, 8))
    >>> context = Context(jnp.array([3]), masks.causal())
    >>> layer.init_with_output(jax.random.key(0), states, context, train=False)[0].shape
    (1, 3, 8)
    """

    kind: ClassVar[Kind] = "self"

    def project(self) -> None:
        config = self.config
        widths = (config.heads, config.key_heads, config.key_heads)
        self.qkv = FusedDense(tuple(heads * config.head_features for heads in widths), config.biases)

    def __call__(self, states: Float[Array, "b t d"], context: Context, *, train: bool) -> Float[Array, "b t d"]:
        """Return the output for all tokens at once; the masks of config and context are combined by "and"."""
        query, key, value = self._projected(states, None)
        where = context.mask
        if self.attention.mask is not None:
            where &= mask(self.attention.mask, key.shape[1], self.config.max_length)
        result = self.attend(query, key, value, context.lengths, mask=where, mods=context.mods, train=train)
        return self.merge(result.output)

    def init_state(self, rows: int, dtype: Any) -> KeyValues:
        """Return an empty cache with a capacity of config.max_length tokens."""
        config = self.config
        buffer = jnp.zeros((rows, config.max_length, config.key_heads, config.head_features), dtype)
        return KeyValues(buffer, buffer, jnp.zeros(rows, jnp.int32))

    def step(
        self, state: KeyValues, states: Float[Array, "b t d"], mods: Sequence[Any] = ()
    ) -> tuple[KeyValues, Float[Array, "b t d"]]:
        """Return the extended cache, and the output for the next tokens, each of which attends to all up to itself."""
        past = cache.Cache(state.key, state.value, state.length[0])
        query, key, value = self._projected(states, cache.positions(past, states.shape[1]))
        mask_config, capacity = self.attention.mask, past.key.shape[1]
        where = None if mask_config is None else mask(mask_config, capacity, capacity)
        output, extended = self.attend.step(query, key, value, past, mask=where, mods=mods)
        length = jnp.broadcast_to(extended.length, state.length.shape)
        return KeyValues(extended.key, extended.value, length), self.merge(output)

    def _projected(self, states: Array, positions: Array | None) -> tuple[Array, Array, Array]:
        config = self.config
        query, key, value = self.qkv(states)
        query = self.split(query, config.heads)
        key, value = self.split(key, config.key_heads), self.split(value, config.key_heads)
        if isinstance(config.positions, Rotary):
            options = {"base": config.positions.base, "interleaved": config.positions.interleaved}
            query, key = rotary(query, positions, **options), rotary(key, positions, **options)
        return query, key, value


class CrossAttention(_MultiHead):
    """Multi-head cross-attention: every token attends to a memory, another sequence's states or an image's features.

    The memory is projected once by `project_memory`; its width may differ from that of the states.

    Numerics: as `functional.attention`; a memory of length 0 gives the bias of the output projection.
    Reference: Vaswani et al. 2017, section 3.2.3.

    >>> from attnlab.config.attention import ScaledDot
    >>> layer, memory = CrossAttention(Block(width=8, heads=2), Config(score=ScaledDot())), jnp.ones((1, 5, 6))
    >>> attend = lambda layer, states: layer(states, *layer.project_memory(memory), jnp.array([5]), train=False)
    >>> nn.init_with_output(attend, layer)(jax.random.key(0), jnp.ones((1, 3, 8)))[0][0].shape
    (1, 3, 8)
    """

    kind: ClassVar[Kind] = "cross"

    def project(self) -> None:
        config = self.config
        kernel_init = nn.initializers.glorot_uniform()
        self.query = nn.Dense(config.heads * config.head_features, use_bias=config.biases, kernel_init=kernel_init)
        self.key_value = FusedDense((config.key_heads * config.head_features,) * 2, config.biases)

    def project_memory(self, memory: Float[Array, "b s c"]) -> tuple[Float[Array, "b s k e"], Float[Array, "b s k e"]]:
        """Project the memory to keys and values, once for all tokens."""
        key, value = self.key_value(memory)
        return self.split(key, self.config.key_heads), self.split(value, self.config.key_heads)

    def __call__(
        self,
        states: Float[Array, "b t d"],
        key: Float[Array, "b s k e"],
        value: Float[Array, "b s k e"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        weights: bool = False,
        start: Any = 0,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b n t s"] | None]:
        """Attend to the first `lengths` keys of each row; return the weights too if `weights` is set.

        The tokens begin at position `start` of their sequence, for parts and interventions.
        """
        query = self.split(self.query(states), self.config.heads)
        returns = ("weights",) if weights else ()
        result = self.attend(query, key, value, lengths, returns=returns, start=start, train=train)
        return self.merge(result.output), result.weights

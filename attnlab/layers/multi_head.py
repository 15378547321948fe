"""Multi-head attention on the core: to the own sequence, at once or token by token with a cache, and to a memory.

head_h = attention(x W_q^h, y W_k^h, y W_v^h),    output = [head_1; …; head_N] W_o    (Vaswani et al. 2017, 3.2.2)

With fewer heads of keys and values than of queries several share one (Ainslie et al. 2023).
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention
from attnlab.config.models.transformer import Block, Rotary
from attnlab.functional import cache, masks
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.functional.rotary import rotary
from attnlab.layers.capture import Kind, record, recording
from attnlab.layers.masks import mask
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.scores import HeadScore

WRITTEN = 2**24
"""Up to so many logits in a call, and no longer a row than ROW, they are written out: quicker than in blocks."""
ROW = 256


class Fused(nn.Module):
    """Several linear maps of the same input as one product of matrices, each drawn as if it stood alone."""

    features: tuple[int, ...]
    use_bias: bool

    @nn.compact
    def __call__(self, inputs: Float[Array, "b t d"]) -> list[Array]:
        """Return what each map makes of the inputs, [b t f]."""
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
        return jnp.concatenate([glorot(one, (shape[0], f)) for one, f in zip(rngs, self.features, strict=True)], axis=1)


class _Heads(nn.Module):
    """The parts of the attention with what each head learns of them, and the map of the heads' outputs."""

    config: Block
    attention: Attention
    bidirectional: bool = True
    stack: str = "encoder"
    """The part of the model that the layer belongs to, as `capture.LayerAttention` names it."""
    layer: int | None = None
    """Number of the layer, from 1."""
    kind: ClassVar[Kind]

    def setup(self) -> None:
        config, chosen = self.config, self.attention
        self.score = HeadScore(chosen.score, config.heads, config.head_features)
        self.mods = Mods(chosen.mods, config.heads, config.head_features, self.bidirectional)
        self.normalizer = Normalizer(chosen.normalizer, config.heads, config.head_features)
        self.output = nn.Dense(config.width, use_bias=config.biases, kernel_init=nn.initializers.glorot_uniform())
        self.project()

    def project(self) -> None:
        """Make the maps of the inputs."""
        raise NotImplementedError

    def options(
        self, query: Array, keys: int, lengths: Array, mods: Sequence[Any], train: bool, weights: bool
    ) -> dict[str, Any]:
        """Say what `attention` is to do with queries [b t n e] and so many keys."""
        rate = self.config.attention_dropout if train else 0.0
        random = train and (rate > 0.0 or draws(self.attention.normalizer))
        rng = self.make_rng("dropout") if random else None
        few = keys <= ROW and query.shape[0] * query.shape[2] * query.shape[1] * keys <= WRITTEN
        return {
            "score": self.score(),
            "mods": (*self.mods()(query), *mods),
            "normalizer": self.normalizer()(query, lengths, rng),
            "dropout_rate": rate,
            "rng": rng if rate else None,
            "returns": ("weights",) if weights or recording(self) else (),
            "implementation": "dense" if few else None,
        }

    def merged(self, found: Array | AttentionOutput) -> tuple[Array, Array | None]:
        """Map the heads' outputs to the width of the states; keep the weights, if there are, for who asks."""
        output, weights = (found.output, found.weights) if isinstance(found, AttentionOutput) else (found, None)
        if weights is not None:
            record(self, weights, kind=self.kind, stack=self.stack, layer=self.layer)
        return self.output(output.reshape(*output.shape[:2], -1)), weights

    def heads_of(self, flat: Array, heads: int) -> Float[Array, "b t n e"]:
        """Cut features into heads."""
        return flat.reshape(*flat.shape[:2], heads, -1)


class SelfAttention(_Heads):
    """Every token attends to its own sequence."""

    kind: ClassVar[Kind] = "self"

    def project(self) -> None:
        config = self.config
        widths = (config.heads, config.key_heads, config.key_heads)
        self.qkv = Fused(tuple(heads * config.head_features for heads in widths), config.biases)

    def __call__(
        self,
        states: Float[Array, "b t d"],
        lengths: Int[Array, " b"],
        where: masks.Mask,
        mods: Sequence[Any] = (),
        *,
        train: bool,
    ) -> Float[Array, "b t d"]:
        """Attend from all tokens at once.

        Args:
            lengths: tokens of each row, for normalizers that ask.
            where: who may attend to whom; the config's mask restricts it further.
            mods: of positions that layers share, after the attention's own.
        """
        query, key, value = self._projected(states, None)
        own = self.attention.mask
        where = where if own is None else where & mask(own, key.shape[1], self.config.max_length)
        options = self.options(query, key.shape[1], lengths, mods, train, False)
        return self.merged(attention(query, key, value, mask=where, **options))[0]

    def step(
        self, states: Float[Array, "b t d"], past: cache.Cache, mods: Sequence[Any] = ()
    ) -> tuple[Float[Array, "b t d"], cache.Cache]:
        """Attend from the next tokens to all up to each; return the longer cache too."""
        query, key, value = self._projected(states, cache.positions(past, states.shape[1]))
        own = self.attention.mask
        capacity = past.key.shape[1]
        lengths = jnp.broadcast_to(past.length + states.shape[1], states.shape[:1])
        options = self.options(query, capacity, lengths, mods, False, False)
        where = None if own is None else mask(own, capacity, capacity)
        found, longer = cache.attend(past, query, key, value, mask=where, **options)
        return self.merged(found)[0], longer

    def empty(self, rows: int, dtype: Any) -> cache.Cache:
        """Make a cache for so many rows that holds nothing yet."""
        config = self.config
        shape = jax.ShapeDtypeStruct((rows, 1, config.key_heads, config.head_features), dtype)
        return cache.init(shape, shape, config.max_length)

    def _projected(self, states: Array, positions: Array | None) -> tuple[Array, Array, Array]:
        config = self.config
        query, key, value = self.qkv(states)
        query = self.heads_of(query, config.heads)
        key, value = self.heads_of(key, config.key_heads), self.heads_of(value, config.key_heads)
        if isinstance(config.positions, Rotary):
            turn = {"base": config.positions.base, "interleaved": config.positions.interleaved}
            query, key = rotary(query, positions, **turn), rotary(key, positions, **turn)
        return query, key, value


class CrossAttention(_Heads):
    """Every token attends to a memory: another sequence's states, or the features of an image."""

    kind: ClassVar[Kind] = "cross"

    def project(self) -> None:
        config = self.config
        kernel_init = nn.initializers.glorot_uniform()
        self.query = nn.Dense(config.heads * config.head_features, use_bias=config.biases, kernel_init=kernel_init)
        self.key_value = Fused((config.key_heads * config.head_features,) * 2, config.biases)

    def remember(self, memory: Float[Array, "b s c"]) -> tuple[Float[Array, "b s k e"], Float[Array, "b s k e"]]:
        """Project the memory to keys and values, once for all the tokens that will ask."""
        key, value = self.key_value(memory)
        return self.heads_of(key, self.config.key_heads), self.heads_of(value, self.config.key_heads)

    def __call__(
        self,
        states: Float[Array, "b t d"],
        key: Float[Array, "b s k e"],
        value: Float[Array, "b s k e"],
        lengths: Int[Array, " b"],
        *,
        train: bool,
        weights: bool = False,
    ) -> tuple[Float[Array, "b t d"], Float[Array, "b n t s"] | None]:
        """Attend to the first `lengths` keys of each row; return the weights too where they are asked for."""
        query = self.heads_of(self.query(states), self.config.heads)
        options = self.options(query, key.shape[1], lengths, (), train, weights)
        return self.merged(attention(query, key, value, mask=masks.lengths(lengths), **options))

"""Attention over an encoded source, asked again and again by a decoder."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention
from attnlab.functional import masks
from attnlab.functional.attention import attention_weights, pool
from attnlab.layers import scores
from attnlab.layers.mods import Bound as BoundMods
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Bound as BoundNormalizer
from attnlab.layers.normalizers import Normalizer


@struct.dataclass
class Memory:
    """An encoded source, ready to be attended: everything a decoder step needs of it."""

    keys: Float[Array, "b s e"]
    values: Float[Array, "b s c"]
    lengths: Int[Array, " b"]
    summary: Float[Array, "b c"]
    """The encoder's final states; the whole context where there is no attention."""
    score: Any
    """The bound score of (query, prepared key), or None without attention."""

    def repeat(self, times: int) -> "Memory":
        """Every source `times` times in a row, as beam search asks for."""
        keys, values, lengths, summary = (
            jnp.repeat(a, times, axis=0) for a in (self.keys, self.values, self.lengths, self.summary)
        )
        return Memory(keys, values, lengths, summary, self.score)


class Attend(nn.Module):
    """Score, normalize, pool, with what the parts learn; `config` None is the control that sees the summary alone."""

    config: Attention | None
    query_width: int

    def setup(self) -> None:
        if self.config is not None:
            self.score = scores.MODULES[self.config.score.kind](self.config.score, self.query_width)
            self.mods = Mods(self.config.mods, 1, self.query_width)
            self.normalizer = Normalizer(self.config.normalizer, 1, self.query_width)

    def remember(self, values: Array, lengths: Array, summary: Array) -> Memory:
        """Prepare the source for all the questions to come."""
        if self.config is None:
            return Memory(values[..., :0], values[..., :0], lengths, summary, None)
        keys, score = self.score(values)
        return Memory(keys, values, lengths, summary, score)

    def function(self) -> Callable[[Memory, Float[Array, "b d"]], tuple[Float[Array, "b c"], Float[Array, "b s"]]]:
        """Return the pure function (memory, query) -> (context, weights)."""
        if self.config is None:
            return _summary
        mods, normalizer = self.mods(), self.normalizer()
        return lambda memory, query: _attend(memory, query, mods, normalizer)


def _attend(memory: Memory, query: Array, mods: BoundMods, normalizer: BoundNormalizer) -> tuple[Array, Array]:
    query, keys, values = query[:, None, None, :], memory.keys[:, :, None, :], memory.values[:, :, None, :]
    weights = attention_weights(
        query,
        keys,
        score=memory.score,
        mods=mods(query),
        mask=masks.lengths(memory.lengths),
        normalizer=normalizer(query, memory.lengths, None),
    )
    return pool(weights, values)[:, 0, 0, :], weights[:, 0, 0, :]


def _summary(memory: Memory, query: Array) -> tuple[Array, Array]:
    return memory.summary, jnp.zeros((query.shape[0], memory.values.shape[1]), query.dtype)

"""The attention of a recurrent decoder, which queries the same encoded source at every step."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.functional import masks
from attnlab.functional.attention import attention_weights, pool
from attnlab.layers.attention import Attention, BoundAttention
from attnlab.layers.scores import project_keys


@struct.dataclass
class Memory:
    """An encoded source: all that a decoder needs of it at every step."""

    keys: Float[Array, "b s e"] | Any
    """As projected for the score."""
    values: Float[Array, "b s c"] | Any
    lengths: Int[Array, " b"] | Any
    summary: Float[Array, "b m"] | Any
    """The encoder's final states; without attention the whole context."""
    score: Any
    """The rest of the score, of (query, projected key); None without attention."""

    def repeat(self, times: int) -> "Memory":
        """Return the memory with every source `times` times in a row, for beam search."""
        keys, values, lengths, summary = (
            jnp.repeat(a, times, axis=0) for a in (self.keys, self.values, self.lengths, self.summary)
        )
        return Memory(keys, values, lengths, summary, self.score)


AttentionFunction = Callable[[Memory, Float[Array, "b d"]], tuple[Float[Array, "b c"], Float[Array, "b s"]]]
"""(memory, query) -> (context, weights), a pure function."""


class DecoderAttention(nn.Module):
    """Attention of one query at a time to an encoded source; without a config, the context is the source's summary."""

    config: Config | None
    query_width: int
    key_width: int

    def setup(self) -> None:
        if self.config is not None:
            self.attend = Attention(self.config, 1, self.query_width, self.key_width, kind="decoder")

    def project_memory(
        self, values: Float[Array, "b s c"], lengths: Int[Array, " b"], summary: Float[Array, "b m"]
    ) -> Memory:
        """Project the source to keys, once for all steps."""
        if self.config is None:
            return Memory(values[..., :0], values[..., :0], lengths, summary, None)
        keys, score = project_keys(self.attend.bind().score, values)
        return Memory(keys, values, lengths, summary, score)

    def function(self) -> AttentionFunction:
        """Return the pure function (memory, query) -> (context, weights), free to be used in `jax.lax.scan`."""
        if self.config is None:
            return _summary
        bound = self.attend.bind()
        return lambda memory, query: _attend(bound, memory, query)


def _attend(bound: BoundAttention, memory: Memory, query: Array) -> tuple[Array, Array]:
    query, keys, values = query[:, None, None, :], memory.keys[:, :, None, :], memory.values[:, :, None, :]
    options = bound._replace(score=memory.score).options(query, memory.lengths)
    weights = attention_weights(query, keys, mask=masks.lengths(memory.lengths), **options)
    return pool(weights, values)[:, 0, 0, :], weights[:, 0, 0, :]


def _summary(memory: Memory, query: Array) -> tuple[Array, Array]:
    return memory.summary, jnp.zeros((query.shape[0], memory.values.shape[1]), query.dtype)

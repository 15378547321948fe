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
    """An encoded source, prepared once for all steps of a decoder."""

    keys: Float[Array, "b s e"] | Any
    """Keys, projected by the score; without attention of width 0."""
    values: Float[Array, "b s c"] | Any
    """The encoded source itself; without attention of width 0."""
    lengths: Int[Array, " b"] | Any
    """Tokens of each source that are not padding."""
    summary: Float[Array, "b m"] | Any
    """The encoder's final states; without attention they are the context of every step."""
    score: Any
    """The score as a function of (query, projected key); None without attention."""

    def repeat(self, times: int) -> "Memory":
        """Return the memory with every source repeated `times` times in a row, for beam search."""
        keys, values, lengths, summary = (
            jnp.repeat(a, times, axis=0) for a in (self.keys, self.values, self.lengths, self.summary)
        )
        return Memory(keys, values, lengths, summary, self.score)


AttentionFunction = Callable[[Memory, Float[Array, "b d"]], tuple[Float[Array, "b c"], Float[Array, "b s"]]]
"""Pure function (memory, query) -> (context, weights)."""


class DecoderAttention(nn.Module):
    """Attention of one query at a time to an encoded source; without a config, the context is the source's summary.

        context = Σ_s weights[s] value_s,    weights = normalizer(mods(score(query, key)), where = s < length)

    The keys are projected once by `project_memory`; `function` returns the attention of one step for use in
    `jax.lax.scan`.

    Numerics: as `functional.attention`; a source of length 0 has context 0 and weights 0.
    Reference: Bahdanau et al. 2015, section 3.1; Luong et al. 2015, section 3.1.

    >>> from attnlab.config.attention import Dot
    >>> layer, source = DecoderAttention(Config(score=Dot()), 4, 4), jnp.ones((1, 3, 4))
    >>> memory = layer.apply({}, source, jnp.array([2]), source[:, 0], method="project_memory")
    >>> context, weights = layer.apply({}, method="function")(memory, jnp.ones((1, 4)))
    >>> context.tolist(), weights.tolist()
    ([[1.0, 1.0, 1.0, 1.0]], [[0.5, 0.5, 0.0]])
    """

    config: Config | None
    """Attention's config; None for no attention."""
    query_width: int
    """Features of the queries, the decoder's states."""
    key_width: int
    """Features of the encoded source."""

    def setup(self) -> None:
        if self.config is not None:
            self.attend = Attention(self.config, 1, self.query_width, self.key_width, kind="decoder")

    def project_memory(
        self, values: Float[Array, "b s c"], lengths: Int[Array, " b"], summary: Float[Array, "b m"]
    ) -> Memory:
        """Project the encoded source to keys, once for all steps.

        Args:
            values: the encoded source, padding included.
            lengths: tokens of each source that are not padding.
            summary: the encoder's final states.
        """
        if self.config is None:
            return Memory(values[..., :0], values[..., :0], lengths, summary, None)
        keys, score = project_keys(self.attend.bind().score, values)
        return Memory(keys, values, lengths, summary, score)

    def function(self) -> AttentionFunction:
        """Return the pure function (memory, query) -> (context, weights), safe to use in `jax.lax.scan`."""
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

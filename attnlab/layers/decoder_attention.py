"""The attention of a recurrent decoder, which queries the same encoded source at every step."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax import struct
from jaxtyping import Array, Bool, Float, Int

from attnlab.config.attention import Attention as Config
from attnlab.functional import masks
from attnlab.functional.attention import attention_weights, pool
from attnlab.layers.attention import Attention, BoundAttention
from attnlab.layers.capture import Queries, intervened, is_replaced, record
from attnlab.layers.layer_attention import PoolingInputs, layer_attention, layer_name
from attnlab.layers.normalizers import draws
from attnlab.layers.part_inputs import PartInputs
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


AttentionFunction = Callable[..., tuple[Float[Array, "b c"], Float[Array, "b s"]]]
"""Pure function (memory, query, number of the query, choose) -> (context, weights).

The number, counted from 0, is the position of the query, for parts and interventions. `choose` maps the weights [b s]
to those that average the values, as hard attention does; None averages by the weights. An intervention replaces
both."""


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

    def function(self, queries: int = 1, *, train: bool = False) -> AttentionFunction:
        """Return the attention of one query, see `AttentionFunction`, safe to use in `jax.lax.scan`.

        Args:
            queries: how often the function is called in this application of the model.
            train: whether a random normalizer samples (needs the rng "dropout").
        """
        if self.config is None:
            return _summary
        rng = self.make_rng("dropout") if train and draws(self.config.normalizer) else None
        return partial(_attend, self.attend.bind(), queries, rng)

    @property
    def is_replaced(self) -> bool:
        """Whether an intervention replaces the weights in this application of the model."""
        return is_replaced(layer_name("decoder", "decoder"))

    def record(
        self, memory: Memory, weights: Float[Array, "b t s"], dropped: Float[Array, "b t s"] | None = None
    ) -> None:
        """Record the weights of all steps.

        Args:
            memory: the memory that was attended to.
            weights: the weights that `function` returned.
            dropped: the weights by which the values were averaged, if they differ.
        """
        if self.config is None:
            return
        dropped = weights if dropped is None else dropped
        pooled = PoolingInputs(_where(memory), dropped[:, None], memory.values[:, :, None, :])
        record(self, weights[:, None], kind="decoder", stack="decoder", pooled=pooled)


def _attend(
    bound: BoundAttention,
    total: int,
    rng: Array | None,
    memory: Memory,
    query: Array,
    number: Array | int = 0,
    choose: Callable[[Array], Array] | None = None,
) -> tuple[Array, Array]:
    query, keys, values = query[:, None, None, :], memory.keys[:, :, None, :], memory.values[:, :, None, :]
    inputs = PartInputs(query, memory.lengths, layer_name("decoder", "decoder"), rng, start=jnp.asarray(number))
    options = bound._replace(score=memory.score).options(inputs)
    weights = attention_weights(query, keys, mask=masks.lengths(memory.lengths), **options)
    pooling = weights if choose is None else choose(weights[:, 0, 0])[:, None, None]
    layer = layer_attention("decoder", "decoder", None, pooling, pooled=PoolingInputs(_where(memory), pooling, values))
    replaced = intervened(layer, Queries(number, total))
    if replaced is not None:
        return replaced.output[:, 0, 0, :], replaced.weights[:, 0, 0, :]
    return pool(pooling, values)[:, 0, 0, :], weights[:, 0, 0, :]


def _where(memory: Memory) -> Bool[Array, "b 1 1 s"]:
    return (jnp.arange(memory.values.shape[1])[None, :] < memory.lengths[:, None])[:, None, None, :]


def _summary(
    memory: Memory, query: Array, number: Array | int = 0, choose: Callable[[Array], Array] | None = None
) -> tuple[Array, Array]:
    return memory.summary, jnp.zeros((query.shape[0], memory.values.shape[1]), query.dtype)

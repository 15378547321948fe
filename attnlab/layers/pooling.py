"""Pooling of the states of a text to one vector: mean, maximum, first or last state, attention by learned queries, or
attention weights of another model.

Every kind of pooling returns the weight of each token, so that they can be compared.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.attention import Attention as AttentionConfig
from attnlab.config.attention import Dot
from attnlab.config.models import classifier as config
from attnlab.functional import normalizers
from attnlab.functional.attention import AttentionOutput, pool
from attnlab.layers.attention import Attention, intervene_and_record
from attnlab.layers.capture import Queries, intervened, record
from attnlab.layers.layer_attention import layer_attention

Attentive = config.Attentive | config.Structured


class Pooled(NamedTuple):
    """The pooled states of a batch of texts."""

    vector: Float[Array, "b c"]
    weights: Float[Array, "b r s"]
    """One row per hop; for `max`, the share of features whose maximum is at the token; for `last`, all on the last."""
    penalty: Float[Array, " b"]
    """Penalty of the config, added to the loss of each text."""


class Pooling(nn.Module):
    """Pooling of the kind that the config names."""

    config: config.Pooling | config.Frozen

    @nn.compact
    def __call__(
        self,
        states: Float[Array, "b s d"],
        lengths: Int[Array, " b"],
        last: Float[Array, "b d"],
        *,
        train: bool,
        frozen: Float[Array, "b s"] | None = None,
    ) -> Pooled:
        """Pool the first `lengths` states of each text.

        A text of length 0 has weights 0, and is pooled to zeros except by `first` and `last`, which return a state
        unchanged.

        Args:
            states: states of all tokens, padding included.
            lengths: tokens of each text that are not padding.
            last: the vector of `last`: for a recurrent encoder the last state of each direction.
            train: whether a random normalizer samples (needs the rng "dropout").
            frozen: the weights of the kind `frozen`; those of padding are ignored.
        """
        pooled = self._pool(states, lengths, last, train, frozen)
        if not isinstance(self.config, Attentive | config.Mean | config.Frozen):
            layer = layer_attention("pooling", "encoder", None, pooled.weights[:, None])
            intervened(layer, Queries(0, 1))  # which this kind of pooling refuses
            record(self, layer.weights, kind="pooling", stack="encoder", replaceable=False)
        return pooled

    def _pool(self, states: Array, lengths: Array, last: Array, train: bool, frozen: Array | None) -> Pooled:
        where = jnp.arange(states.shape[1])[None, :] < lengths[:, None]
        no_penalty = jnp.zeros(states.shape[0], states.dtype)
        match self.config:
            case config.Mean():
                uniform = normalizers.softmax(jnp.zeros(where.shape, states.dtype), where)
                return Pooled(*self._average(states, where, uniform), no_penalty)
            case config.Frozen():
                if frozen is None:
                    raise ValueError("pooling of the kind frozen needs the argument frozen, its weights")
                return Pooled(*self._average(states, where, jnp.where(where, frozen, 0.0)), no_penalty)
            case config.Max():
                vector, weights = largest(states, where)
                return Pooled(vector, weights[:, None, :], no_penalty)
            case config.First():
                return Pooled(states[:, 0], _one_hot(jnp.zeros_like(lengths), where), no_penalty)
            case config.Last():
                return Pooled(last, _one_hot(lengths - 1, where), no_penalty)
            case config.Attentive(penalty=rate) | config.Structured(penalty=rate):
                attended = self._attend(self.config, states, lengths, train)
                vector = attended.output.reshape(states.shape[0], -1)
                return Pooled(vector, attended.weights, rate * redundancy(attended.weights))

    def _average(self, states: Array, where: Array, weights: Array) -> tuple[Array, Array]:
        """Average the states by weights [b s] that are not learned; return the mean, and the weights [b 1 s]."""
        weights, values = weights[:, None, None, :], states[:, :, None, :]
        scores = jnp.where(where, 0.0, -jnp.inf)[:, None, None, :]
        own = AttentionOutput(pool(weights, values), weights=weights, scores=scores)
        result: Any = intervene_and_record(self, own, values, kind="pooling", stack="encoder")
        return result.output[:, 0, 0], result.weights[:, 0]

    def _attend(self, chosen: Attentive, states: Array, lengths: Array, train: bool) -> Any:
        """Attend from every learned query to the tokens."""
        if isinstance(chosen, config.Structured):
            keys = jnp.tanh(nn.Dense(chosen.hidden, use_bias=False, name="w_1")(states))
            attention = AttentionConfig(score=Dot(), normalizer=chosen.normalizer)
        else:
            keys, attention = states, chosen.attention
        width = keys.shape[-1]
        queries = self.param("queries", nn.initializers.normal(width**-0.5), (chosen.hops, width))
        query = jnp.broadcast_to(queries, (len(states), *queries.shape))
        attend = Attention(attention, 1, width, width, kind="pooling", stack="encoder", name="attend")
        return attend(query, keys, states, lengths, returns=("weights",), implementation="dense", train=train)


def redundancy(weights: Float[Array, "b r s"]) -> Float[Array, " b"]:
    """Compute the penalty on hops of a text that are similar to each other or spread over many tokens.

    P = ‖A Aᵀ − I‖²_F, which is 0 if every hop has all its weight on a single token, different from those of other hops

    Reference: Lin et al. 2017, eq. 8.

    >>> redundancy(jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).tolist()
    [0.0, 2.0]
    """
    gram = jnp.einsum("brs,bqs->brq", weights, weights)
    return jnp.sum((gram - jnp.eye(weights.shape[1], dtype=gram.dtype)[None]) ** 2, axis=(1, 2))


def largest(states: Float[Array, "b s d"], where: Any) -> tuple[Float[Array, "b d"], Float[Array, "b s"]]:
    """Return the maximum of each feature over the unmasked tokens, and the share of features with maximum per token.

    >>> vector, share = largest(jnp.array([[[1.0, 5.0], [2.0, 3.0]]]), jnp.array([[True, True]]))
    >>> vector.tolist(), share.tolist()
    ([[2.0, 5.0]], [[0.5, 0.5]])
    """
    low = jnp.finfo(states.dtype).min
    masked = jnp.where(where[..., None], states, low)
    nonempty = jnp.any(where, axis=1, keepdims=True)
    vector = jnp.where(nonempty, jnp.max(masked, axis=1), 0.0)
    winners = jax.nn.one_hot(jnp.argmax(masked, axis=1), states.shape[1], dtype=states.dtype)
    return vector, jnp.where(nonempty, jnp.mean(winners, axis=1), 0.0)


def _one_hot(position: Int[Array, " b"], where: Any) -> Float[Array, "b 1 s"]:
    """Return weights with all weight on one token, or 0 everywhere if that token is masked."""
    chosen = (jnp.arange(where.shape[1])[None, :] == position[:, None]) & where
    return chosen.astype(jnp.float32)[:, None, :]

"""From the states of a text to one vector: means, maxima, chosen states, or attention by learned queries.

Every way says what weight it gave each token, so that they can be looked at side by side.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Int

from attnlab.config.models import classifier as config
from attnlab.functional import masks, normalizers, scores
from attnlab.functional.attention import attention_weights, pool
from attnlab.layers.capture import record
from attnlab.layers.mods import Mods
from attnlab.layers.normalizers import Normalizer, draws
from attnlab.layers.scores import MODULES

Asking = config.Attentive | config.Structured


class Pooled(NamedTuple):
    """What is made of the states of a batch of texts."""

    vector: Float[Array, "b c"]
    weights: Float[Array, "b r s"]
    """One row a hop; of `max`, the share of features that each token gave; of `last`, all on the last token."""
    penalty: Float[Array, " b"]
    """What the config adds to the loss of each text."""


class Pooling(nn.Module):
    """Pool as the config says."""

    config: config.Pooling

    @nn.compact
    def __call__(
        self, states: Float[Array, "b s d"], lengths: Int[Array, " b"], last: Float[Array, "b d"], *, train: bool
    ) -> Pooled:
        """Pool the first `lengths` states of each text; a text without any is pooled to zeros.

        Args:
            states: of every token.
            lengths: tokens of each text.
            last: what `last` pools to: for a recurrent encoder the last state of each direction.
            train: let a random normalizer draw (needs the rng "dropout").
        """
        pooled = self._pooled(states, lengths, last, train)
        record(self, pooled.weights[:, None], kind="pooling", stack="encoder")
        return pooled

    def _pooled(self, states: Array, lengths: Array, last: Array, train: bool) -> Pooled:
        where = jnp.arange(states.shape[1])[None, :] < lengths[:, None]
        nothing = jnp.zeros(states.shape[0], states.dtype)
        match self.config:
            case config.Mean():
                weights = normalizers.softmax(jnp.zeros(where.shape, states.dtype), where)[:, None, :]
                return Pooled(_pooled(weights[:, None], states), weights, nothing)
            case config.Max():
                vector, weights = largest(states, where)
                return Pooled(vector, weights[:, None, :], nothing)
            case config.First():
                return Pooled(states[:, 0], _on(jnp.zeros_like(lengths), where), nothing)
            case config.Last():
                return Pooled(last, _on(lengths - 1, where), nothing)
            case config.Attentive(penalty=rate) | config.Structured(penalty=rate):
                weights = self._asked(self.config, states, lengths, train)
                return Pooled(_pooled(weights, states), weights[:, 0], rate * redundancy(weights[:, 0]))

    def _asked(self, asking: Asking, states: Array, lengths: Array, train: bool) -> Float[Array, "b 1 r s"]:
        """Weigh the tokens for every learned query."""
        if isinstance(asking, config.Structured):
            keys = jnp.tanh(nn.Dense(asking.hidden, use_bias=False, name="w_1")(states))
            score, mods, chosen, wide = scores.dot, (), asking.normalizer, asking.hidden
        else:
            attention, wide = asking.attention, states.shape[2]
            module = MODULES[attention.score.kind](attention.score, wide, name="score")
            (keys, score), mods, chosen = module(states), attention.mods, attention.normalizer
        queries = self.param("queries", nn.initializers.normal(wide**-0.5), (asking.hops, wide))
        query = jnp.broadcast_to(queries[None, :, None, :], (states.shape[0], asking.hops, 1, wide))
        rng = self.make_rng("dropout") if train and draws(chosen) else None
        return attention_weights(
            query,
            keys[:, :, None, :],
            score=score,
            mods=Mods(mods, 1, wide, name="mods")()(query),
            mask=masks.lengths(lengths),
            normalizer=Normalizer(chosen, 1, wide, name="normalizer")()(query, lengths, rng),
        )


def redundancy(weights: Float[Array, "b r s"]) -> Float[Array, " b"]:
    """Tell how alike the hops of each text are, and how spread out each is.

    P = ‖A Aᵀ − I‖²_F, which is 0 where every hop has all its weight on a token of its own

    Reference: Lin et al. 2017, eq. 8.

    >>> redundancy(jnp.array([[[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]])).tolist()
    [0.0, 2.0]
    """
    gram = jnp.einsum("brs,bqs->brq", weights, weights)
    return jnp.sum((gram - jnp.eye(weights.shape[1], dtype=gram.dtype)[None]) ** 2, axis=(1, 2))


def largest(states: Float[Array, "b s d"], where: Any) -> tuple[Float[Array, "b d"], Float[Array, "b s"]]:
    """Take each feature's largest value among the tokens that count, and tell what share of them each token gave.

    >>> vector, share = largest(jnp.array([[[1.0, 5.0], [2.0, 3.0]]]), jnp.array([[True, True]]))
    >>> vector.tolist(), share.tolist()
    ([[2.0, 5.0]], [[0.5, 0.5]])
    """
    low = jnp.finfo(states.dtype).min
    counted = jnp.where(where[..., None], states, low)
    some = jnp.any(where, axis=1, keepdims=True)
    vector = jnp.where(some, jnp.max(counted, axis=1), 0.0)
    winners = jax.nn.one_hot(jnp.argmax(counted, axis=1), states.shape[1], dtype=states.dtype)
    return vector, jnp.where(some, jnp.mean(winners, axis=1), 0.0)


def _pooled(weights: Float[Array, "b 1 r s"], states: Float[Array, "b s d"]) -> Float[Array, "b c"]:
    pooled = pool(weights, states[:, :, None, :])
    return pooled.reshape(states.shape[0], -1)


def _on(place: Int[Array, " b"], where: Any) -> Float[Array, "b 1 s"]:
    """All weight on one token, none where there is none."""
    chosen = (jnp.arange(where.shape[1])[None, :] == place[:, None]) & where
    return chosen.astype(jnp.float32)[:, None, :]

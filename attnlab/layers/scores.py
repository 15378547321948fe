"""The module that owns the learned arrays of a score, with a slice for each head."""

import math
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial
from jaxtyping import Array, Float

from attnlab.config import attention as config
from attnlab.functional import scores
from attnlab.functional.parts import map_over
from attnlab.layers.custom import bound

ScoreFunction = Callable[[Float[Array, "q d"], Float[Array, "k e"]], Float[Array, "q k"]]
LECUN = nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal", batch_axis=0)
LECUN_TRANSPOSED = nn.initializers.variance_scaling(
    1.0, "fan_in", "truncated_normal", in_axis=-1, out_axis=-2, batch_axis=0
)
GLOROT = nn.initializers.glorot_uniform(batch_axis=0)


class Score(nn.Module):
    """A score with its learned arrays: the function of `functional.scores` named by a config."""

    config: config.Score
    heads: int
    query_width: int
    """Features of a head's queries."""
    key_width: int
    """Features of a head's keys."""

    @nn.compact
    def __call__(self) -> ScoreFunction:
        """Return the score as a pure function with its arrays bound."""
        match self.config:
            case config.Dot():
                return Partial(scores.dot)
            case config.ScaledDot():
                return Partial(scores.scaled_dot)
            case config.General():
                return Partial(scores.general, w=self._array("w", LECUN_TRANSPOSED, self.query_width, self.key_width))
            case config.Additive(hidden=hidden):
                w_query = self._array("w_query", GLOROT, self.query_width, hidden)
                w_key = self._array("w_key", LECUN, self.key_width, hidden)
                return Partial(scores.additive, w_query=w_query, w_key=w_key, v=self._vector("v", hidden))
            case config.Multiplicative(hidden=hidden, scale=scale):
                w_query = self._array("w_query", LECUN, self.query_width, hidden)
                w_key = self._array("w_key", LECUN, self.key_width, hidden)
                return Partial(scores.multiplicative, w_query=w_query, w_key=w_key, scale=scale)
            case config.Concat(hidden=hidden):
                w = self._array("w", GLOROT, self.query_width + self.key_width, hidden)
                return Partial(scores.concat, w=w, v=self._vector("v", hidden))
            case config.Cosine(scale=scale, learned=learned):
                return Partial(scores.cosine, scale=self._scale(scale, learned))
            case config.NegativeSquaredDistance(scale=scale, learned=learned):
                start = scale or 0.5 * self.query_width**-0.5
                return Partial(scores.negative_squared_distance, scale=self._scale(start, learned))
            case config.Trilinear():
                names = ("w_query", "w_key", "w_product")
                return Partial(scores.trilinear, **{name: self._vector(name, self.query_width) for name in names})
            case config.Constant():
                return Partial(scores.constant)
            case config.CustomScore():
                heads = None if self.heads == 1 else self.heads
                return bound(self, self.config, self.query_width, self.key_width, heads=heads)

    def _array(self, name: str, init: Callable[..., Array], *shape: int) -> Any:
        return of_heads(self.param(name, init, (self.heads, *shape)))

    def _vector(self, name: str, width: int) -> Any:
        """Return a vector for each head; with one head it is stored as a vector, which has no weight decay."""
        init = nn.initializers.normal(width**-0.5)
        return self.param(name, init, (width,)) if self.heads == 1 else self._array(name, init, width)

    def _scale(self, start: float, learned: bool) -> Any:
        """Return a number, or the exponential of a learned number, which stays positive."""
        if not learned:
            return start
        return of_heads(jnp.exp(self.param("log_scale", nn.initializers.constant(math.log(start)), (self.heads,))))


def of_heads(array: Float[Array, "h ..."]) -> Any:
    """Mark the first axis of an array as the heads; with one head, return its slice."""
    return array[0] if array.shape[0] == 1 else map_over(array, "h")


def project_keys(score: Any, keys: Float[Array, "b k e"]) -> tuple[Float[Array, "b k a"], Any]:
    """Project keys once, and return them with the rest of the score.

    score(query, key) = rest(query, projected key)

    A decoder that queries the same keys at every step then computes only the rest. Keys and score are returned
    unchanged if the score has no projection of keys.

    Args:
        score: as returned by `Score` for one head.
        keys: keys of every example.
    Returns: the projected keys, and the rest of the score.

    >>> keys, rest = project_keys(Partial(scores.general, w=jnp.ones((2, 3))), jnp.ones((1, 4, 3)))
    >>> keys.shape, rest.func.__name__
    ((1, 4, 2), 'dot')
    """
    learned = getattr(score, "keywords", {})
    match getattr(score, "func", None):
        case scores.general:
            return keys @ learned["w"].T, Partial(scores.dot)
        case scores.additive:
            return keys @ learned["w_key"], Partial(scores.additive, **{**learned, "w_key": None})
        case scores.multiplicative:
            return keys @ learned["w_key"], Partial(scores.multiplicative, **{**learned, "w_key": None})
        case scores.concat:
            w = learned["w"]
            width = w.shape[0] - keys.shape[-1]
            rest = Partial(scores.additive, w_query=w[:width], w_key=None, v=learned["v"])
            return keys @ w[width:], rest
    return keys, score

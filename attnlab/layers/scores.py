"""Modules that own a score's weights. Each names the function of `functional.scores` it is made of.

A recurrent decoder asks the same keys at every step, so a module for one head does once what concerns the keys alone:
called with them it gives prepared keys, and the rest as a pure score of (query, prepared key). `HeadScore` is for many
heads that ask once.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn
from jax.tree_util import Partial
from jaxtyping import Array, Float

from attnlab.config import attention as config
from attnlab.functional import scores
from attnlab.functional.parts import map_over
from attnlab.layers.custom import bound

Score = Callable[[Float[Array, "q d"], Float[Array, "k e"]], Float[Array, "q k"]]
TRILINEAR = ("w_query", "w_key", "w_product")
"""What `scores.trilinear` learns."""


class Dot(nn.Module):
    """`scores.dot`; no weights."""

    config: config.Dot
    query_width: int

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        """Return the keys as the score takes them, and the score."""
        return keys, Partial(scores.dot)


class ScaledDot(Dot):
    """`scores.scaled_dot`; no weights."""

    config: config.ScaledDot

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return keys, Partial(scores.scaled_dot)


class General(nn.Module):
    """`scores.general`, as the dot product with keys that W has been applied to: queryᵀ (W key)."""

    config: config.General
    query_width: int

    def setup(self) -> None:
        self.w = nn.Dense(self.query_width, use_bias=False)

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return self.w(keys), Partial(scores.dot)


class Additive(nn.Module):
    """`scores.additive`, with W_k applied to the keys once."""

    config: config.Additive
    query_width: int

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        self.w_key = nn.Dense(self.config.hidden, use_bias=False)
        self.w_query = self.param("w_query", glorot, (self.query_width, self.config.hidden))
        self.v = self.param("v", nn.initializers.normal(self.config.hidden**-0.5), (self.config.hidden,))

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return self.w_key(keys), Partial(scores.additive, w_query=self.w_query, w_key=None, v=self.v)


class Concat(Additive):
    """`scores.concat`: its W is kept in two pieces, that of the keys applied once."""

    config: config.Concat


class Cosine(Dot):
    """`scores.cosine`."""

    config: config.Cosine

    def setup(self) -> None:
        self.scale = _scale(self, self.config.scale, self.config.learned, ())

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return keys, Partial(scores.cosine, scale=self.scale)


class NegativeSquaredDistance(Dot):
    """`scores.negative_squared_distance`."""

    config: config.NegativeSquaredDistance

    def setup(self) -> None:
        start = self.config.scale or 0.5 * self.query_width**-0.5
        self.scale = _scale(self, start, self.config.learned, ())

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return keys, Partial(scores.negative_squared_distance, scale=self.scale)


class Trilinear(Dot):
    """`scores.trilinear`; its three vectors start small enough that the logits do."""

    config: config.Trilinear

    def setup(self) -> None:
        small = nn.initializers.normal(self.query_width**-0.5)
        self.w = {name: self.param(name, small, (self.query_width,)) for name in TRILINEAR}

    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return keys, Partial(scores.trilinear, **self.w)


class Custom(nn.Module):
    """A custom function, with what its signature says that it learns."""

    config: config.CustomScore
    query_width: int

    @nn.compact
    def __call__(self, keys: Float[Array, "b s e"]) -> tuple[Array, Score]:
        return keys, bound(self, self.config, self.query_width, keys.shape[-1])


MODULES = {
    "dot": Dot,
    "scaled_dot": ScaledDot,
    "general": General,
    "additive": Additive,
    "concat": Concat,
    "cosine": Cosine,
    "negative_squared_distance": NegativeSquaredDistance,
    "trilinear": Trilinear,
    "custom": Custom,
}
"""For one head that asks again and again."""


class HeadScore(nn.Module):
    """A score of many heads with what it learns, a slice of it for each head."""

    config: config.Score
    heads: int
    width: int
    """Features of a head's queries and keys."""

    @nn.compact
    def __call__(self) -> Score:
        """Return the score with its weights bound."""
        match self.config:
            case config.Dot():
                return Partial(scores.dot)
            case config.ScaledDot():
                return Partial(scores.scaled_dot)
            case config.General():
                return Partial(scores.general, w=self._matrix("w", self.width))
            case config.Additive(hidden=hidden):
                sides = {name: self._matrix(name, self.width, hidden) for name in ("w_query", "w_key")}
                return Partial(scores.additive, **sides, v=self._read_out(hidden))
            case config.Concat(hidden=hidden):
                return Partial(scores.concat, w=self._matrix("w", 2 * self.width, hidden), v=self._read_out(hidden))
            case config.Cosine(scale=scale, learned=learned):
                return Partial(scores.cosine, scale=self._scale(scale, learned))
            case config.NegativeSquaredDistance(scale=scale, learned=learned):
                start = scale or 0.5 * self.width**-0.5
                return Partial(scores.negative_squared_distance, scale=self._scale(start, learned))
            case config.Trilinear():
                small = nn.initializers.normal(self.width**-0.5)
                w = {name: map_over(self.param(name, small, (self.heads, self.width)), "h") for name in TRILINEAR}
                return Partial(scores.trilinear, **w)
            case config.CustomScore():
                return bound(self, self.config, self.width, self.width, heads=self.heads)

    def _matrix(self, name: str, rows: int, columns: int | None = None):
        shape = self.heads, rows, rows if columns is None else columns
        return map_over(self.param(name, nn.initializers.glorot_uniform(batch_axis=0), shape), "h")

    def _read_out(self, hidden: int):
        return map_over(self.param("v", nn.initializers.normal(hidden**-0.5), (self.heads, hidden)), "h")

    def _scale(self, start: float, learned: bool):
        scale = _scale(self, start, learned, (self.heads,))
        return map_over(scale, "h") if isinstance(scale, Array) else scale


def _scale(module: nn.Module, start: float, learned: bool, shape: tuple[int, ...]) -> float | Array:
    """A number, or the exponential of a learned one, which stays positive."""
    if not learned:
        return start
    return jnp.exp(module.param("log_scale", nn.initializers.constant(math.log(start)), shape))

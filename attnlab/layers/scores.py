"""Modules that own a score's weights. Each names the function of `functional.scores` it is made of.

A decoder asks the same keys at every step, so a module splits its score in two: `prepare` does once what
concerns the keys alone, `bind` gives the rest as a pure score of (query, prepared key).
"""

from collections.abc import Callable

import jax
from flax import linen as nn
from jaxtyping import Array, Float

from attnlab.config import attention as config
from attnlab.functional import scores

Score = Callable[[Float[Array, "q d"], Float[Array, "k e"]], Float[Array, "q k"]]


class Dot(nn.Module):
    """`scores.dot`; no weights."""

    config: config.Dot
    query_width: int

    def prepare(self, keys: Float[Array, "b s e"]) -> Float[Array, "b s e"]:
        return keys

    def bind(self) -> Score:
        return jax.tree_util.Partial(scores.dot)


class ScaledDot(Dot):
    """`scores.scaled_dot`; no weights."""

    config: config.ScaledDot

    def bind(self) -> Score:
        return jax.tree_util.Partial(scores.scaled_dot)


class General(nn.Module):
    """`scores.general`, as the dot product with keys that W has been applied to: queryᵀ (W key)."""

    config: config.General
    query_width: int

    def setup(self) -> None:
        self.w = nn.Dense(self.query_width, use_bias=False)

    def prepare(self, keys: Float[Array, "b s e"]) -> Float[Array, "b s d"]:
        return self.w(keys)

    def bind(self) -> Score:
        return jax.tree_util.Partial(scores.dot)


class Additive(nn.Module):
    """`scores.additive`, with W_k applied to the keys once."""

    config: config.Additive
    query_width: int

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        self.w_key = nn.Dense(self.config.hidden, use_bias=False)
        self.w_query = self.param("w_query", glorot, (self.query_width, self.config.hidden))
        self.v = self.param("v", nn.initializers.normal(self.config.hidden**-0.5), (self.config.hidden,))

    def prepare(self, keys: Float[Array, "b s e"]) -> Float[Array, "b s a"]:
        return self.w_key(keys)

    def bind(self) -> Score:
        return jax.tree_util.Partial(scores.additive, w_query=self.w_query, w_key=None, v=self.v)


MODULES = {"dot": Dot, "scaled_dot": ScaledDot, "general": General, "additive": Additive}

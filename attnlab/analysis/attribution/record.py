"""The record that the methods on a function return, and the types of such functions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float

Scores = Callable[[Float[Array, "n d"]], Float[Array, ""]]
"""The explained number as a function of the embedded tokens of one example: a logit or log-probability of a class, an
answer span or a token, or a contrast (a difference of two of them). It must be deterministic: no dropout."""
ScoresWithout = Callable[[Bool[Array, " n"]], Float[Array, ""]]
"""The explained number as a function of which tokens are removed (True = removed). What "removed" means (replaced by
padding, dropped, masked in the attention) is the function's choice."""


@partial(register_dataclass, data_fields=["attributions", "completeness_gap"], meta_fields=["method"])
@dataclass(frozen=True, eq=False)
class Attribution:
    """What a method attributes to each token of one example; a pytree, so `jax.vmap` gives a batch of them."""

    method: str
    """Name of the method, a key of `requirements.METHODS`."""
    attributions: Float[Array, " n"] | Float[Array, "n d"] | Any
    """A number for each token, or for each feature of each token (see `aggregate_features`); 0 at padding."""
    completeness_gap: Float[Array, ""] | Any | None = None
    """|Σ attributions − (F(x) − F(x'))|; None for a method whose attributions are not meant to sum to a difference."""

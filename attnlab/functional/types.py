"""Axes, array aliases and the shapes of parts: the only place where axes are defined.

One head of one example (what a part sees):

    q  queries          d  features of a query (and of a key, where the two must agree)
    k  keys             e  features of a key, where they may differ from the query's
    v  value features   a  width of a score's hidden layer

Whole arrays (what the entry takes); the layout of `jax.nn.dot_product_attention` and Flax:

    *B batch axes, any number, none included    T  queries    N  query heads, N % K == 0
    S  keys                                     K  key heads  D, E, V  features
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

Size = Any
"""A number of examples, queries or keys: an int, or a symbolic one under `jax.export`."""
Query = Float[Array, "q d"]
Key = Float[Array, "k d"]
Logits = Float[Array, "q k"]
Weights = Float[Array, "q k"]
Where = Bool[Array, "q k"]
QueryPositions = Int[Array, " q"]
KeyPositions = Int[Array, " k"]
Head = Int[Array, ""]


class Positions(NamedTuple):
    """Where a block of logits lies: which queries (rows) and keys (columns), of which head of which example."""

    query: QueryPositions
    key: KeyPositions
    head: Head
    """Number of the query head."""
    example: Int[Array, ""]
    """Number of the example, row-major over the batch axes."""

    @property
    def rows(self) -> Int[Array, "q 1"]:
        """The queries' positions, as a column that broadcasts against `columns`."""
        return self.query[:, None]

    @property
    def columns(self) -> Int[Array, "1 k"]:
        """The keys' positions, as a row."""
        return self.key[None, :]


Queries = Float[Array, "*B T N D"]
Keys = Float[Array, "*B S K E"]
Values = Float[Array, "*B S K V"]
Outputs = Float[Array, "*B T N V"]
HeadWeights = Float[Array, "*B N T S"]

Score = Callable[..., Array]
"""(query [q d], key [k e]) -> logits [q k]."""
Mod = Callable[..., Array]
"""(logits [q k], positions: Positions) -> logits [q k]."""
Normalizer = Callable[..., Array]
"""(logits [q k], where [q k] or None) -> weights [q k]; a `normalizers.Positional` one gets the positions third."""


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """Return the dtype to compute in: float64 where any array is of it, else float32."""
    return jnp.dtype(jnp.float64 if any(array.dtype == jnp.float64 for array in arrays) else jnp.float32)


def widen(array: Array) -> Array:
    """Cast an array narrower than float32 to float32; leave any other as it is."""
    return array.astype(accumulation_dtype(array))

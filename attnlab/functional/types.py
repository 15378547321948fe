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
import numpy as np
from jax import Array
from jax.core import Tracer
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


class Extent(NamedTuple):
    """How many queries (or keys) a call has, and between which positions they lie, as far as that is known."""

    name: str
    """"query" or "key"."""
    count: Size
    given: bool = False
    """Whether positions are given; otherwise they are 0 … count − 1."""
    bounds: tuple[int, int] | None = None
    """The least and the greatest of the given positions; None where only the run can tell."""

    def check(self, what: str, size: int, instead: str = "") -> None:
        """Raise where an array with `size` entries along this axis does not have one for every position."""
        if not self.given:
            if size != self.count:
                hint = f"; {instead}" if instead and size == 1 else ""
                raise ValueError(f"{what} has {size} positions, the inputs have {self.count}{hint}")
        elif self.bounds is not None and isinstance(size, int) and not 0 <= self.bounds[0] <= self.bounds[1] < size:
            raise ValueError(
                f"{what} has {size} positions, the {self.name}_positions go from {self.bounds[0]} to {self.bounds[1]}"
            )


def extent(name: str, count: Size, positions: Any) -> Extent:
    """Describe the queries (or keys) of a call by their number and, where they are given and known, their positions.

    >>> extent("query", 2, jnp.array([5, 9]))
    Extent(name='query', count=2, given=True, bounds=(5, 9))
    """
    values = known(positions)
    bounds = None if values is None or not values.size else (int(values.min()), int(values.max()))
    return Extent(name, count, positions is not None, bounds)


def named_axes(given: Any) -> str:
    """Say what names of axes there are, and write those that were probably meant.

    >>> named_axes("bk")
    'are not some of "b h q k" in this order, apart by spaces; write axes="b k"'
    """
    if isinstance(given, int):
        return f'write axes="{ {1: "k", 2: "q k", 3: "b q k", 4: "b h q k"}.get(given, "b h q k") }"'
    letters = [letter for letter in "bhqk" if letter in str(given)] or ["q", "k"]
    return f'are not some of "b h q k" in this order, apart by spaces; write axes="{" ".join(letters)}"'


def known(array: Any) -> np.ndarray | None:
    """Return the values of an array, or None where only the run knows them (inside jit, or on another host).

    >>> known(jnp.arange(2)).tolist()
    [0, 1]
    """
    if isinstance(array, Tracer) or not isinstance(array, Array | np.ndarray | np.generic):
        return None
    if isinstance(array, Array) and (array.is_deleted() or not array.is_fully_addressable):
        return None
    return np.asarray(array)


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

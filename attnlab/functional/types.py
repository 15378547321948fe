"""Types of arrays and parts, and the definition of all axes.

One head of one example, the arguments of a part:

    q  queries          d  features of a query (and of a key, if the two must be equal)
    k  keys             e  features of a key, if they may differ from the query's
    v  value features   a  width of a score's hidden layer

Whole arrays, the arguments of `attention`, in the layout of `jax.nn.dot_product_attention` and Flax:

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
"""A number of examples, queries or keys: an int, or a symbolic dimension under `jax.export`."""
Query = Float[Array, "q d"]
Key = Float[Array, "k d"]
Logits = Float[Array, "q k"]
Weights = Float[Array, "q k"]
Where = Bool[Array, "q k"]
QueryPositions = Int[Array, " q"]
KeyPositions = Int[Array, " k"]
Head = Int[Array, ""]


class Positions(NamedTuple):
    """The positions of a block of logits: of its queries (rows) and keys (columns), and its head and example."""

    query: QueryPositions
    key: KeyPositions
    head: Head
    """Index of the query head."""
    example: Int[Array, ""]
    """Index of the example, row-major over the batch axes."""

    @property
    def rows(self) -> Int[Array, "q 1"]:
        """The positions of the queries as a column, which broadcasts against `columns`."""
        return self.query[:, None]

    @property
    def columns(self) -> Int[Array, "1 k"]:
        """The positions of the keys as a row."""
        return self.key[None, :]

    def after(self, start: Any) -> "Positions":
        """Return them with queries counted from `start`; None counts from 0."""
        return self if start is None else self._replace(query=self.query - start)


class Extent(NamedTuple):
    """The number of queries (or keys) of a call, and the range of their positions if it is known."""

    name: str
    """"query" or "key"."""
    count: Size
    explicit: bool = False
    """Whether positions are passed as an argument; otherwise they are 0 … count − 1."""
    bounds: tuple[int, int] | None = None
    """The smallest and the largest of the passed positions; None if they are known only at run time."""

    def after(self, start: Any) -> "Extent":
        """Return the extent of positions that are counted from `start`; None counts from 0."""
        if start is None or self.bounds is None:
            return self
        first = start if isinstance(start, int) else known(start)
        bounds = None if first is None else (self.bounds[0] - int(first), self.bounds[1] - int(first))
        return self._replace(bounds=bounds)

    def check(self, name: str, size: Size, instead: str = "") -> None:
        """Raise unless an array with `size` entries along this axis has an entry for every position.

        Args:
            name: names the axis in the error.
            size: entries of the array along this axis.
            instead: suggestion if the array has a single entry.
        """
        if not self.explicit:
            if size != self.count:
                hint = f"; {instead}" if instead and size == 1 else ""
                raise ValueError(f"{name} has size {size}, but the inputs have {self.count} positions{hint}")
        elif self.bounds is not None and isinstance(size, int) and not 0 <= self.bounds[0] <= self.bounds[1] < size:
            low, high = self.bounds
            raise ValueError(f"{name} has {size} positions, but the {self.name}_positions go from {low} to {high}")


def extent(name: str, count: Size, positions: Any) -> Extent:
    """Return the `Extent` of queries (or keys) from their number and their positions.

    >>> extent("query", 2, jnp.array([5, 9]))
    Extent(name='query', count=2, explicit=True, bounds=(5, 9))
    """
    values = known(positions)
    bounds = None if values is None or not values.size else (int(values.min()), int(values.max()))
    return Extent(name, count, positions is not None, bounds)


def named_axes(axes: Any) -> str:
    """Return an error text for wrong names of axes, or for a wrong rank, with the names that were probably meant.

    >>> named_axes("bk")
    'must be some of "b h q k" in this order, separated by spaces; write axes="b k"'
    """
    if isinstance(axes, int):
        return f'write axes="{ {1: "k", 2: "q k", 3: "b q k", 4: "b h q k"}.get(axes, "b h q k") }"'
    letters = [letter for letter in "bhqk" if letter in str(axes)] or ["q", "k"]
    return f'must be some of "b h q k" in this order, separated by spaces; write axes="{" ".join(letters)}"'


def known(array: Any) -> np.ndarray | None:
    """Return the values of an array, or None if they are known only at run time (inside jit, or on another host).

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
"""(logits [q k], where [q k] or None) -> weights [q k]; a `normalizers.Positional` takes the positions third."""


def accumulation_dtype(*arrays: Array) -> jnp.dtype:
    """Return the dtype to compute in: float64 if any array has it, else float32."""
    return jnp.dtype(jnp.float64 if any(array.dtype == jnp.float64 for array in arrays) else jnp.float32)


def widen(array: Array) -> Array:
    """Cast an array narrower than float32 to float32; return others unchanged."""
    return array.astype(accumulation_dtype(array))

"""The alignment of the positions of queries and keys, and checks of the integer arguments of masks."""

import operator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask, Structured
from attnlab.functional.masks.blocks import Blocks
from attnlab.functional.masks.picture import CELLS, describe
from attnlab.functional.types import Size

Alignment = Literal["lower_right", "upper_left"] | int | Array | np.ndarray | None
"""A name, the offset itself, or an array [*B] of an offset for each example."""
LARGEST_OFFSET = 2**30
"""The largest offset, which added to an int32 position does not overflow."""
LARGEST = 2**31 - 1
"""The largest integer that is compared with positions."""


@partial(register_dataclass, data_fields=[], meta_fields=["value"])
@dataclass(frozen=True)
class Static:
    """A value known at compile time, in a field of a mask that may hold an array instead."""

    value: Any


class Aligned(Structured):
    """A mask that compares positions of queries and keys, and so depends on their alignment."""

    name = "this mask"
    alignment: Any
    """`Static` of the alignment or, once fitted, of the offset; or an array with the offset of each example."""

    @property
    def _open(self) -> bool:
        return isinstance(self.alignment, Static) and isinstance(self.alignment.value, str | None)

    @property
    def offset(self) -> Any:
        """The number that, added to the position of a query, gives its position among the keys."""
        if self._open:
            raise ValueError(
                f"{self.name}: evaluated before the number of queries and keys is known; call .fitted(T, S)"
            )
        if not isinstance(self.alignment, Static):
            return self.alignment.astype(np.int32)
        offset = self.alignment.value
        return offset if isinstance(offset, int) else jnp.asarray(offset, jnp.int32)

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        if not self._open:
            return self
        if self.alignment.value is None and queries != keys:
            call = self.expression().removesuffix(")")
            raise ValueError(
                f'{self.name}: {queries} queries and {keys} keys need an alignment: "lower_right" (the last query at '
                f'the last key), "upper_left" (the first query at the first key), or an offset; write '
                f'{call}{"" if call.endswith("(") else ", "}alignment="lower_right")'
            )
        offset = keys - queries if self.alignment.value == "lower_right" else 0
        return replace(self, alignment=Static(offset))  # pyright: ignore

    def leaf_ranks(self) -> tuple[int, ...]:
        return (0,) * len(jax.tree.leaves(self))

    def call_text(self, *arguments: object) -> str:
        """Return the call that makes the mask, without an alignment of None."""
        if self.alignment != Static(None):
            arguments = (*arguments, f"alignment={field_text(self.alignment)}")
        return f"{self.name}({', '.join(map(str, arguments))})"

    def aligned(self, blocks: Blocks) -> Blocks:
        """Add the offset to the positions of the queries."""
        return blocks._replace(query=blocks.query + self.offset)


def valid_alignment(name: str, alignment: object) -> Any:
    """Return an alignment as masks store it; raise if it is invalid.

    >>> valid_alignment("causal", "lower_right")
    Static(value='lower_right')
    """
    if isinstance(alignment, Array | np.ndarray):
        return integer_array(name, alignment)
    if alignment not in (None, "lower_right", "upper_left") and type(alignment) is not int:
        raise ValueError(
            f'{name}: alignment must be "lower_right", "upper_left", an int, an integer array with one offset '
            f'per example, or None, not {alignment!r}; write alignment="lower_right"'
        )
    if isinstance(alignment, int) and abs(alignment) > LARGEST_OFFSET:
        raise ValueError(
            f"{name}: the offset must be at most {LARGEST_OFFSET}, since positions are int32, not {alignment}"
        )
    return Static(alignment)


def field_text(number: Any) -> str:
    """Return a field of a mask as text, an array by its dtype and shape.

    >>> field_text(Static(3)), field_text(jnp.zeros(2, jnp.int32)), field_text(None)
    ('3', 'int32[2]', 'None')
    """
    return repr(number.value) if isinstance(number, Static) else "None" if number is None else describe(number)


def static_integer(mask: str, name: str, value: Any, minimum: int) -> int:
    """Return an argument of a mask as a Python integer; raise for another type, or if it is too small or too large.

    >>> static_integer("sliding_window", "left", 3, minimum=0)
    3
    """
    try:
        if isinstance(value, bool | Array | np.ndarray):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{mask}: {name} must be a Python integer, not {value!r}") from None
    if number < minimum:
        raise ValueError(f"{mask}: {name} must be at least {minimum}, not {number}")
    if number > LARGEST:
        raise ValueError(f"{mask}: {name} must be at most {LARGEST}, since positions are int32, not {number}")
    return number


def integer_array(name: str, value: Array | np.ndarray | int | None) -> Array | None:
    """Return an array of integers; raise for another dtype.

    >>> integer_array("lengths", 3).shape
    ()
    """
    if value is None:
        return None
    value = jnp.asarray(value)
    if value.dtype == jnp.bool_:
        raise ValueError(f'{name}: expected integers, not booleans; write masks.array(where, "b k") for booleans')
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name}: expected integers, not {value.dtype}; write .astype(jnp.int32)")
    return value


def map_size(distance: int) -> int:
    """Return the power of two at which a map shows a pattern of this distance.

    >>> map_size(256)
    1024
    """
    return max(CELLS, 1 << (4 * distance - 1).bit_length())

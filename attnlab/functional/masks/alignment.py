"""How the positions of queries lie against those of keys, and the whole numbers that masks are made of."""

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
from attnlab.functional.masks.picture import CELLS, described
from attnlab.functional.types import Size

Alignment = Literal["lower_right", "upper_left"] | int | Array | np.ndarray | None
"""What a mask is made with: by name, or as the offset itself, a number or an array of one for each example [*B]."""
FARTHEST = 2**30
"""The largest offset: positions are int32, and with it added they stay so."""
LARGEST = 2**31 - 1
"""The largest whole number that is compared with positions."""


@partial(register_dataclass, data_fields=[], meta_fields=["value"])
@dataclass(frozen=True)
class Static:
    """What is known while compiling, in a field of a mask where an array may stand as well."""

    value: Any


class Aligned(Structured):
    """A mask that compares the positions of queries with those of keys, so must know how the two are aligned."""

    name = "this mask"
    alignment: Any
    """`Static`: what it was made with or, once it is fitted, the offset; or the offset of each example, an array."""

    @property
    def _open(self) -> bool:
        return isinstance(self.alignment, Static) and isinstance(self.alignment.value, str | None)

    @property
    def offset(self) -> Any:
        """What is added to a query's position to have it on the axis of the keys: a number, symbolic ones as arrays."""
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
                f'{self.name}: {queries} queries and {keys} keys need an alignment: "lower_right" (the last query is '
                f'at the last key), "upper_left" (the first query is at the first key), or an offset; write '
                f'{call}{"" if call.endswith("(") else ", "}alignment="lower_right")'
            )
        offset = keys - queries if self.alignment.value == "lower_right" else 0
        return replace(self, alignment=Static(offset))  # pyright: ignore

    def leaf_ranks(self) -> tuple[int, ...]:
        return (0,) * len(jax.tree.leaves(self))

    def written(self, *arguments: object) -> str:
        """Write the call that makes the mask; an alignment of None is not said."""
        if self.alignment != Static(None):
            arguments = (*arguments, f"alignment={shown(self.alignment)}")
        return f"{self.name}({', '.join(map(str, arguments))})"

    def aligned(self, blocks: Blocks) -> Blocks:
        """Put the queries on the axis of the keys."""
        return blocks._replace(query=blocks.query + self.offset)


def valid_alignment(name: str, alignment: object) -> Any:
    """Return an alignment as masks keep it, or raise where this is none.

    >>> valid_alignment("causal", "lower_right")
    Static(value='lower_right')
    """
    if isinstance(alignment, Array | np.ndarray):
        return whole_array(name, alignment)
    if alignment not in (None, "lower_right", "upper_left") and type(alignment) is not int:
        raise ValueError(
            f'{name}: alignment {alignment!r} is none of "lower_right", "upper_left", an int, an array of an int for '
            f'each example, None; write alignment="lower_right"'
        )
    if isinstance(alignment, int) and abs(alignment) > FARTHEST:
        raise ValueError(f"{name}: an offset of {alignment} is too far; {FARTHEST} is the most, positions are int32")
    return Static(alignment)


def shown(number: Any) -> str:
    """Write a field of a mask as it was given, an array by its dtype and shape.

    >>> shown(Static(3)), shown(jnp.zeros(2, jnp.int32)), shown(None)
    ('3', 'int32[2]', 'None')
    """
    return repr(number.value) if isinstance(number, Static) else "None" if number is None else described(number)


def whole(name: str, what: str, value: Any, least: int) -> int:
    """Return a static whole number, or raise where it is none or is too small.

    >>> whole("sliding_window", "left", 3, least=0)
    3
    """
    try:
        if isinstance(value, bool | Array | np.ndarray):
            raise TypeError
        number = operator.index(value)
    except TypeError:
        raise ValueError(f"{name}: {what} is a whole number in Python, not {value!r}") from None
    if number < least:
        raise ValueError(f"{name}: {what} is {number}, at least {least} is needed")
    if number > LARGEST:
        raise ValueError(f"{name}: {what} is {number}, at most {LARGEST} is possible: positions are int32")
    return number


def whole_array(name: str, value: Array | np.ndarray | int | None) -> Array | None:
    """Return an array of whole numbers, or raise where they are none.

    >>> whole_array("lengths", 3).shape
    ()
    """
    if value is None:
        return None
    value = jnp.asarray(value)
    if value.dtype == jnp.bool_:
        raise ValueError(
            f'{name}: whole numbers are needed, not truth values; write masks.array(where, "b k") of those'
        )
    if not jnp.issubdtype(value.dtype, jnp.integer):
        raise ValueError(f"{name}: whole numbers are needed, not {value.dtype}; write .astype(jnp.int32) of them")
    return value


def telling(distance: int) -> int:
    """Return the power of two at which a picture shows what happens within this distance.

    >>> telling(256)
    1024
    """
    return max(CELLS, 1 << (4 * distance - 1).bit_length())

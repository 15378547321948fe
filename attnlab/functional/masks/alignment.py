"""How the positions of queries lie against those of keys, and the whole numbers that masks are made of."""

import operator
from dataclasses import replace
from typing import Any, Literal

import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.masks.base import Mask, Structured
from attnlab.functional.masks.blocks import Blocks
from attnlab.functional.masks.picture import CELLS
from attnlab.functional.types import Size

Alignment = Literal["lower_right", "upper_left"] | Size | None
"""Of a mask: what it was made with, or, once it is fitted, the offset."""


class Aligned(Structured):
    """A mask that compares the positions of queries with those of keys, so must know how the two are aligned."""

    name = "this mask"
    alignment: Alignment

    @property
    def offset(self) -> Any:
        """What is added to a query's position to have it on the axis of the keys: a number, symbolic ones as arrays."""
        if self.alignment is None or isinstance(self.alignment, str):
            raise ValueError(
                f"{self.name}: evaluated before the number of queries and keys is known; call .fitted(T, S)"
            )
        return self.alignment if isinstance(self.alignment, int) else jnp.asarray(self.alignment, jnp.int32)

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        if not (self.alignment is None or isinstance(self.alignment, str)):
            return self
        if self.alignment is None and queries != keys:
            call = self.expression().removesuffix(")")
            raise ValueError(
                f'{self.name}: {queries} queries and {keys} keys need an alignment: "lower_right" (the last query is '
                f'at the last key), "upper_left" (the first query is at the first key), or an offset; write '
                f'{call}{"" if call.endswith("(") else ", "}alignment="lower_right")'
            )
        return replace(self, alignment=keys - queries if self.alignment == "lower_right" else 0)  # pyright: ignore

    def written(self, *arguments: object) -> str:
        """Write the call that makes the mask; an alignment of None is not said."""
        if self.alignment is not None:
            arguments = (*arguments, f"alignment={self.alignment!r}")
        return f"{self.name}({', '.join(map(str, arguments))})"

    def aligned(self, blocks: Blocks) -> Blocks:
        """Put the queries on the axis of the keys."""
        return blocks._replace(query=blocks.query + self.offset)


def valid_alignment(name: str, alignment: object) -> None:
    """Raise where this is no alignment.

    >>> valid_alignment("causal", "lower_right")
    """
    if alignment not in (None, "lower_right", "upper_left") and type(alignment) is not int:
        raise ValueError(
            f'{name}: alignment {alignment!r} is none of "lower_right", "upper_left", an int, None; '
            f'write alignment="lower_right"'
        )


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

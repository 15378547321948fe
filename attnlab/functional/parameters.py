"""Checks of scalar parameters of parts."""

from typing import Any

import jax
from jax import Array


def scalar(what: str, value: Any, dtype: Any) -> Array:
    """Convert a scalar parameter to an array []; raise for an array with axes, which would broadcast over the keys.

    >>> scalar("temperature: t", 2.0, "float32").shape
    ()
    """
    array = jax.numpy.asarray(value, dtype)
    check_scalar(what, array.shape)
    return array


def check_scalar(what: str, shape: tuple[int, ...]) -> None:
    """Raise unless a shape is that of a scalar.

    >>> check_scalar("temperature: t", ())
    """
    if shape:
        name = what.split()[-1]
        raise ValueError(
            f"{what} must be a scalar, not an array {list(shape)}; "
            f'write parts.map_over({name}, "h") for one per head, parts.map_over({name}, "b") for one per example'
        )

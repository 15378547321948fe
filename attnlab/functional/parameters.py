"""Checks of scalar parameters of parts."""

from typing import Any

import jax
from jax import Array


def scalar(name: str, value: Any, dtype: Any) -> Array:
    """Convert a scalar parameter to an array []; raise for an array with axes, which would broadcast over the keys.

    Args:
        name: names the part and the parameter in an error, such as "temperature: t".
        value: a number or an array [].
        dtype: dtype of the result.

    >>> scalar("temperature: t", 2.0, "float32").shape
    ()
    """
    array = jax.numpy.asarray(value, dtype)
    check_scalar(name, array.shape)
    return array


def check_scalar(name: str, shape: tuple[int, ...]) -> None:
    """Raise unless a shape is that of a scalar; `name` as in `scalar`.

    >>> check_scalar("temperature: t", ())
    """
    if shape:
        parameter = name.split()[-1]
        raise ValueError(
            f"{name} must be a scalar, not an array {list(shape)}; write "
            f'parts.map_over({parameter}, "h") for one per head, parts.map_over({parameter}, "b") for one per example'
        )

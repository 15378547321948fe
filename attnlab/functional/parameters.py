"""Checks of scalar parameters of parts."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from attnlab.functional.parts import MappedArray
from attnlab.functional.types import known


def scalar(name: str, value: Any, dtype: Any) -> Array:
    """Convert a scalar parameter to an array []; raise for an array with axes, which would broadcast over the keys.

    Args:
        name: names the part and the parameter in an error, such as "temperature: t".
        value: a number or an array [].
        dtype: dtype of the result.

    >>> scalar("temperature: t", 2.0, "float32").shape
    ()
    """
    array = jnp.asarray(value, dtype)
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


def check_values(name: str, value: Any, requirement: str, meets: Callable[[Any], Any]) -> None:
    """Raise for a parameter with known values, a number or an array outside jit, that do not meet a requirement.

    Args:
        name: as in `scalar`.
        value: a number or an array, which may be mapped over heads or examples; values inside jit are unknown.
        requirement: in the error, such as "positive".
        meets: whether numbers meet it; NaN must not.

    >>> check_values("temperature: t", 2.0, "positive", positive)
    """
    array = value.array if isinstance(value, MappedArray) else value
    values = np.asarray(array) if isinstance(array, int | float) else known(array)
    if values is not None and not np.all(met := np.asarray(meets(values))):
        raise ValueError(f"{name} must be {requirement}, not {values[~met].flat[0]}")


def positive(number: Any) -> Any:
    """Return whether a number is positive.

    >>> positive(0.0)
    False
    """
    return number > 0.0


def valid_scalar(name: str, value: Any, meets: Callable[[Any], Any], logits: Array) -> Array:
    """Convert a scalar parameter as `scalar` does; it becomes NaN if it does not meet the requirement.

    The NaN is the 0 / 0 of a logit minus itself, which only run time knows. If a NaN is known at compile time, XLA
    on a CPU compiles its exponential to arbitrary numbers (jax-ml/jax#29537), so that an invalid constant inside jit
    would give weights that look right.

    Args:
        name: as in `scalar`.
        value: a number or an array [], with values that `check_values` could not know inside jit.
        meets: as in `check_values`.
        logits: what the parameter is applied to; the result has their dtype.

    >>> [float(valid_scalar("temperature: t", t, positive, jnp.ones(3))) for t in (2.0, -2.0)]
    [2.0, nan]
    """
    number = scalar(name, value, logits.dtype)
    first = jax.lax.stop_gradient(jnp.sum(jnp.ravel(logits)[:1]))
    valid = meets(number)
    part = jnp.where(valid, 1.0, first - first)
    return jnp.where(valid, number, 1.0) * (part / part)

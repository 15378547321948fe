"""Checks of arguments, and masking of padding."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.analysis.attribution.record import Scores


def check_embedded(method: str, embedded: Array) -> None:
    """Raise unless `embedded` holds the floating-point embedded tokens of one example."""
    if embedded.ndim != 2:
        hint = "; for a batch write jax.vmap over its examples" if embedded.ndim == 3 else ""
        raise ValueError(f"{method}: embedded must have shape [tokens, features], not {list(embedded.shape)}{hint}")
    if not jnp.issubdtype(embedded.dtype, jnp.floating):
        raise ValueError(
            f"{method}: embedded must be floating-point, not {embedded.dtype}; pass embeddings, not token ids"
        )


def check_positive(method: str, **numbers: int | None) -> None:
    """Raise unless every number is at least 1, or None."""
    for name, number in numbers.items():
        if number is not None and number < 1:
            raise ValueError(f"{method}: {name} must be at least 1, not {number}")


def check_valid(method: str, valid: Any, n: int, name: str = "valid") -> None:
    """Raise unless `valid` is None or one boolean for each of n positions."""
    if valid is not None and (valid.shape != (n,) or valid.dtype != jnp.bool_):
        raise ValueError(
            f"{method}: {name} must be booleans [{n}], True for a real token, not {valid.dtype}{list(valid.shape)}; "
            f"from a length write jnp.arange({n}) < length"
        )


def one_number(method: str, scores: Any) -> Any:
    """Return `scores`, which raises if its value is not one floating-point number."""

    def checked(inputs: Array) -> Float[Array, ""]:
        value = jnp.asarray(scores(inputs))
        if value.shape:
            raise ValueError(
                f"{method}: scores must return one number, not an array {list(value.shape)}; select one, as in "
                "lambda embedded: logits(embedded)[label]"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"{method}: scores must return a floating-point number, not {value.dtype}")
        return value

    return checked


def gradient_of(method: str, scores: Scores) -> Any:
    """Return the gradient of `scores`, which raises if its value is not one number."""
    return jax.grad(one_number(method, scores))


def check_self_attention(method: str, arrays: Any, instead: str) -> None:
    """Raise unless the last two axes are queries and keys of the same tokens, for at least one layer."""
    shape = list(arrays.shape)
    if shape[-2] != shape[-1]:
        raise ValueError(
            f"{method}: needs self-attention, with as many queries as keys, not {shape[-2]} queries and {shape[-1]} "
            f"keys; for attention from one sequence to another use {instead}"
        )
    if not shape[0]:
        raise ValueError(f"{method}: needs at least one layer of self-attention, not {shape}; use integrated_gradients")


def without_padding(matrix: Array, query_valid: Array | None, key_valid: Array | None) -> Array:
    """Set the rows of padded queries and the columns of padded keys to 0; the last two axes are [q k]."""
    if key_valid is not None:
        matrix = jnp.where(jnp.broadcast_to(key_valid, matrix.shape), matrix, 0)
    if query_valid is not None:
        matrix = jnp.where(jnp.broadcast_to(query_valid[:, None], matrix.shape), matrix, 0)
    return matrix


def normalized_rows(matrix: Array) -> Array:
    """Divide every row by its sum; a row whose sum is 0 stays as it is."""
    total = jnp.sum(matrix, axis=-1, keepdims=True)
    return matrix / jnp.where(total == 0, 1, total)

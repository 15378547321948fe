"""Checks of embedded tokens, scores and attention matrices, and masking of padding."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float

from attnlab.analysis.checks import check_valid
from attnlab.analysis.functions import Score


def check_embedded(method: str, embedded: Array) -> None:
    """Raise unless `embedded` holds the floating-point embedded tokens of one example."""
    if embedded.ndim != 2:
        hint = "; for a batch write jax.vmap over its examples" if embedded.ndim == 3 else ""
        raise ValueError(f"{method}: embedded must have shape [tokens, features], not {list(embedded.shape)}{hint}")
    if not jnp.issubdtype(embedded.dtype, jnp.floating):
        raise ValueError(
            f"{method}: embedded must be floating-point, not {embedded.dtype}; pass embeddings, not token ids"
        )


def one_number(method: str, score: Any) -> Any:
    """Return `score`, which raises if its value is not one floating-point number."""

    def checked(inputs: Array) -> Float[Array, ""]:
        value = jnp.asarray(score(inputs))
        if value.shape:
            raise ValueError(
                f"{method}: score must return one number, not an array {list(value.shape)}; select one, as in "
                "lambda embedded: logits(embedded)[label]"
            )
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise ValueError(f"{method}: score must return a floating-point number, not {value.dtype}")
        return value

    return checked


def gradient_of(method: str, score: Score) -> Any:
    """Return the gradient of `score`, which raises if its value is not one number."""
    return jax.grad(one_number(method, score))


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


def check_shape(method: str, name: str, array: Any, shape: Sequence[int], like: str) -> None:
    """Raise unless an array has the shape of another."""
    if tuple(array.shape) != tuple(shape):
        raise ValueError(f"{method}: {name} must have the shape of {like}, {list(shape)}, not {list(array.shape)}")


def check_matrix(method: str, matrix: Any, query_valid: Any, key_valid: Any) -> None:
    """Raise unless the masks fit the last two axes [q k]."""
    check_valid(method, query_valid, matrix.shape[-2], "query_valid")
    check_valid(method, key_valid, matrix.shape[-1], "key_valid")


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

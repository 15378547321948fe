"""Evaluation of a function at many points, in batches so that the memory is bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, PyTree

from attnlab.analysis.functions import Predict


def map_over(function: Callable[[PyTree], Array], items: PyTree, batch_size: int | None) -> Array:
    """Return the stacked values of a function at all items (None: all at once)."""
    if batch_size is None:
        return jax.vmap(function)(items)
    return jax.lax.map(function, items, batch_size=batch_size)


def predict_in_batches(predict: Predict, removed: Bool[Array, "m n"], batch_size: int | None) -> Float[Array, " m"]:
    """Return the predictions for all masks, of which a call gets at most `batch_size` (None: all).

    The last batch is filled up with masks that remove nothing.
    """
    number, tokens = removed.shape
    if batch_size is None or batch_size >= number:
        return predict(removed)
    filled = jnp.concatenate([removed, jnp.zeros((-number % batch_size, tokens), bool)])
    return jax.lax.map(predict, filled.reshape(-1, batch_size, tokens)).reshape(-1)[:number]


def weighted_sum(function: Callable[[PyTree], Array], items: Array, weights: Array, batch_size: int | None) -> Array:
    """Return Σ_i weights[i] function(items[i]), of which at most `batch_size` terms are held at a time (None: all).

    The last batch is filled up with the last item at weight 0. The sum is accumulated, and returned, in the dtype of
    the weights.
    """
    number = items.shape[0]
    size = number if batch_size is None else min(batch_size, number)
    missing = -number % size
    items = jnp.concatenate([items, jnp.broadcast_to(items[-1:], (missing, *items.shape[1:]))])
    real = jnp.arange(number + missing, dtype=jnp.int32) < number
    weights = jnp.concatenate([weights, jnp.zeros(missing, weights.dtype)])

    def add(total: Array, batch: tuple[Array, Array, Array]) -> tuple[Array, None]:
        some_items, some_weights, some_real = batch
        values = jax.vmap(function)(some_items).astype(weights.dtype)
        values = jnp.where(some_real.reshape(-1, *(1,) * (values.ndim - 1)), values, 0)
        return total + jnp.tensordot(some_weights, values, axes=1, precision="highest"), None

    shape = jax.eval_shape(function, items[0])
    batches = (items.reshape(-1, size, *items.shape[1:]), weights.reshape(-1, size), real.reshape(-1, size))
    return jax.lax.scan(add, jnp.zeros(shape.shape, weights.dtype), batches)[0]

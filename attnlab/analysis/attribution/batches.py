"""Evaluation of a function at many points, in batches so that the memory is bounded."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import PyTree


def map_over(function: Callable[[PyTree], Array], items: PyTree, batch_size: int | None) -> Array:
    """Return the stacked values of a function at all items (None: all at once)."""
    if batch_size is None:
        return jax.vmap(function)(items)
    return jax.lax.map(function, items, batch_size=batch_size)


def weighted_sum(function: Callable[[PyTree], Array], items: Array, weights: Array, batch_size: int | None) -> Array:
    """Return Σ_i weights[i] function(items[i]), of which at most `batch_size` terms are held at a time (None: all).

    The last batch is filled up with the last item at weight 0.
    """
    number = items.shape[0]
    size = number if batch_size is None else min(batch_size, number)
    missing = -number % size
    items = jnp.concatenate([items, jnp.broadcast_to(items[-1:], (missing, *items.shape[1:]))])
    weights = jnp.concatenate([weights, jnp.zeros(missing, weights.dtype)])

    def add(total: Array, batch: tuple[Array, Array]) -> tuple[Array, None]:
        some_items, some_weights = batch
        return total + jnp.tensordot(some_weights, jax.vmap(function)(some_items), axes=1, precision="highest"), None

    shape = jax.eval_shape(function, items[0])
    batches = (items.reshape(-1, size, *items.shape[1:]), weights.reshape(-1, size))
    return jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), batches)[0]

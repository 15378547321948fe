"""Parts (scores, mods, normalizers) as pytrees, and the wrapper that says that a part has one set of arrays a head."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial


@partial(jax.tree_util.register_dataclass, data_fields=["part"], meta_fields=[])
@dataclass(frozen=True)
class PerHead:
    """A part whose every array has a leading axis of heads; made by `per_head`."""

    part: Callable[..., Array]

    def __call__(self, *args: Any, **kwargs: Any) -> Array:
        return self.part(*args, **kwargs)


def per_head(part: Callable[..., Array]) -> PerHead:
    """Say that every array bound to a part carries a leading heads axis: one set of parameters a query head.

    Without it, all heads share the part's arrays. Nothing is ever guessed from shapes.

    >>> import jax.numpy as jnp
    >>> from attnlab.functional import scores
    >>> one_matrix_a_head = per_head(Partial(scores.general, w=jnp.ones((8, 16, 16))))
    """
    return PerHead(as_part(part))


def as_part(part: Callable[..., Array]) -> Callable[..., Array]:
    """Return the part as a pytree: a plain function becomes one without arrays.

    >>> jax.tree.leaves(as_part(max))
    []
    """
    is_leaf = jax.tree_util.all_leaves([part])
    return Partial(part) if is_leaf else part


def split_heads(part: Callable[..., Array], key_heads: int, group: int) -> Callable[..., Array]:
    """Reshape the leading heads axis of a part's arrays to [key_heads, group]; leave a shared part as it is."""
    if not isinstance(part, PerHead):
        return part
    heads = key_heads * group

    def split(array: Array) -> Array:
        if array.ndim == 0 or array.shape[0] != heads:
            raise ValueError(f"per_head: a part for {heads} query heads has an array of shape {array.shape}")
        return array.reshape(key_heads, group, *array.shape[1:])

    return jax.tree.map(split, part)


def heads_axis(part: Callable[..., Array]) -> int | None:
    """Return the axis to map over heads: 0 for a part made by `per_head`, None for a shared one."""
    return 0 if isinstance(part, PerHead) else None

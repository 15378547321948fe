"""Parts (scores, mods, normalizers) as pytrees, and the marks that say which arrays differ by head or example."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
from jax import Array
from jax.tree_util import Partial

Part = Callable[..., Array]


@partial(jax.tree_util.register_dataclass, data_fields=["array"], meta_fields=["axes"])
@dataclass(frozen=True)
class Each:
    """An array with leading axes of examples ("b", all the batch axes) or query heads ("h"); made by `each`."""

    array: Any
    axes: tuple[str, ...]


def each(array: Array, axes: str) -> Each:
    """Mark an array of a part as one for every head, every example, or both; the part sees its own slice.

    Args:
        array: with the axes named in front: *B for "b" (all the batch axes of the call), N for "h", *B, N for "b h".
        axes: "b", "h" or "b h".
    Returns: the marked array, to be bound to a part in the array's place. An array without a mark is shared by
        all. Nothing is ever guessed from shapes.

    >>> import jax.numpy as jnp
    >>> bilinear = Partial(lambda query, key, *, w: query @ w @ key.T, w=each(jnp.ones((8, 16, 16)), "h"))
    """
    names = tuple(axes.split())
    if names not in (("b",), ("h",), ("b", "h")):
        raise ValueError(f'each: axes {axes!r} is none of "b", "h", "b h"')
    return Each(array, names)


def per_head(part: Part) -> Part:
    """Mark every array of a part as one for each query head.

    >>> import jax.numpy as jnp
    >>> from attnlab.functional import scores
    >>> one_matrix_a_head = per_head(Partial(scores.general, w=jnp.ones((8, 16, 16))))
    """
    return jax.tree.map(lambda array: each(array, "h"), as_part(part))


def per_example(part: Part) -> Part:
    """Mark every array of a part as one for each example: it carries the batch axes *B in front.

    >>> import jax.numpy as jnp
    >>> one_bias_an_example = per_example(Partial(lambda logits, positions, bias: logits + bias, bias=jnp.ones((2, 1))))
    """
    return jax.tree.map(lambda array: each(array, "b"), as_part(part))


def as_part(part: Part) -> Part:
    """Return the part as a pytree: a plain function becomes one without arrays.

    >>> jax.tree.leaves(as_part(max))
    []
    """
    is_leaf = jax.tree_util.all_leaves([part])
    return Partial(part) if is_leaf else part


def marked(tree: Any) -> tuple[list[Any], list[tuple[str, ...]], Any]:
    """Return the arrays of some parts, the axes each is marked with, and the structure that the slices go into."""
    leaves, structure = jax.tree.flatten(tree, is_leaf=lambda node: isinstance(node, Each))
    arrays = [leaf.array if isinstance(leaf, Each) else leaf for leaf in leaves]
    return arrays, [leaf.axes if isinstance(leaf, Each) else () for leaf in leaves], structure

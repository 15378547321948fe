"""Parts (scores, mods, normalizers) as pytrees, with arrays that may be mapped over heads or examples."""

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
class MappedArray:
    """An array with leading axes of examples ("b", all batch axes) or query heads ("h"); made by `map_over`."""

    array: Any
    axes: tuple[str, ...]


def map_over(array: Array, axes: str) -> MappedArray:
    """Map an array of a part over heads, examples, or both; the part is called with one slice of it.

    Args:
        array: an array with the leading axes *B for "b" (all batch axes of the call), N for "h" (query heads), or
            *B, N for "b h".
        axes: "b", "h" or "b h".
    Returns: a `MappedArray`, to be bound to a part in place of the array. Any other array is shared by all heads and
        examples, whatever its shape.

    >>> import jax.numpy as jnp
    >>> bilinear = Partial(lambda query, key, *, w: query @ w @ key.T, w=map_over(jnp.ones((8, 16, 16)), "h"))
    """
    if not isinstance(axes, str):
        raise ValueError(
            f'map_over: axes must be "b", "h" or "b h", not {type(axes).__name__}; write map_over(array, "h")'
        )
    names = tuple(axes.split())
    if names not in (("b",), ("h",), ("b", "h")):
        raise ValueError(f'map_over: axes must be "b", "h" or "b h", not {axes!r}; write map_over(array, "h")')
    return MappedArray(array, names)


def per_head(part: Part) -> Part:
    """Map every array of a part over the query heads.

    >>> import jax.numpy as jnp
    >>> from attnlab.functional import scores
    >>> matrix_per_head = per_head(Partial(scores.general, w=jnp.ones((8, 16, 16))))
    """
    return _map_all(part, "h")


def per_example(part: Part) -> Part:
    """Map every array of a part over the examples: each has the leading batch axes *B.

    >>> import jax.numpy as jnp
    >>> bias_per_example = per_example(Partial(lambda logits, positions, bias: logits + bias, bias=jnp.ones((2, 1))))
    """
    return _map_all(part, "b")


def _map_all(part: Part, axis: str) -> Part:
    def mapped(leaf: Any) -> MappedArray:
        array = leaf if isinstance(leaf, MappedArray) else MappedArray(leaf, ())
        return MappedArray(array.array, tuple(sorted({*array.axes, axis})))

    return jax.tree.map(mapped, as_part(part), is_leaf=_is_mapped)


def _is_mapped(node: Any) -> bool:
    return isinstance(node, MappedArray)


def as_part(part: Part) -> Part:
    """Return the part as a pytree; a plain function becomes a pytree without arrays.

    >>> jax.tree.leaves(as_part(max))
    []
    """
    is_leaf = jax.tree_util.all_leaves([part])
    return Partial(part) if is_leaf else part


def flatten_mapped(tree: Any) -> tuple[list[Any], list[tuple[str, ...]], Any]:
    """Return the arrays of a tree, the axes that each is mapped over, and the structure for slices of them.

    >>> flatten_mapped({"v": map_over(jax.numpy.ones(3), "h")})[1]
    [('h',)]
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_mapped)
    arrays = [leaf.array if isinstance(leaf, MappedArray) else leaf for leaf in leaves]
    return arrays, [leaf.axes if isinstance(leaf, MappedArray) else () for leaf in leaves], structure


def floats(tree: Any) -> tuple[list[Array], list[Any], Callable[[list[Array], list[Any]], Any]]:
    """Return the floating-point arrays of a tree, its other leaves, and a function that combines both again.

    >>> learned, fixed, combine = floats({"slope": jax.numpy.ones(2), "period": jax.numpy.array(3)})
    >>> sorted(combine(learned, fixed)), len(learned), len(fixed)
    (['period', 'slope'], 1, 1)
    """
    leaves, structure = jax.tree.flatten(tree)
    leaves = [leaf if isinstance(leaf, jax.Array) else jax.numpy.asarray(leaf) for leaf in leaves]
    kinds = [jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) for leaf in leaves]

    def combine(floating: list[Array], others: list[Any]) -> Any:
        sources = {True: iter(floating), False: iter(others)}
        return jax.tree.unflatten(structure, [next(sources[bool(kind)]) for kind in kinds])

    groups = [[leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind is group] for group in (True, False)]
    return groups[0], groups[1], combine

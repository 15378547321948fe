"""Parts (scores, mods, normalizers) as pytrees, and the marks that say which arrays differ by head or example."""

import inspect
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
    if not isinstance(axes, str):
        raise ValueError(
            f'each: axes comes second and is a text, "b", "h" or "b h", not {type(axes).__name__}; write '
            'each(array, "h")'
        )
    names = tuple(axes.split())
    if names not in (("b",), ("h",), ("b", "h")):
        raise ValueError(f'each: axes {axes!r} is none of "b", "h", "b h"; write each(array, "h")')
    return Each(array, names)


def per_head(part: Part) -> Part:
    """Mark every array of a part as one for each query head.

    >>> import jax.numpy as jnp
    >>> from attnlab.functional import scores
    >>> one_matrix_a_head = per_head(Partial(scores.general, w=jnp.ones((8, 16, 16))))
    """
    return _mark_all(part, "h")


def per_example(part: Part) -> Part:
    """Mark every array of a part as one for each example: it carries the batch axes *B in front.

    >>> import jax.numpy as jnp
    >>> one_bias_an_example = per_example(Partial(lambda logits, positions, bias: logits + bias, bias=jnp.ones((2, 1))))
    """
    return _mark_all(part, "b")


def _mark_all(part: Part, axis: str) -> Part:
    def mark(leaf: Any) -> Each:
        own = leaf if isinstance(leaf, Each) else Each(leaf, ())
        return Each(own.array, tuple(sorted({*own.axes, axis})))

    return jax.tree.map(mark, as_part(part), is_leaf=_is_marked)


def _is_marked(node: Any) -> bool:
    return isinstance(node, Each)


def as_part(part: Part) -> Part:
    """Return the part as a pytree: a plain function becomes one without arrays.

    >>> jax.tree.leaves(as_part(max))
    []
    """
    is_leaf = jax.tree_util.all_leaves([part])
    return Partial(part) if is_leaf else part


def marked(tree: Any) -> tuple[list[Any], list[tuple[str, ...]], Any]:
    """Return the arrays of a tree, the axes each is marked with, and the structure that their slices go into.

    >>> marked({"v": each(jax.numpy.ones(3), "h")})[1]
    [('h',)]
    """
    leaves, structure = jax.tree.flatten(tree, is_leaf=_is_marked)
    arrays = [leaf.array if isinstance(leaf, Each) else leaf for leaf in leaves]
    return arrays, [leaf.axes if isinstance(leaf, Each) else () for leaf in leaves], structure


def check_takes(what: str, function: Any, names: tuple[str, ...]) -> None:
    """Raise where a function cannot be called with so many arguments by position.

    >>> check_takes("mod", lambda logits, positions: logits, ("logits", "positions"))
    """
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function that is not written in Python
        return
    try:
        signature.bind(*names)
    except TypeError:
        name = getattr(getattr(function, "func", function), "__name__", type(function).__name__)
        wanted = ", ".join(names)
        write = f"lambda {wanted}: ..." if not name.isidentifier() else f"def {name}({wanted})"
        raise ValueError(f"{what} is called with ({wanted}), {name} takes {signature}; write {write}") from None


def scalar(what: str, value: Any, dtype: Any) -> Array:
    """Return a parameter that is one number as an array [], or raise where it is more: it would be one for each key.

    >>> scalar("temperature: t", 2.0, "float32").shape
    ()
    """
    array = jax.numpy.asarray(value, dtype)
    one_number(what, array.shape)
    return array


def one_number(what: str, shape: tuple[int, ...]) -> None:
    """Raise where a shape is not that of a single number.

    >>> one_number("temperature: t", ())
    """
    if shape:
        name = what.split()[-1]
        raise ValueError(
            f"{what} is one number, not an array {list(shape)}; "
            f'one for each head is marked as parts.each({name}, "h"), for each example as parts.each({name}, "b")'
        )


def floats(tree: Any) -> tuple[list[Array], list[Any], Callable[[list[Array], list[Any]], Any]]:
    """Return the floating-point arrays of a tree, its other leaves, and the function that puts both together again.

    >>> learned, fixed, together = floats({"slope": jax.numpy.ones(2), "period": jax.numpy.array(3)})
    >>> sorted(together(learned, fixed)), len(learned), len(fixed)
    (['period', 'slope'], 1, 1)
    """
    leaves, structure = jax.tree.flatten(tree)
    leaves = [leaf if isinstance(leaf, jax.Array) else jax.numpy.asarray(leaf) for leaf in leaves]
    kinds = [jax.numpy.issubdtype(leaf.dtype, jax.numpy.floating) for leaf in leaves]

    def together(floating: list[Array], others: list[Any]) -> Any:
        sources = {True: iter(floating), False: iter(others)}
        return jax.tree.unflatten(structure, [next(sources[bool(kind)]) for kind in kinds])

    chosen = [[leaf for leaf, kind in zip(leaves, kinds, strict=True) if kind is which] for which in (True, False)]
    return chosen[0], chosen[1], together

"""Masks in text: their expression, and a map of their blocks where their arrays are known."""

import math
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

CELLS = 16
"""Rows and columns of a map whose block size is not said."""
LONGEST = 2**20
"""Queries or keys of the longest pattern that is drawn unasked."""
EMPTY, SOME, FULL = "·▒█"


def described(leaf: Any) -> str:
    """Name an array by its dtype and shape, and anything else by its type.

    >>> described(np.zeros((2, 3), np.int32))
    'int32[2,3]'
    """
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return type(leaf).__name__


def portrait(mask: Any) -> str:
    """Write the mask's expression and, where its arrays are known, the map of its first example at a telling size.

    A pattern that shows nothing within a million positions is not drawn: a map takes memory in proportion to them.

    >>> from attnlab.functional import masks
    >>> print(portrait(masks.from_fn(max)))
    from_fn(max)
    """
    try:
        if any(mask.tells) and all(map(_is_known, jax.tree.leaves(mask))):
            known = jax.tree.map(np.asarray, mask)  # inside jit, what JAX computes of a known array is unknown
            queries, keys = known.sizes()
            queries, keys = queries or keys or known.reach(), keys or queries or known.reach()
            if max(queries, keys) > LONGEST:
                return mask.expression()
            return f"{mask.expression()}\n{drawn(known.placed(queries, keys), queries, keys, None, 0)}"
    except (ValueError, IndexError, TypeError, RuntimeError):  # sizes that do not fit, an empty or a deleted array
        pass
    return mask.expression()


def drawn(mask: Any, queries: int, keys: int, block: int | tuple[int, int] | None, head: int) -> str:
    """Draw the map of a fitted mask; see `Mask.map`.

    >>> from attnlab.functional import masks
    >>> print(drawn(masks.prefix(2), 2, 4, (2, 2), 0))
    2 × 4 in blocks of 2 × 2: 50% empty, 50% full
    █·
    """
    if block is None:
        block = math.ceil(queries / CELLS), math.ceil(keys / CELLS)
    some, every = classes(mask, queries, keys, block, head)
    rows = ["".join(FULL if e else SOME if s else EMPTY for s, e in zip(*row)) for row in zip(some, every)]  # noqa: B905
    by_query, by_key = _pair(block)
    size = f"{queries} × {keys} in blocks of {by_query} × {by_key}"
    if any(leaf.ndim > rank for leaf, rank in zip(jax.tree.leaves(mask), mask.leaf_ranks(), strict=True)):
        size += ", first example"
    return "\n".join([f"{size}: {1 - some.mean():.0%} empty, {every.mean():.0%} full", *rows])


def classes(
    mask: Any, queries: int, keys: int, block: int | tuple[int, int], head: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classify all blocks of a fitted mask, of its first example where it has many.

    >>> from attnlab.functional import masks
    >>> classes(masks.prefix(2), 2, 4, 2, 0)[0].tolist()
    [[True, False]]
    """
    leaves, structure = jax.tree.flatten(mask)
    if not all(map(_is_known, leaves)):
        raise ValueError(f"{mask.expression()}: its arrays are not known here, inside jit; ask outside")
    first = [np.asarray(x)[(0,) * (x.ndim - rank)] for x, rank in zip(leaves, mask.leaf_ranks(), strict=True)]
    by_query, by_key = _pair(block)
    some, every = jax.tree.unflatten(structure, first).classify(_blocks(queries, by_query), _blocks(keys, by_key), head)
    return np.asarray(some), np.asarray(every)


def _blocks(positions: int, size: int) -> np.ndarray:
    return np.minimum(np.arange(math.ceil(positions / size) * size), positions - 1).reshape(-1, size)


def _pair(block: int | tuple[int, int]) -> tuple[int, int]:
    pair = (block, block) if isinstance(block, int) else block
    if min(pair) < 1:
        raise ValueError(f"a mask's map: blocks of {pair[0]} × {pair[1]} hold nothing")
    return pair


def _is_known(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic | jax.Array) and not isinstance(leaf, Tracer)

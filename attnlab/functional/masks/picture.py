"""Text of masks: the call that makes them, and a map of their blocks."""

import math
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

CELLS = 16
"""Rows and columns of a map without a given block size."""
LONGEST = 2**20
"""The most queries or keys of a map in a mask's repr."""
EMPTY, SOME, FULL = "·▒█"


def describe(leaf: Any) -> str:
    """Describe an array by its dtype and shape, and any other value by its type.

    >>> describe(np.zeros((2, 3), np.int32))
    'int32[2,3]'
    """
    if hasattr(leaf, "shape") and hasattr(leaf, "dtype"):
        return f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
    return type(leaf).__name__


def mask_repr(mask: Any) -> str:
    """Return the repr of a mask: the call that makes it and, if its arrays are known, the map of its first example.

    A pattern longer than a million positions is not drawn, since the memory of a map is proportional to them.

    >>> from attnlab.functional import masks
    >>> print(mask_repr(masks.from_fn(max)))
    from_fn(max)
    """
    try:
        if any(mask.can_classify) and all(map(_is_known, jax.tree.leaves(mask))):
            known = jax.tree.map(np.asarray, mask)  # inside jit, JAX would trace computations on known arrays
            queries, keys = known.sizes()
            queries, keys = queries or keys or known.reach(), keys or queries or known.reach()
            if max(queries, keys) > LONGEST:
                return mask.expression()
            return f"{mask.expression()}\n{draw_map(known.placed(queries, keys), queries, keys, None, 0)}"
    except (ValueError, IndexError, TypeError, RuntimeError):  # sizes that do not fit, or an empty or deleted array
        pass
    return mask.expression()


def draw_map(mask: Any, queries: int, keys: int, block: int | tuple[int, int] | None, head: int) -> str:
    """Return the map of a fitted mask as text; see `Mask.map`.

    >>> from attnlab.functional import masks
    >>> print(draw_map(masks.prefix(2), 2, 4, (2, 2), 0))
    2 × 4 in blocks of 2 × 2: 50% empty, 50% full
    █·
    """
    if block is None:
        block = math.ceil(queries / CELLS), math.ceil(keys / CELLS)
    some, every = classify_blocks(mask, queries, keys, block, head)
    rows = ["".join(FULL if e else SOME if s else EMPTY for s, e in zip(*row)) for row in zip(some, every)]  # noqa: B905
    by_query, by_key = _pair(block)
    size = f"{queries} × {keys} in blocks of {by_query} × {by_key}"
    if any(leaf.ndim > rank for leaf, rank in zip(jax.tree.leaves(mask), mask.leaf_ranks(), strict=True)):
        size += ", first example"
    return "\n".join([f"{size}: {1 - some.mean():.0%} empty, {every.mean():.0%} full", *rows])


def classify_blocks(
    mask: Any, queries: int, keys: int, block: int | tuple[int, int], head: int
) -> tuple[np.ndarray, np.ndarray]:
    """Classify all blocks of a fitted mask, for its first example.

    >>> from attnlab.functional import masks
    >>> classify_blocks(masks.prefix(2), 2, 4, 2, 0)[0].tolist()
    [[True, False]]
    """
    leaves, structure = jax.tree.flatten(mask)
    if not all(map(_is_known, leaves)):
        raise ValueError(f"{mask.expression()}: its arrays are not known inside jit; call this outside of jit")
    first = [np.asarray(x)[(0,) * (x.ndim - rank)] for x, rank in zip(leaves, mask.leaf_ranks(), strict=True)]
    by_query, by_key = _pair(block)
    some, every = jax.tree.unflatten(structure, first).classify(_blocks(queries, by_query), _blocks(keys, by_key), head)
    return np.asarray(some), np.asarray(every)


def _blocks(positions: int, size: int) -> np.ndarray:
    return np.minimum(np.arange(math.ceil(positions / size) * size), positions - 1).reshape(-1, size)


def _pair(block: int | tuple[int, int]) -> tuple[int, int]:
    pair = (block, block) if isinstance(block, int) else block
    if min(pair) < 1:
        raise ValueError(f"a mask's map: block sizes must be at least 1, not {pair[0]} × {pair[1]}")
    return pair


def _is_known(leaf: Any) -> bool:
    return isinstance(leaf, np.ndarray | np.generic | jax.Array) and not isinstance(leaf, Tracer)

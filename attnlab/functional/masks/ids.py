"""Masks by segment ids: packed sequences."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask, Structured
from attnlab.functional.masks.alignment import integer_array
from attnlab.functional.masks.blocks import BlockClasses, Blocks
from attnlab.functional.masks.picture import describe
from attnlab.functional.types import Extent, Positions, Where


@partial(register_dataclass, data_fields=["query_ids", "key_ids"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Segments(Structured):
    """The mask of packed sequences: queries attend within their own sequence; made by `segments`."""

    query_ids: Any
    key_ids: Any

    @property
    def _keys(self) -> Any:
        return self.query_ids if self.key_ids is None else self.key_ids

    def __call__(self, positions: Positions) -> Where:
        return self.query_ids[positions.query][:, None] == self._keys[positions.key][None, :]

    def bounds(self, blocks: Blocks) -> BlockClasses:
        ids = Blocks(self.query_ids[blocks.query], self._keys[blocks.key], None)
        (first, last), (low, high) = ids.rows_and_columns
        return (low <= last) & (first <= high), (first == last) & (low == high) & (first == low)

    def check(self, queries: Extent, keys: Extent) -> None:
        sizes = self.sizes()
        if not (queries.explicit or keys.explicit) and sizes != (queries.count, keys.count):
            raise ValueError(
                f"segments: ids for {sizes[0]} queries and {sizes[1]} keys, "
                f"but the inputs have {queries.count} and {keys.count}"
            )
        for name, size, along in (("queries", sizes[0], queries), ("keys", sizes[1], keys)):
            along.check(f"segments: the ids of {name}", size)

    def leaf_ranks(self) -> tuple[int, ...]:
        return (1,) if self.key_ids is None else (1, 1)

    def sizes(self) -> tuple[int | None, int | None]:
        return self.query_ids.shape[-1], self._keys.shape[-1]

    def expression(self) -> str:
        ids = [self.query_ids] if self.key_ids is None else [self.query_ids, self.key_ids]
        return f"segments({', '.join(map(describe, ids))})"


def segments(query_ids: Array | np.ndarray, key_ids: Array | np.ndarray | None = None) -> Mask:
    """Let a query attend only to the keys of its own sequence, for several sequences packed into one row.

    may[i, j] = query_ids[i] = key_ids[j]

    Args:
        query_ids: the sequence of each query, integers [*B, T], or [T] for all examples.
        key_ids: the sequence of each key, [*B, S] or [S], in the same dtype; None for self-attention.
    Returns: a mask with the ids as leaves, so that new ids do not compile again. Blocks are classified by their
        smallest and largest id, which is most precise if ids do not decrease along the row.
    Numerics: padding with an id of its own attends to padding; mask it with `& lengths(...)`.
    Reference: Raffel et al. 2020, section 3.1.2 (packing); Krell et al. 2021 (without contamination).

    >>> import jax.numpy as jnp
    >>> segments(jnp.array([1, 1, 2])).dense(3, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    queries, keys = integer_array("segments", query_ids), integer_array("segments", key_ids)
    for ids in (queries, keys):
        if ids is not None and ids.ndim == 0:
            raise ValueError("segments: ids must be an array [*B, T] with an id for each position, not a scalar")
    if queries is not None and keys is not None and queries.dtype != keys.dtype:
        raise ValueError(f"segments: query_ids and key_ids must have one dtype, not {queries.dtype} and {keys.dtype}")
    return Segments(queries, keys)

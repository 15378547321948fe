"""Masks by what a position belongs to: packed sequences."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask, Structured
from attnlab.functional.masks.alignment import whole_array
from attnlab.functional.masks.blocks import Answer, Blocks
from attnlab.functional.masks.picture import described
from attnlab.functional.types import Extent, Positions, Where


@partial(register_dataclass, data_fields=["query_ids", "key_ids"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Segments(Structured):
    """Nothing crosses from one packed sequence into another; made by `segments`."""

    query_ids: Any
    key_ids: Any

    @property
    def _keys(self) -> Any:
        return self.query_ids if self.key_ids is None else self.key_ids

    def __call__(self, positions: Positions) -> Where:
        return self.query_ids[positions.query][:, None] == self._keys[positions.key][None, :]

    def bounds(self, blocks: Blocks) -> Answer:
        ids = Blocks(self.query_ids[blocks.query], self._keys[blocks.key], None)
        (first, last), (low, high) = ids.rows_and_columns
        return (low <= last) & (first <= high), (first == last) & (low == high) & (first == low)

    def check(self, queries: Extent, keys: Extent) -> None:
        found = self.sizes()
        if not (queries.given or keys.given) and found != (queries.count, keys.count):
            raise ValueError(
                f"segments: ids for {found[0]} queries and {found[1]} keys, "
                f"the inputs have {queries.count} and {keys.count}"
            )
        for what, size, along in (("queries", found[0], queries), ("keys", found[1], keys)):
            along.check(f"segments: the ids of {what}", size)

    def leaf_ranks(self) -> tuple[int, ...]:
        return (1,) if self.key_ids is None else (1, 1)

    def sizes(self) -> tuple[int | None, int | None]:
        return self.query_ids.shape[-1], self._keys.shape[-1]

    def expression(self) -> str:
        ids = [self.query_ids] if self.key_ids is None else [self.query_ids, self.key_ids]
        return f"segments({', '.join(map(described, ids))})"


def segments(query_ids: Array | np.ndarray, key_ids: Array | np.ndarray | None = None) -> Mask:
    """Let a query attend to the keys of its own sequence alone, where several are packed into one row.

    may[i, j] = query_ids[i] = key_ids[j]

    Args:
        query_ids: which sequence each query belongs to, whole numbers [*B, T], or [T] for all examples.
        key_ids: the same of the keys, [*B, S] or [S], in the same dtype; None where they are the queries' own.
    Returns: a mask with the ids as leaves: new documents compile nothing anew. Blocks are told by the least and the
        greatest id in them, so ids that never fall along the row leave the fewest blocks in doubt.
    Numerics: equal ids see each other whatever they are: padding with an id of its own attends to padding;
        `& lengths(...)` ends that.
    Reference: Raffel et al. 2020, section 3.1.2 (packing); Krell et al. 2021 (without contamination).

    >>> import jax.numpy as jnp
    >>> segments(jnp.array([1, 1, 2])).dense(3, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    """
    queries, keys = whole_array("segments", query_ids), whole_array("segments", key_ids)
    for ids in (queries, keys):
        if ids is not None and ids.ndim == 0:
            raise ValueError("segments: an id for each position is needed, [*B, T], not a single number")
    if queries is not None and keys is not None and queries.dtype != keys.dtype:
        raise ValueError(f"segments: ids of one dtype are needed, not {queries.dtype} and {keys.dtype}")
    return Segments(queries, keys)

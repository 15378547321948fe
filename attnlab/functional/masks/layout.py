"""Masks given as a layout of blocks: which block of queries may attend to which block of keys."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask
from attnlab.functional.masks.alignment import static_integer
from attnlab.functional.masks.blocks import BlockClasses, Blocks, reduced
from attnlab.functional.masks.picture import describe
from attnlab.functional.types import Extent, Positions, Size, Where


@dataclass(frozen=True)
class StaticTable:
    """A hashable array of booleans, so that it can be a static field of a mask."""

    shape: tuple[int, ...]
    bits: bytes

    @property
    def array(self) -> np.ndarray:
        """The NumPy array."""
        return np.frombuffer(self.bits, bool).reshape(self.shape)


@partial(register_dataclass, data_fields=["traced"], meta_fields=["static", "block", "axes"])
@dataclass(frozen=True, repr=False, eq=False)
class BlockLayout(Mask):
    """The mask of a layout of blocks; made by `block_layout`."""

    traced: Any
    static: StaticTable | None
    block: tuple[int, int]
    axes: tuple[str, ...]
    can_classify = (True, True)

    @property
    def _table(self) -> Any:
        return self.traced if self.static is None else self.static.array

    @property
    def by_head(self) -> bool:  # pyright: ignore
        return "h" in self.axes

    def __call__(self, positions: Positions) -> Where:
        table = jnp.asarray(self._table)
        table = table[positions.head] if self.by_head else table
        return table[positions.query // self.block[0]][:, positions.key // self.block[1]]

    def bounds(self, blocks: Blocks) -> BlockClasses:
        table = self._table
        indices = blocks if self.by_head else blocks._replace(head=0)
        if any(isinstance(part, Array) for part in indices):
            table = jnp.asarray(table)
        table = table[blocks.head] if self.by_head else table
        return reduced(table, blocks.query // self.block[0], blocks.key // self.block[1])

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        shape = self._table.shape
        if self.by_head and heads not in (None, shape[-3]):
            raise ValueError(f"block_layout: the layout has {shape[-3]} heads, but the inputs have {heads}")
        return self

    def check(self, queries: Extent, keys: Extent) -> None:
        rows, columns = self._table.shape[-2:]
        expected = [-(-along.count // size) for along, size in zip((queries, keys), self.block, strict=True)]
        for along, blocks, count in ((queries, rows, expected[0]), (keys, columns, expected[1])):
            if not along.explicit and blocks != count:
                raise ValueError(
                    f"block_layout: the layout has {rows} × {columns} blocks, but {queries.count} queries and "
                    f"{keys.count} keys make {expected[0]} × {expected[1]} blocks of {self.block[0]} × {self.block[1]}"
                )
        for axis, size, along in (("q", rows * self.block[0], queries), ("k", columns * self.block[1], keys)):
            if along.explicit:
                along.check(f"block_layout: axis {axis} of the layout", size)

    def leaf_ranks(self) -> tuple[int, ...]:
        return (len([axis for axis in self.axes if axis != "b"]),) if self.static is None else ()

    def sizes(self) -> tuple[int | None, int | None]:
        rows, columns = self._table.shape[-2:]
        return rows * self.block[0], columns * self.block[1]

    def expression(self) -> str:
        return f'block_layout({describe(self._table)}, {self.block}, "{" ".join(self.axes)}")'


def block_layout(layout: Array | np.ndarray | list | tuple, block: int | tuple[int, int], axes: str = "q k") -> Mask:
    """Let whole blocks of queries attend to whole blocks of keys.

    may[i, j] = layout[⌊i / block_q⌋, ⌊j / block_k⌋]

    Args:
        layout: booleans. A NumPy array or nested lists are static: empty blocks are known at compile time, and a
            different layout compiles again. A JAX array is a leaf.
        block: positions in a block, one integer or (queries, keys). The last block may be shorter.
        axes: the axes of the layout: "q k", "h q k" (one layout per query head), or for a JAX array also "b q k" or
            "b h q k" (b for all batch axes *B).
    Returns: a mask, with the layout as its leaf if it is a JAX array.
    Reference: Gray, Radford & Kingma 2017 (block-sparse kernels).

    >>> block_layout([[True, False], [True, True]], 2).dense(3, 3).astype(int).tolist()
    [[1, 1, 0], [1, 1, 0], [1, 1, 1]]
    """
    names = tuple(axes.split())
    if names not in (("q", "k"), ("h", "q", "k"), ("b", "q", "k"), ("b", "h", "q", "k")):
        raise ValueError(f'block_layout: axes must be "q k", "h q k", "b q k" or "b h q k", not {axes!r}')
    traced = isinstance(layout, Array)
    table = layout if isinstance(layout, Array) else np.asarray(layout)
    if table.dtype != np.bool_:
        raise ValueError(f"block_layout: layout must be boolean (True = may attend), not {table.dtype}")
    if "b" in names and not traced:
        raise ValueError("block_layout: a layout with axis b must be a JAX array; write jnp.asarray(layout)")
    rank = len([name for name in names if name != "b"])
    if table.ndim < rank or ("b" not in names and table.ndim > rank):
        raise ValueError(f"block_layout: shape {table.shape} does not have the axes {axes!r}")
    sides = (block, block) if not isinstance(block, tuple) else block
    if len(sides) != 2:
        raise ValueError(f"block_layout: block must be an integer or (queries, keys), not {block}")
    rows, columns = (static_integer("block_layout", "block", side, minimum=1) for side in sides)
    static = None if isinstance(table, Array) else StaticTable(table.shape, table.tobytes())
    return BlockLayout(table if traced else None, static, (rows, columns), names)

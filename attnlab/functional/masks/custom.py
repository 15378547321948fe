"""Custom masks: an array of booleans, or a function of positions."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass

from attnlab.functional.masks.algebra import Mask
from attnlab.functional.masks.blocks import BlockClasses, Blocks, reduced
from attnlab.functional.masks.picture import describe
from attnlab.functional.parts import as_part, flatten_mapped
from attnlab.functional.signatures import check_callable
from attnlab.functional.types import Extent, Positions, Size, Where, named_axes


@partial(register_dataclass, data_fields=["where"], meta_fields=["axes"])
@dataclass(frozen=True, repr=False, eq=False)
class Dense(Mask):
    """A mask stored as an array; made by `array`."""

    where: Any
    axes: tuple[str, ...]

    can_classify = (True, True)

    @property
    def by_head(self) -> bool:  # pyright: ignore
        return "h" in self.axes

    def _table(self, head: Any) -> Any:
        """Return the array of one head with both axes q and k; an axis that the mask lacks has length 1."""
        table = self.where[head] if self.by_head else self.where
        table = table if "q" in self.axes else table[None]
        return table if "k" in self.axes else table[:, None]

    def __call__(self, positions: Positions) -> Where:
        where = self._table(positions.head)
        where = where[positions.query] if "q" in self.axes else where
        where = where[:, positions.key] if "k" in self.axes else where
        return jnp.broadcast_to(where, (positions.query.size, positions.key.size))

    def bounds(self, blocks: Blocks) -> BlockClasses:
        rows = blocks.query if "q" in self.axes else None
        return reduced(self._table(blocks.head), rows, blocks.key if "k" in self.axes else None)

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        size = self._sizes.get("h")
        if None in (size, heads) or size == heads:
            return self
        if size == 1:
            where = jnp.squeeze(self.where, self.axes.index("h") - len(self.axes))
            return Dense(where, tuple(axis for axis in self.axes if axis != "h"))
        raise ValueError(f"array: axis h of the mask has size {size}, but the inputs have {heads} heads")

    def check(self, queries: Extent, keys: Extent) -> None:
        sizes = self._sizes
        for axis, along in (("q", queries), ("k", keys)):
            if axis in sizes:
                instead = f"to broadcast along {axis}, remove that axis and write array(where, axes=...) without {axis}"
                along.check(f"array: axis {axis} of the mask", sizes[axis], instead)

    @property
    def _sizes(self) -> dict[str, int]:
        return dict(zip(reversed(self.axes), reversed(self.where.shape), strict=False))

    def leaf_ranks(self) -> tuple[int, ...]:
        return (len([axis for axis in self.axes if axis != "b"]),)

    def sizes(self) -> tuple[int | None, int | None]:
        return self._sizes.get("q"), self._sizes.get("k")

    def expression(self) -> str:
        return f'array({describe(self.where)}, "{" ".join(self.axes)}")'


def array(where: Array, axes: str = "q k") -> Mask:
    """Make a mask from an array of booleans with named axes.

    may[i, j] = where[…, i, j]

    Args:
        where: True where a query may attend to a key.
        axes: its axes, in this order and separated by spaces: b (all batch axes *B), h (query heads), q, k. An axis
            that is left out is shared: "b k" is a padding mask. Axes b and h of size 1 are shared too; q and k are as
            long as the inputs, or longer than every given position (inside jit, where positions are unknown, those
            beyond the end use the last entry).
    Returns: a mask with the array as its leaf.

    >>> array(jnp.array([True, False]), axes="k").dense(2, 2).astype(int).tolist()
    [[1, 0], [1, 0]]
    """
    names = tuple(axes.split()) if isinstance(axes, str) else ("?",)
    if names != tuple(name for name in "bhqk" if name in names):
        raise ValueError(f"array: axes {axes!r} {named_axes(axes)}")
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise ValueError(
            f"array: where must be boolean (True = may attend), not {where.dtype}; write where.astype(bool) for 0 and "
            f'1, mods.bias(where, "{axes}") to add it to the logits'
        )
    rank = len([name for name in names if name != "b"])
    if where.ndim < rank or ("b" not in names and where.ndim > rank):
        raise ValueError(f"array: shape {where.shape} does not have the axes {axes!r}; {named_axes(where.ndim)}")
    return Dense(where, names)


@partial(register_dataclass, data_fields=["fn"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class FromFn(Mask):
    """A mask computed by a function of positions; made by `from_fn`."""

    fn: Callable[..., Array]

    def __call__(self, positions: Positions) -> Where:
        where = self.fn(positions.rows, positions.columns, positions.head)
        return jnp.broadcast_to(where, (positions.query.size, positions.key.size))

    def leaf_ranks(self) -> tuple[int, ...]:
        return tuple(leaf.ndim for leaf in jax.tree.leaves(self.fn))

    def expression(self) -> str:
        function: Any = self.fn
        while isinstance(function, partial):
            function = function.func
        name = getattr(function, "__name__", type(function).__name__)
        return f"from_fn({', '.join([name, *map(describe, jax.tree.leaves(self.fn))])})"


def from_fn(fn: Callable[[Array, Array, Array], Array]) -> Mask:
    """Make a mask from a function `fn(query_position, key_position, head)` that returns True for may attend.

    may[i, j] = fn(i, j, head)

    Args:
        fn: a function of positions [q, 1] and [1, k] and a head [] that returns booleans which broadcast to [q, k].
            Arrays are bound with `jax.tree_util.Partial`, and shared by all examples.
    Returns: a mask with the bound arrays as leaves. Its blocks cannot be classified, so that none is skipped; combined
        by & with another mask, the empty blocks of that mask are skipped.

    >>> from_fn(lambda query, key, head: (query - key) % 2 == 0).dense(2, 3).astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    if not callable(fn):
        raise ValueError(
            f"from_fn: fn must be a function, not {describe(fn)}; for an array of booleans write array(where)"
        )
    check_callable("from_fn: fn", fn, ("query", "key", "head"))
    part = as_part(fn)
    if any(flatten_mapped(part)[1]):
        raise ValueError(
            "from_fn: arrays of fn are shared by all heads and examples, so parts.map_over has no effect; "
            "write array[head] in fn for an array per head"
        )
    return FromFn(jax.tree.map(jnp.asarray, part))

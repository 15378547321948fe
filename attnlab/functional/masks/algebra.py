"""Masks that combine by & | ~, and their combinations."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool

from attnlab.functional.masks import picture
from attnlab.functional.masks.base import BaseMask
from attnlab.functional.masks.blocks import BlockClasses, Blocks
from attnlab.functional.types import Extent, Positions, Size, Where


class Mask(BaseMask):
    """Which query may attend to which key: a function of positions, and a pytree.

    A custom mask derives from this, implements `__call__`, and is registered as a pytree
    (`jax.tree_util.register_dataclass`). The defaults of all other methods are conservative.
    """

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> "Mask":
        """Return this mask for these numbers of queries, keys and query heads (None: any); raise if it does not fit."""
        return self

    def placed(self, queries: int, keys: int, heads: int | None = None) -> "Mask":
        """Return this mask for queries at 0 … queries − 1 and keys at 0 … keys − 1; raise if it does not fit."""
        self.check(Extent("query", queries), Extent("key", keys))
        return self.fitted(queries, keys, heads)

    def dense(self, queries: int, keys: int, head: int = 0) -> Bool[Array, "*B q k"]:
        """Return the mask as an array [queries, keys], with the batch axes of its arrays, if any, in front."""
        mask = self.placed(queries, keys)
        leaves, treedef = jax.tree.flatten(mask)
        fronts = {leaf.shape[: leaf.ndim - rank] for leaf, rank in zip(leaves, mask.leaf_ranks(), strict=True)}
        batch = max(fronts, key=lambda front: (len(front), front), default=())
        axes = mask.batch_axes(batch)
        leaves = [
            leaf if axis is None else jnp.broadcast_to(leaf, (*batch, *leaf.shape[len(batch) :]))
            for leaf, axis in zip(leaves, axes, strict=True)
        ]

        def dense_example(leaves: list[Array], example: Array) -> Array:
            rows, columns = jnp.arange(queries, dtype=jnp.int32), jnp.arange(keys, dtype=jnp.int32)
            return jax.tree.unflatten(treedef, leaves)(Positions(rows, columns, jnp.int32(head), example))

        for _ in batch:
            dense_example = jax.vmap(dense_example, in_axes=(axes, 0))
        return dense_example(leaves, jnp.arange(math.prod(batch), dtype=jnp.int32).reshape(batch))

    def sparsity(self, queries: int, keys: int, block: int | tuple[int, int] = 128, head: int = 0) -> float:
        """Return the share of blocks, in [0, 1], that are known to be empty (for the first example).

        >>> from attnlab.functional import masks
        >>> masks.causal().sparsity(1024, 1024, block=256)
        0.375
        """
        return 1.0 - float(picture.classify_blocks(self.placed(queries, keys), queries, keys, block, head)[0].mean())

    def map(self, queries: int, keys: int, block: int | tuple[int, int] | None = None, head: int = 0) -> str:
        """Return the map of blocks as text, for the first example: █ full, ▒ partial, · empty.

        >>> from attnlab.functional import masks
        >>> print(masks.sliding_window(4, 0).map(16, 16, block=4))
        16 × 16 in blocks of 4 × 4: 56% empty, 0% full
        ▒···
        ▒▒··
        ·▒▒·
        ··▒▒
        """
        return picture.draw_map(self.placed(queries, keys), queries, keys, block, head)

    def __repr__(self) -> str:
        return picture.mask_repr(self)

    def __and__(self, other: "Mask") -> "Mask":
        return And(self, _other("&", other))

    def __or__(self, other: "Mask") -> "Mask":
        return Or(self, _other("|", other))

    def __rand__(self, other: object) -> "Mask":
        return And(_other("&", other), self)

    def __ror__(self, other: object) -> "Mask":
        return Or(_other("|", other), self)

    def __invert__(self) -> "Mask":
        return Not(self)


def _other(sign: str, other: object) -> Mask:
    if isinstance(other, Mask):
        return other
    code = "masks.array(where, axes)" if hasattr(other, "shape") else "call a function of masks"
    raise TypeError(
        f"a mask can only be combined with a mask, not with {picture.describe(other)}; write mask {sign} {code}"
    )


class Structured(Mask):
    """A mask that can classify its blocks, and is the same for all heads."""

    by_head = False
    can_classify = (True, True)


class _Both(Mask):
    """Two masks combined."""

    left: Mask
    right: Mask

    def _with(self, change: Callable[[Mask], Mask]) -> Mask:
        return type(self)(change(self.left), change(self.right))  # pyright: ignore

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        return self._with(lambda mask: mask.fitted(queries, keys, heads))

    def check(self, queries: Extent, keys: Extent) -> None:
        self.left.check(queries, keys)
        self.right.check(queries, keys)

    def leaf_ranks(self) -> tuple[int, ...]:
        return self.left.leaf_ranks() + self.right.leaf_ranks()

    def sizes(self) -> tuple[int | None, int | None]:
        left, right = self.left.sizes(), self.right.sizes()
        return left[0] or right[0], left[1] or right[1]

    def reach(self) -> int:
        return max(self.left.reach(), self.right.reach())

    @property
    def by_head(self) -> bool:  # pyright: ignore
        return self.left.by_head or self.right.by_head


@partial(register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class And(_Both):
    """The intersection of two masks, left & right: a query may attend to a key if both masks allow it."""

    left: Mask
    right: Mask

    def __call__(self, positions: Positions) -> Where:
        return self.left(positions) & self.right(positions)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        left, right = self.left.bounds(blocks), self.right.bounds(blocks)
        return left[0] & right[0], left[1] & right[1]

    @property
    def can_classify(self) -> tuple[bool, bool]:  # pyright: ignore
        left, right = self.left.can_classify, self.right.can_classify
        return left[0] or right[0], left[1] and right[1]

    def expression(self) -> str:
        sides = (self.left, self.right)
        return " & ".join(f"({m.expression()})" if isinstance(m, Or) else m.expression() for m in sides)


@partial(register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Or(_Both):
    """The union of two masks, left | right: a query may attend to a key if either mask allows it."""

    left: Mask
    right: Mask

    def __call__(self, positions: Positions) -> Where:
        return self.left(positions) | self.right(positions)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        left, right = self.left.bounds(blocks), self.right.bounds(blocks)
        return left[0] | right[0], left[1] | right[1]

    @property
    def can_classify(self) -> tuple[bool, bool]:  # pyright: ignore
        left, right = self.left.can_classify, self.right.can_classify
        return left[0] and right[0], left[1] or right[1]

    def expression(self) -> str:
        return f"{self.left.expression()} | {self.right.expression()}"


@partial(register_dataclass, data_fields=["mask"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Not(Mask):
    """The complement of a mask, ~mask: a query may attend to a key if the mask does not allow it."""

    mask: Mask

    def __call__(self, positions: Positions) -> Where:
        return ~self.mask(positions)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        some, every = self.mask.bounds(blocks)
        return ~every, ~some

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        return Not(self.mask.fitted(queries, keys, heads))

    def check(self, queries: Extent, keys: Extent) -> None:
        self.mask.check(queries, keys)

    def leaf_ranks(self) -> tuple[int, ...]:
        return self.mask.leaf_ranks()

    def sizes(self) -> tuple[int | None, int | None]:
        return self.mask.sizes()

    def reach(self) -> int:
        return self.mask.reach()

    @property
    def by_head(self) -> bool:  # pyright: ignore
        return self.mask.by_head

    @property
    def can_classify(self) -> tuple[bool, bool]:  # pyright: ignore
        empty, full = self.mask.can_classify
        return full, empty

    def expression(self) -> str:
        inner = self.mask.expression()
        return f"~({inner})" if isinstance(self.mask, And | Or) else f"~{inner}"

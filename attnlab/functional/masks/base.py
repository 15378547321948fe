"""The base of every mask, and the algebra & | ~."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.core import Tracer
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Int

from attnlab.functional.masks import picture
from attnlab.functional.masks.blocks import Answer, Blocks, filled, narrowed
from attnlab.functional.types import Extent, Positions, Size, Where


class Mask:
    """Which query may attend to which key: a function of positions, and a pytree.

    A mask of one's own derives from this, says in `__call__` what may attend, and is registered as a pytree
    (`jax.tree_util.register_dataclass`); what it does not say below is then answered conservatively.
    """

    by_head: bool = True
    """Whether it may differ from head to head."""
    tells: tuple[bool, bool] = (False, False)
    """Whether `classify` can ever be certain that a block is (empty, full)."""

    def __call__(self, positions: Positions) -> Where:
        """Tell which of these queries may attend to which of these keys."""
        raise NotImplementedError(f"{type(self).__name__} does not say what it masks")

    def __eq__(self, other: object) -> bool:
        """Tell whether both are made alike, of equal arrays; of arrays that are traced, whether they are the same."""
        if not isinstance(other, Mask):
            return NotImplemented
        (mine, structure), (theirs, other_structure) = jax.tree.flatten(self), jax.tree.flatten(other)
        return structure == other_structure and all(map(_equal, mine, theirs))

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)))

    def __bool__(self) -> bool:
        """Refuse `and`, `or` and `not`, which would quietly pick one of two masks."""
        raise TypeError("a mask is neither true nor false: combine masks by &, | and ~, and ask for `mask is None`")

    def expression(self) -> str:
        """Write the mask as one would make it, its arrays by dtype and shape."""
        return f"{type(self).__name__}({', '.join(map(picture.described, jax.tree.leaves(self)))})"

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> "Mask":
        """Return this mask for so many queries, keys and query heads (None: any); raise where it cannot be."""
        return self

    def check(self, queries: Extent, keys: Extent) -> None:
        """Raise where its arrays do not fit the positions of these queries and keys."""

    def leaf_ranks(self) -> tuple[int, ...]:
        """Return the rank of each leaf within one example; axes in front of it are batch axes."""
        return ()

    def sizes(self) -> tuple[int | None, int | None]:
        """Return the numbers of queries and keys where its arrays fix them."""
        return None, None

    def reach(self) -> int:
        """Return a number of queries and keys at which a picture shows the pattern."""
        return picture.CELLS

    def outline(self) -> "Mask":
        """Return the mask with all open that its arrays decide: `classify` then needs no array and is not wrong.

        Under jit the arrays are unknown; what the rest of the mask makes empty is known all the same.
        """
        return Open() if jax.tree.leaves(self) else self

    @property
    def structured(self) -> bool:
        """Whether `classify` can find empty blocks at all, so that skipping them may pay."""
        return self.tells[0]

    def batch_axes(self, batch: tuple[Size, ...]) -> list[int | None]:
        """Return, leaf by leaf, 0 where it carries the batch axes (of size 1 or whole), None where all share it."""
        axes: list[int | None] = []
        for leaf, rank in zip(jax.tree.leaves(self), self.leaf_ranks(), strict=True):
            front = leaf.shape[: leaf.ndim - rank]
            if front and (
                len(front) != len(batch) or any(size not in (1, all) for size, all in zip(front, batch, strict=True))
            ):
                raise ValueError(f"a mask's array has batch axes {front}, the inputs have {batch}")
            axes.append(0 if front else None)
        return axes

    def placed(self, queries: int, keys: int, heads: int | None = None) -> "Mask":
        """Return this mask for queries at 0 … queries − 1 and keys at 0 … keys − 1; raise where it cannot be."""
        self.check(Extent("query", queries), Extent("key", keys))
        return self.fitted(queries, keys, heads)

    def dense(self, queries: int, keys: int, head: int = 0) -> Bool[Array, "*B q k"]:
        """Write the mask out: [queries, keys], with the batch axes that its arrays carry in front."""
        mask = self.placed(queries, keys)
        leaves, treedef = jax.tree.flatten(mask)
        fronts = {leaf.shape[: leaf.ndim - rank] for leaf, rank in zip(leaves, mask.leaf_ranks(), strict=True)}
        batch = max(fronts, key=lambda front: (len(front), front), default=())
        axes = mask.batch_axes(batch)
        leaves = [
            leaf if axis is None else jnp.broadcast_to(leaf, (*batch, *leaf.shape[len(batch) :]))
            for leaf, axis in zip(leaves, axes, strict=True)
        ]

        def one(leaves: list[Array], example: Array) -> Array:
            rows, columns = jnp.arange(queries, dtype=jnp.int32), jnp.arange(keys, dtype=jnp.int32)
            return jax.tree.unflatten(treedef, leaves)(Positions(rows, columns, jnp.int32(head), example))

        for _ in batch:
            one = jax.vmap(one, in_axes=(axes, 0))
        return one(leaves, jnp.arange(math.prod(batch), dtype=jnp.int32).reshape(batch))

    def classify(
        self,
        query_blocks: Int[Array | np.ndarray, "m bq"],
        key_blocks: Int[Array | np.ndarray, "n bk"],
        head: Int[Array, ""] | int = 0,
    ) -> tuple[Bool[Array | np.ndarray, "m n"], Bool[Array | np.ndarray, "m n"]]:
        """Tell, without writing the mask out, which blocks certainly are empty and which certainly are full.

        Args:
            query_blocks: the positions of each block of queries, in any order, with gaps or twice.
            key_blocks: likewise for keys.
            head: number of the query head.
        Returns: (some, every). Where `some` is False no query of the block may attend to any key of it; where
            `every` is True all may attend to all. NumPy arrays, found without tracing, where the positions are
            NumPy's and the mask holds no JAX array. The arrays of the mask are those of one example.
        """
        blocks = Blocks(narrowed(query_blocks), narrowed(key_blocks), head)
        shape = (blocks.query.shape[0], blocks.key.shape[0])
        some, every = self.bounds(blocks)
        return filled(some, shape), filled(every, shape)

    def bounds(self, blocks: Blocks) -> Answer:
        """Answer `classify`, in tables that broadcast to [m, n]."""
        return np.ones((1, 1), bool), np.zeros((1, 1), bool)

    def sparsity(self, queries: int, keys: int, block: int | tuple[int, int] = 128, head: int = 0) -> float:
        """Return the share of blocks, in [0, 1], that are known to be empty (of the first example).

        >>> from attnlab.functional import masks
        >>> masks.causal().sparsity(1024, 1024, block=256)
        0.375
        """
        return 1.0 - float(picture.classes(self.placed(queries, keys), queries, keys, block, head)[0].mean())

    def map(self, queries: int, keys: int, block: int | tuple[int, int] | None = None, head: int = 0) -> str:
        """Draw the blocks as text, the first example's: █ all may attend, ▒ some may, · none may.

        >>> from attnlab.functional import masks
        >>> print(masks.sliding_window(4, 0).map(16, 16, block=4))
        16 × 16 in blocks of 4 × 4: 56% empty, 0% full
        ▒···
        ▒▒··
        ·▒▒·
        ··▒▒
        """
        return picture.drawn(self.placed(queries, keys), queries, keys, block, head)

    def __repr__(self) -> str:
        return picture.portrait(self)

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
    what = picture.described(other)
    made = "masks.array(where, axes)" if hasattr(other, "shape") else "call a function of masks"
    raise TypeError(f"a mask is combined with masks alone, not with {what}; write mask {sign} {made}")


def _equal(one: Array | np.ndarray, other: Array | np.ndarray) -> bool:
    if one is other or isinstance(one, Tracer) or isinstance(other, Tracer):
        return one is other
    return one.shape == other.shape and one.dtype == other.dtype and bool(np.array_equal(one, other))


class Structured(Mask):
    """A mask whose blocks can be told empty and full, the same for all heads."""

    by_head = False
    tells = (True, True)


@partial(register_dataclass, data_fields=[], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Open(Mask):
    """What is not known yet: any block may be anything; made by `outline`."""

    by_head = False

    def expression(self) -> str:
        return "?"


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

    def outline(self) -> Mask:
        return self._with(lambda mask: mask.outline())

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
    """May attend where both masks say so; written left & right."""

    left: Mask
    right: Mask

    def __call__(self, positions: Positions) -> Where:
        return self.left(positions) & self.right(positions)

    def bounds(self, blocks: Blocks) -> Answer:
        left, right = self.left.bounds(blocks), self.right.bounds(blocks)
        return left[0] & right[0], left[1] & right[1]

    @property
    def tells(self) -> tuple[bool, bool]:  # pyright: ignore
        left, right = self.left.tells, self.right.tells
        return left[0] or right[0], left[1] and right[1]

    def expression(self) -> str:
        sides = (self.left, self.right)
        return " & ".join(f"({m.expression()})" if isinstance(m, Or) else m.expression() for m in sides)


@partial(register_dataclass, data_fields=["left", "right"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Or(_Both):
    """May attend where either mask says so; written left | right."""

    left: Mask
    right: Mask

    def __call__(self, positions: Positions) -> Where:
        return self.left(positions) | self.right(positions)

    def bounds(self, blocks: Blocks) -> Answer:
        left, right = self.left.bounds(blocks), self.right.bounds(blocks)
        return left[0] | right[0], left[1] | right[1]

    @property
    def tells(self) -> tuple[bool, bool]:  # pyright: ignore
        left, right = self.left.tells, self.right.tells
        return left[0] and right[0], left[1] or right[1]

    def expression(self) -> str:
        return f"{self.left.expression()} | {self.right.expression()}"


@partial(register_dataclass, data_fields=["mask"], meta_fields=[])
@dataclass(frozen=True, repr=False, eq=False)
class Not(Mask):
    """May attend where the mask says not; written ~mask."""

    mask: Mask

    def __call__(self, positions: Positions) -> Where:
        return ~self.mask(positions)

    def bounds(self, blocks: Blocks) -> Answer:
        some, every = self.mask.bounds(blocks)
        return ~every, ~some

    def fitted(self, queries: Size, keys: Size, heads: int | None = None) -> Mask:
        return Not(self.mask.fitted(queries, keys, heads))

    def check(self, queries: Extent, keys: Extent) -> None:
        self.mask.check(queries, keys)

    def outline(self) -> Mask:
        return Not(self.mask.outline())

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
    def tells(self) -> tuple[bool, bool]:  # pyright: ignore
        empty, full = self.mask.tells
        return full, empty

    def expression(self) -> str:
        inner = self.mask.expression()
        return f"~({inner})" if isinstance(self.mask, And | Or) else f"~{inner}"

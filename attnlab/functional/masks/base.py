"""The contract of a mask: a predicate on positions, and what else its callers may ask of it."""

import jax
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Int

from attnlab.functional.masks import picture
from attnlab.functional.masks.blocks import BlockClasses, Blocks, filled, narrowed
from attnlab.functional.types import Extent, Positions, Size, Where


class BaseMask:
    """What the backends need of a mask: its values at positions, and which blocks are empty or full.

    The defaults of all methods but `__call__` are conservative.
    """

    by_head: bool = True
    """Whether it may differ between heads."""
    tells: tuple[bool, bool] = (False, False)
    """Whether `classify` can determine that a block is (empty, full)."""

    def __call__(self, positions: Positions) -> Where:
        """Return which of these queries may attend to which of these keys."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    def __eq__(self, other: object) -> bool:
        """Return whether both masks are of the same kind with equal arrays; a traced array equals itself only."""
        if not isinstance(other, BaseMask):
            return NotImplemented
        (mine, structure), (theirs, other_structure) = jax.tree.flatten(self), jax.tree.flatten(other)
        return structure == other_structure and all(map(_equal, mine, theirs))

    def __hash__(self) -> int:
        leaves, structure = jax.tree.flatten(self)
        return hash((structure, tuple((leaf.shape, str(leaf.dtype)) for leaf in leaves)))

    def __bool__(self) -> bool:
        """Raise for `and`, `or` and `not`, which would silently return one of two masks."""
        raise TypeError("a mask has no truth value; combine masks with &, | and ~, and test `mask is None`")

    def expression(self) -> str:
        """Return the call that makes the mask, with arrays as dtype and shape."""
        return f"{type(self).__name__}({', '.join(map(picture.describe, jax.tree.leaves(self)))})"

    def check(self, queries: Extent, keys: Extent) -> None:
        """Raise if its arrays do not fit the positions of these queries and keys."""

    def leaf_ranks(self) -> tuple[int, ...]:
        """Return the rank of each leaf for one example; any axes before those are batch axes."""
        return ()

    def sizes(self) -> tuple[int | None, int | None]:
        """Return the numbers of queries and keys, or None where its arrays do not determine them."""
        return None, None

    def reach(self) -> int:
        """Return a number of queries and keys at which the printed map shows the pattern."""
        return picture.CELLS

    @property
    def structured(self) -> bool:
        """Whether `classify` can find empty blocks, so that skipping may be faster."""
        return self.tells[0]

    def batch_axes(self, batch: tuple[Size, ...]) -> list[int | None]:
        """Return, for each leaf, 0 if it carries the batch axes (full or of size 1), None if all examples share it."""
        axes: list[int | None] = []
        for leaf, rank in zip(jax.tree.leaves(self), self.leaf_ranks(), strict=True):
            front = leaf.shape[: leaf.ndim - rank]
            if front and (
                len(front) != len(batch) or any(size not in (1, all) for size, all in zip(front, batch, strict=True))
            ):
                raise ValueError(f"an array of the mask has batch axes {front}, the inputs have {batch}")
            axes.append(0 if front else None)
        return axes

    def classify(
        self,
        query_blocks: Int[Array | np.ndarray, "m bq"],
        key_blocks: Int[Array | np.ndarray, "n bk"],
        head: Int[Array, ""] | int = 0,
    ) -> tuple[Bool[Array | np.ndarray, "m n"], Bool[Array | np.ndarray, "m n"]]:
        """Classify blocks as empty, partial or full, without writing the mask out.

        Args:
            query_blocks: the positions of each block of queries, in any order, with gaps or repeats.
            key_blocks: the positions of each block of keys, likewise.
            head: index of the query head.
        Returns: (some, every). Where `some` is False, no query of the block may attend to any of its keys; where
            `every` is True, every query may attend to every key. NumPy arrays, computed without tracing, where the
            positions are NumPy arrays and the mask holds no JAX array. The arrays of the mask are those of one example.
        """
        blocks = Blocks(narrowed(query_blocks), narrowed(key_blocks), head)
        shape = (blocks.query.shape[0], blocks.key.shape[0])
        some, every = self.bounds(blocks)
        return filled(some, shape), filled(every, shape)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        """Implement `classify`, in arrays that broadcast to [m, n]."""
        return np.ones((1, 1), bool), np.zeros((1, 1), bool)


def _equal(one: Array | np.ndarray, other: Array | np.ndarray) -> bool:
    if one is other or isinstance(one, Tracer) or isinstance(other, Tracer):
        return one is other
    return one.shape == other.shape and one.dtype == other.dtype and bool(np.array_equal(one, other))

"""The interface of a mask: a predicate on positions, and the properties that backends and checks use."""

import jax
import numpy as np
from jax import Array
from jax.core import Tracer
from jaxtyping import Bool, Int

from attnlab.functional.masks import picture
from attnlab.functional.masks.blocks import BlockClasses, Blocks, filled, narrowed
from attnlab.functional.types import Extent, Positions, Size, Where


class BaseMask:
    """The interface of a mask: its values at positions, and the blocks that are known to be empty or full.

    The defaults of all methods but `__call__` are conservative.
    """

    by_head: bool = True
    """Whether the mask may differ between heads."""
    can_classify: tuple[bool, bool] = (False, False)
    """Whether `classify` can determine that a block is (empty, full)."""

    def __call__(self, positions: Positions) -> Where:
        """Return the mask of a block, [q, k], at these positions: True = may attend."""
        raise NotImplementedError(f"{type(self).__name__} must implement __call__")

    def __eq__(self, other: object) -> bool:
        """Return whether both masks are of the same kind with equal arrays; a traced array equals only itself."""
        if not isinstance(other, BaseMask):
            return NotImplemented
        (leaves, structure), (other_leaves, other_structure) = jax.tree.flatten(self), jax.tree.flatten(other)
        return structure == other_structure and all(map(_equal, leaves, other_leaves))

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
        """Return the numbers of queries and keys, each None if its arrays do not determine it."""
        return None, None

    def reach(self) -> int:
        """Return a number of queries and keys at which the printed map shows the pattern."""
        return picture.CELLS

    @property
    def structured(self) -> bool:
        """Whether `classify` can find empty blocks, so that skipping may be faster."""
        return self.can_classify[0]

    def batch_axes(self, batch: tuple[Size, ...]) -> list[int | None]:
        """Return, for each leaf, 0 if it has the batch axes (of their length or 1), None if all examples share it."""
        axes: list[int | None] = []
        for leaf, rank in zip(jax.tree.leaves(self), self.leaf_ranks(), strict=True):
            front = leaf.shape[: leaf.ndim - rank]
            if front and (
                len(front) != len(batch)
                or any(size not in (1, count) for size, count in zip(front, batch, strict=True))
            ):
                raise ValueError(f"an array of the mask has batch axes {front}, but the inputs have {batch}")
            axes.append(0 if front else None)
        return axes

    def classify(
        self,
        query_blocks: Int[Array | np.ndarray, "m bq"],
        key_blocks: Int[Array | np.ndarray, "n bk"],
        head: Int[Array, ""] | int = 0,
    ) -> tuple[Bool[Array | np.ndarray, "m n"], Bool[Array | np.ndarray, "m n"]]:
        """Classify blocks as empty, partial or full, without computing the mask.

        Args:
            query_blocks: the positions of each block of queries, in any order, with gaps or repeats.
            key_blocks: the positions of each block of keys, likewise.
            head: index of the query head.
        Returns: (some, every). If `some` is False, no query of the block may attend to any of its keys; if `every` is
            True, every query may attend to every key. NumPy arrays, computed without tracing, if the positions are
            NumPy arrays and the mask holds no JAX array. The arrays of the mask must be those of one example.
        """
        blocks = Blocks(narrowed(query_blocks), narrowed(key_blocks), head)
        shape = (blocks.query.shape[0], blocks.key.shape[0])
        some, every = self.bounds(blocks)
        return filled(some, shape), filled(every, shape)

    def bounds(self, blocks: Blocks) -> BlockClasses:
        """Implement `classify`, in arrays that broadcast to [m, n]."""
        return np.ones((1, 1), bool), np.zeros((1, 1), bool)


def _equal(leaf: Array | np.ndarray, other: Array | np.ndarray) -> bool:
    if leaf is other or isinstance(leaf, Tracer) or isinstance(other, Tracer):
        return leaf is other
    return leaf.shape == other.shape and leaf.dtype == other.dtype and bool(np.array_equal(leaf, other))

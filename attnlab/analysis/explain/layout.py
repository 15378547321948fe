"""The embedded inputs of a model as one array [n d] of all positions, as methods of attribution take them."""

from dataclasses import dataclass
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, PyTree


@dataclass(frozen=True)
class Layout:
    """The places of embedded arrays [r n ...] in one array [n d]: one group of arrays after another.

    The arrays of a group have the same positions: their features stand side by side. Where another group has more
    features, zeros follow, which no function of the model depends on.

    Attributes:
        tree: a leaf for each group: a tree prefix of the embedded inputs.
        shapes: shape and dtype of the arrays of each group, for one example: [n ...].
    """

    tree: Any
    shapes: tuple[tuple[jax.ShapeDtypeStruct, ...], ...]

    @classmethod
    def of(cls, tree: Any, embedded: PyTree) -> "Layout":
        """Return the layout of embedded inputs, arrays or their shapes."""
        groups = [jax.tree.leaves(group) for group in tree.flatten_up_to(embedded)]
        return cls(tree, tuple(tuple(jax.ShapeDtypeStruct(a.shape[1:], a.dtype) for a in arrays) for arrays in groups))

    @property
    def widths(self) -> list[int]:
        """Return the number of positions of each group."""
        return [arrays[0].shape[0] for arrays in self.shapes]

    @property
    def features(self) -> list[int]:
        """Return the number of features of each group."""
        return [sum(prod(array.shape[1:]) for array in arrays) for arrays in self.shapes]

    @property
    def slices(self) -> list[slice]:
        """Return the positions of each group."""
        ends = [sum(self.widths[: number + 1]) for number in range(len(self.widths))]
        return [slice(end - width, end) for end, width in zip(ends, self.widths, strict=True)]

    def join(self, embedded: PyTree) -> Float[Array, "n d"]:
        """Return the embedded inputs of the first row of a batch as one array."""
        groups, width = [], max(self.features)
        for group in self.tree.flatten_up_to(embedded):
            arrays = [array[0].reshape(array.shape[1], -1).astype(jnp.float32) for array in jax.tree.leaves(group)]
            joined = jnp.concatenate(arrays, axis=1)
            groups.append(jnp.pad(joined, ((0, 0), (0, width - joined.shape[1]))))
        return jnp.concatenate(groups)

    def split(self, joined: Float[Array, "n d"], rows: int, like: PyTree) -> PyTree:
        """Return the embedded inputs of a batch whose rows are all the same.

        Args:
            joined: as `join` returns it.
            rows: number of rows.
            like: embedded inputs, arrays or their shapes.
        """
        groups = []
        for place, shapes, group in zip(self.slices, self.shapes, self.tree.flatten_up_to(like), strict=True):
            start, arrays = 0, []
            for shape in shapes:
                size = prod(shape.shape[1:])
                array = joined[place, start : start + size].reshape(shape.shape).astype(shape.dtype)
                arrays.append(jnp.broadcast_to(array, (rows, *shape.shape)))
                start += size
            groups.append(jax.tree.unflatten(jax.tree.structure(group), arrays))
        return self.tree.unflatten(groups)

"""Varying axes inside a caller's `jax.shard_map`: the axes of the mesh over which an array may differ.

With `check_vma=True`, the default, the carry of a loop and both branches of a `cond` must vary over the same axes. New
zeros vary over no axis, while the terms added to them vary like the inputs.
"""

from typing import Any, TypeVar

import jax

Tree = TypeVar("Tree")


def varying_axes(tree: Any) -> frozenset[str]:
    """Return the manual axes over which any array of the tree varies; none outside of `jax.shard_map`.

    >>> varying_axes(jax.numpy.ones(3))
    frozenset()
    """
    return frozenset().union(*(jax.typeof(leaf).manual_axis_type.varying for leaf in jax.tree.leaves(tree)))


def vary_like(tree: Tree, like: Any) -> Tree:
    """Mark the arrays of a tree as varying over all axes that those of `like` vary over.

    The values stay the same; gradients are summed over the new axes, as over devices that share an array.

    >>> vary_like(jax.numpy.ones(3), jax.numpy.ones(2)).tolist()
    [1.0, 1.0, 1.0]
    """
    axes = varying_axes(like)

    def vary(leaf: Any) -> Any:
        new = axes - varying_axes(leaf)
        return jax.lax.pcast(leaf, tuple(sorted(new)), to="varying") if new else leaf

    return jax.tree.map(vary, tree) if axes else tree

"""Types of arrays inside a caller's `jax.shard_map`: over which axes of the mesh an array may differ.

With `check_vma=True`, its default, the carry of a loop has one such type from its first step to its last, and so
have both branches of a `cond`. Zeros made on the spot vary over nothing; what is added to them varies as the inputs.
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
    """Return the arrays of the tree, varying over all axes that those of `like` vary over.

    The values stay; a gradient is added up over the axes that are new, as it is over devices that share an array.

    >>> vary_like(jax.numpy.ones(3), jax.numpy.ones(2)).tolist()
    [1.0, 1.0, 1.0]
    """
    axes = varying_axes(like)

    def vary(leaf: Any) -> Any:
        new = axes - varying_axes(leaf)
        return jax.lax.pcast(leaf, tuple(sorted(new)), to="varying") if new else leaf

    return jax.tree.map(vary, tree) if axes else tree

"""Applying a feature map to queries or keys of all heads and examples."""

from collections.abc import Callable
from typing import Any

import jax
from jax import Array
from jaxtyping import Float, Int

from attnlab.functional.linear.positional import Positional
from attnlab.functional.parts import as_part, flatten_mapped

FeatureMap = Callable[..., Array]
"""(features [t d]) -> features [t m]; a `Positional` takes the positions [t] second."""


def map_features(
    name: str, feature_map: FeatureMap, inputs: Float[Array, "*B T H D"], positions: Int[Array, " T"]
) -> Float[Array, "*B T H M"]:
    """Apply a feature map to every head of every example.

    Args:
        name: "query" or "key", for errors.
        feature_map: a map of one head of one example; arrays wrapped by `parts.map_over` have an entry for each head of
            these inputs, or each example.
        inputs: queries or keys.
        positions: of the tokens.
    Returns: their features.

    >>> import jax.numpy as jnp
    >>> map_features("key", jnp.abs, jnp.full((1, 1, 2), -3.0), jnp.arange(1)).tolist()
    [[[3.0, 3.0]]]
    """
    arrays, axes, structure = flatten_mapped(as_part(feature_map))
    batch, heads = inputs.shape[:-3], inputs.shape[-2]
    for array, over in zip(arrays, axes, strict=True):
        front = (*(batch if "b" in over else ()), *((heads,) if "h" in over else ()))
        if over and array.shape[: len(front)] != front:
            raise ValueError(
                f"linear_attention: an array of the map of the {name} is mapped over {' '.join(over)!r}, so "
                f"its first axes must be {list(front)}, but it has shape {list(array.shape)}; queries and keys can "
                "have a map each: feature_map=(query_map, key_map)"
            )

    def one_head(arrays: list[Any], features: Array) -> Array:
        part = jax.tree.unflatten(structure, arrays)
        result = part(features, positions) if is_positional(feature_map) else part(features)
        if getattr(result, "ndim", None) != 2 or result.shape[0] != features.shape[0]:
            raise ValueError(
                f"linear_attention: the feature map must return features [t m] for {list(features.shape)}, not "
                f"{list(getattr(result, 'shape', ()))}"
            )
        return result

    function = jax.vmap(one_head, in_axes=([0 if "h" in over else None for over in axes], 1), out_axes=1)
    for _ in batch:
        function = jax.vmap(function, in_axes=([0 if "b" in over else None for over in axes], 0))
    return function(arrays, inputs)


def is_positional(feature_map: Any) -> bool:
    """Return whether a feature map takes positions, also if its arrays are bound by `Partial`.

    >>> is_positional(jax.nn.relu)
    False
    """
    return isinstance(getattr(feature_map, "func", feature_map), Positional)

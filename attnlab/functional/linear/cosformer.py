"""cosFormer's feature map: relu, reweighted by a cosine of the distance."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.tree_util import register_static
from jaxtyping import Array, Float, Int

from attnlab.functional.linear.positional import Positional
from attnlab.functional.types import widen


@register_static
@dataclass(frozen=True)
class Cosformer(Positional):
    """cosFormer's feature map; made by `cosformer`."""

    max_length: int

    def __call__(self, features: Float[Array, "t d"], positions: Int[Array, " t"]) -> Float[Array, "t m"]:
        x = jax.nn.relu(widen(features))
        angles = (jnp.pi / 2 / self.max_length) * positions.astype(x.dtype)[:, None]
        return jnp.concatenate([x * jnp.cos(angles), x * jnp.sin(angles)], axis=-1)

    def check_positions(self, count: Any) -> None:
        if isinstance(count, int) and count > self.max_length:
            raise ValueError(
                f"linear.cosformer: weights of {count} positions would be negative with max_length={self.max_length}; "
                f"write cosformer({count})"
            )


def cosformer(max_length: int) -> Cosformer:
    """Reweight relu features so that the weight of a key decreases with its distance.

    φ(x_i) = [relu(x_i) cos(π i / 2M), relu(x_i) sin(π i / 2M)]
    φ(query_i) · φ(key_j) = (relu(query_i) · relu(key_j)) cos(π (i − j) / 2M)

    Args:
        max_length: M, at least the length of queries and keys, so that no weight is negative.
    Returns: a feature map of positions, from width d to 2d.
    Numerics: an output is 0 for a query whose features are all 0 (`sum_rule`). More tokens than M in one call raise; a
        state that is continued beyond M gives negative weights. Angles in float32, or float64 for float64.
    Reference: Qin et al. 2022, "cosFormer: Rethinking Softmax in Attention", eq. 9 and 10.

    >>> jax.jit(cosformer(2))(jnp.ones((1, 1)), jnp.array([0])).tolist()
    [[1.0, 0.0]]
    """
    if not isinstance(max_length, int) or max_length < 1:
        raise ValueError(f"linear.cosformer: max_length must be an integer of 1 or more, not {max_length!r}")
    return Cosformer(max_length)

"""Rotary positions: queries and keys are turned by their positions, so that their product knows the distance."""

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from attnlab.functional.calls import explained
from attnlab.functional.types import accumulation_dtype


@explained()
def rotary(
    features: Float[Array, "*B T N D"],
    positions: Int[Array, "*b t"] | None = None,
    *,
    base: float | int = 10000.0,
    interleaved: bool = False,
) -> Float[Array, "*B T N D"]:
    """Turn every pair of features by an angle in proportion to the position.

    (x, y) ← (x cos θ − y sin θ, x sin θ + y cos θ),    θ = position · base^(−2m / D) for pair m = 0 … D/2 − 1

    Applied to queries and keys alike (not to values), it makes their inner product depend on positions by their
    difference alone. So with `scores.dot` and `scores.scaled_dot`; other scores are not invariant.

    Args:
        features: queries or keys; D is even.
        positions: whole numbers [T], or [*B, T] where examples differ; None is 0 … T − 1.
        base: the slowest pair turns once in 2π · base^(1 − 2/D) positions.
        interleaved: False pairs feature m with m + D/2 (GPT-NeoX, LLaMA in Hugging Face); True pairs neighbours,
            2m with 2m + 1 (the paper, GPT-J). Weights trained with one are of no use with the other.
    Returns: the features turned, in their dtype; lengths do not change.
    Numerics: angles and products in float32, or float64 for float64. In float32 an angle is off by 1e-7 of itself:
        by 0.01 at position 100 000.
    Reference: Su et al. 2021, eq. 34.

    >>> [round(x, 2) for x in rotary(jnp.ones((2, 1, 2)))[1, 0].tolist()]
    [-0.3, 1.38]
    """
    if getattr(features, "ndim", 0) < 3:
        raise ValueError("rotary: features are [*B, T, heads, D]; write rotary(query, positions)")
    if positions is not None and not isinstance(positions, Array | np.ndarray):
        raise ValueError(
            f"rotary: positions are whole numbers [T] or [*B, T], not {type(positions).__name__}; "
            "write rotary(query, n + jnp.arange(T)) from position n on"
        )
    queries, _, width = features.shape[-3:]
    if width % 2:
        raise ValueError(f"rotary: features come in pairs, so their number is even, not {width}")
    if positions is None:
        positions = jnp.arange(queries, dtype=jnp.int32)
    if not jnp.issubdtype(jnp.result_type(positions), jnp.integer):
        raise ValueError(
            f"rotary: positions are whole numbers, not {jnp.result_type(positions)} (in bfloat16 1857 is 1856); "
            "make them by jnp.arange, or write positions.astype(jnp.int32) where they are exact"
        )
    if positions.shape not in ((queries,), features.shape[:-2]):
        raise ValueError(
            f"rotary: positions {positions.shape} are neither [T] nor [*B, T] of features {features.shape}"
        )
    dtype = accumulation_dtype(features)
    speeds = jnp.asarray(base, dtype) ** (jnp.arange(0, width, 2, dtype=dtype) / -width)
    angles = positions.astype(dtype)[..., None, None] * speeds.reshape([1] * (positions.ndim + 1) + [-1])
    angles = angles.reshape((1,) * (features.ndim - angles.ndim) + angles.shape)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    pairs = (width // 2, 2) if interleaved else (2, width // 2)
    place = -1 if interleaved else -2
    paired = jnp.moveaxis(features.astype(dtype).reshape(*features.shape[:-1], *pairs), place, 0)
    turned = jnp.stack([paired[0] * cos - paired[1] * sin, paired[0] * sin + paired[1] * cos], axis=place)
    return turned.reshape(features.shape).astype(features.dtype)

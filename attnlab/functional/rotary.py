"""Rotary positions: queries and keys are turned by their positions, so that their product knows the distance."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from attnlab.functional.calls import explained
from attnlab.functional.rotary_scaling import Scaling
from attnlab.functional.types import accumulation_dtype, known


@explained()
def rotary(
    features: Float[Array, "*B T N D"],
    positions: Int[Array, "*b t"] | None = None,
    *,
    base: float | int | None = None,
    interleaved: bool = False,
    rotary_dim: int | None = None,
    scaling: Scaling | None = None,
    tables: tuple[Array, Array] | None = None,
) -> Float[Array, "*B T N D"]:
    """Turn every pair of features by an angle in proportion to the position.

    (x, y) ← (x cos θ − y sin θ, x sin θ + y cos θ),    θ = position · base^(−2m / R) for pair m = 0 … R/2 − 1

    Applied to queries and keys alike (not to values), it makes their inner product depend on positions by their
    difference alone. So with `scores.dot` and `scores.scaled_dot`; other scores are not invariant.

    Args:
        features: queries or keys.
        positions: whole numbers [T], or [*B, T] where examples differ; None is 0 … T − 1.
        base: the slowest pair turns once in 2π · base^(1 − 2/R) positions; a number, None for 10000.
        interleaved: False pairs feature m with m + R/2 (GPT-NeoX, LLaMA in Hugging Face); True pairs neighbors,
            2m with 2m + 1 (the paper, GPT-J). Weights trained with one are of no use with the other.
        rotary_dim: R, how many features are turned, the first ones, an even number; the others stay as they are. None
            is all of them, or those that the tables are for.
        scaling: frequencies for longer texts than those of the training (`rotary_scaling`); None for base alone.
        tables: (cos, sin) in the place of base and scaling, with a column for each pair: [T, R/2] or [*B, T, R/2] for
            these queries; [P, R/2] for positions 0 … P − 1 where positions are given. Those of Hugging Face repeat
            each column: give `cos[..., :R // 2]`.
    Returns: the features turned, in their dtype; lengths do not change, but by a scaling's `attention_factor`.
    Numerics: angles and products in float32, or float64 for float64. In float32 an angle is off by 1e-7 of itself:
        by 0.01 at position 100 000. A position that is in no table is refused, and inside jit gives NaN.
    Reference: Su et al. 2021, eq. 34; of a part of the features: Black et al. 2022 (GPT-NeoX-20B), section 2.2.1.

    >>> [round(x, 2) for x in rotary(jnp.ones((2, 1, 2)))[1, 0].tolist()]
    [-0.3, 1.38]
    >>> [round(x, 2) for x in rotary(jnp.ones((2, 1, 4)), rotary_dim=2)[1, 0].tolist()]
    [-0.3, 1.38, 1.0, 1.0]
    """
    if getattr(features, "ndim", 0) < 3:
        raise ValueError("rotary: features are [*B, T, heads, D]; write rotary(query, positions)")
    _check_positions(features, positions)
    dtype = accumulation_dtype(features)
    if tables is not None:
        if base is not None or scaling is not None:
            raise ValueError(
                "rotary: tables stand in the place of base and scaling; write rotary(query, tables=(cos, sin))"
            )
        cos, sin = _given(tables, features, positions, rotary_dim, dtype)
    else:
        cos, sin = _computed(features, positions, 10000.0 if base is None else base, rotary_dim, scaling, dtype)
    # The heads, and batch axes that the tables do not have.
    cos, sin = (x[..., None, :] for x in (cos, sin))
    cos, sin = (x.reshape((1,) * (features.ndim - x.ndim) + x.shape) for x in (cos, sin))
    width = 2 * cos.shape[-1]
    turned = _turned(features[..., :width].astype(dtype), cos, sin, interleaved).astype(features.dtype)
    return turned if width == features.shape[-1] else jnp.concatenate([turned, features[..., width:]], axis=-1)


def _turned(features: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Turn the pairs of features by angles [..., 1, pairs]."""
    half = features.shape[-1] // 2
    pairs, place = ((half, 2), -1) if interleaved else ((2, half), -2)
    paired = jnp.moveaxis(features.reshape(*features.shape[:-1], *pairs), place, 0)
    turned = jnp.stack([paired[0] * cos - paired[1] * sin, paired[0] * sin + paired[1] * cos], axis=place)
    return turned.reshape(features.shape)


def _computed(
    features: Array, positions: Any, base: Any, rotary_dim: int | None, scaling: Scaling | None, dtype: Any
) -> tuple[Array, Array]:
    """Return cos and sin of every position's angles, [T, R/2] or [*B, T, R/2]."""
    width = _width(features, rotary_dim)
    if scaling is None:
        speeds = jnp.asarray(base, dtype) ** (jnp.arange(0, width, 2, dtype=dtype) / -width)
    elif not isinstance(scaling, Scaling):
        raise ValueError(
            f"rotary: scaling is one of rotary_scaling, not {type(scaling).__name__}; write "
            "scaling=rotary_scaling.llama3(factor=8.0, original_max_position_embeddings=8192)"
        )
    elif not isinstance(base, float | int) or base <= 1.0:
        raise ValueError(f"rotary: with a scaling base is a number above 1, not {base!r}; write base=10000.0")
    else:
        speeds = jnp.asarray(scaling.frequencies(base, width), dtype)
    if positions is None:
        positions = jnp.arange(features.shape[-3], dtype=jnp.int32)
    angles = positions.astype(dtype)[..., None] * speeds.reshape([1] * positions.ndim + [-1])
    factor = 1.0 if scaling is None else scaling.attention_factor
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return (cos, sin) if factor == 1.0 else (factor * cos, factor * sin)


def _given(tables: Any, features: Array, positions: Any, rotary_dim: int | None, dtype: Any) -> tuple[Array, Array]:
    """Return the tables' rows of every position, [T, R/2] or [*B, T, R/2]."""
    shapes = [getattr(table, "shape", None) for table in tables] if isinstance(tables, tuple | list) else []
    if len(shapes) != 2 or None in shapes or shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            f"rotary: tables are two arrays of one shape, (cos, sin), not {shapes or type(tables).__name__}; "
            "write tables=(cos, sin)"
        )
    (*front, pairs), (*batch, queries, _, whole) = shapes[0], features.shape
    if 2 * pairs > whole or rotary_dim not in (None, 2 * pairs):
        turned = f"{whole} features" if rotary_dim is None else f"rotary_dim {rotary_dim}"
        raise ValueError(
            f"rotary: tables {list(shapes[0])} have a column for each pair, of {turned}; of tables that repeat each "
            f"column write cos[..., :{(rotary_dim or whole) // 2}]"
        )
    cos, sin = (jnp.asarray(table).astype(dtype) for table in tables)
    if positions is None:
        if front not in ([queries], [*batch, queries]):
            raise ValueError(
                f"rotary: tables {list(shapes[0])} have no row for each of {queries} queries, [T, pairs] or "
                f"[*B, T, pairs]; write rotary(query, positions, tables=...) to look positions up"
            )
        return cos, sin
    if len(front) != 1:
        raise ValueError(
            f"rotary: tables {list(shapes[0])} with positions are [P, pairs], a row for each position; of rows for "
            "these queries write rotary(query, tables=(cos, sin))"
        )
    values, length = known(positions), front[0]
    if values is not None and values.size and not 0 <= values.min() <= values.max() < length:
        raise ValueError(
            f"rotary: the tables have positions 0 to {length - 1}, those given go from {values.min()} to {values.max()}"
        )
    at = jnp.where(positions < 0, length, positions)
    cos, sin = (table.at[at].get(mode="fill", fill_value=jnp.nan) for table in (cos, sin))
    return cos, sin


def _width(features: Array, rotary_dim: int | None) -> int:
    """Return how many features are turned."""
    whole = features.shape[-1]
    if rotary_dim is None:
        if whole % 2:
            raise ValueError(
                f"rotary: features come in pairs, so their number is even, not {whole}; "
                f"write rotary_dim={whole - 1} to turn those alone"
            )
        return whole
    if type(rotary_dim) is not int or not 0 < rotary_dim <= whole or rotary_dim % 2:
        raise ValueError(
            f"rotary: rotary_dim is an even number from 2 to {whole}, not {rotary_dim!r}; "
            f"write rotary_dim={max(whole // 4 * 2, 2)}"
        )
    return rotary_dim


def _check_positions(features: Array, positions: Any) -> None:
    """Refuse positions that are no whole numbers, or not one for each query."""
    if positions is None:
        return
    if not isinstance(positions, Array | np.ndarray):
        raise ValueError(
            f"rotary: positions are whole numbers [T] or [*B, T], not {type(positions).__name__}; "
            "write rotary(query, n + jnp.arange(T)) from position n on"
        )
    if not jnp.issubdtype(jnp.result_type(positions), jnp.integer):
        raise ValueError(
            f"rotary: positions are whole numbers, not {jnp.result_type(positions)} (in bfloat16 1857 is 1856); "
            "make them by jnp.arange, or write positions.astype(jnp.int32) where they are exact"
        )
    if positions.shape not in (features.shape[-3:-2], features.shape[:-2]):
        raise ValueError(
            f"rotary: positions {positions.shape} are neither [T] nor [*B, T] of features {features.shape}"
        )

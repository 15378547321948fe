"""Rotary position embeddings: queries and keys are rotated by their positions, so that products depend on distances."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Float, Int

from attnlab.functional.rotary_scaling import Scaling
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import accumulation_dtype, known


@suggest_arguments()
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
    """Rotate every pair of features by an angle proportional to the position.

    (x, y) ← (x cos θ − y sin θ, x sin θ + y cos θ),    θ = position · base^(−2m / R) for pair m = 0 … R/2 − 1

    Applied to both queries and keys (not to values), it makes their inner product depend on the difference of their
    positions only. This holds for `scores.dot` and `scores.scaled_dot`, not for other scores.

    Args:
        features: queries or keys.
        positions: integers [T], or [*B, T] if examples differ; None for 0 … T − 1.
        base: a positive number; the slowest pair completes a rotation in 2π · base^(1 − 2/R) positions. None for 10000.
        interleaved: False pairs feature m with m + R/2 (GPT-NeoX, LLaMA in Hugging Face); True pairs neighbors, 2m with
            2m + 1 (the paper, GPT-J). Weights trained with one do not work with the other.
        rotary_dim: R, an even number: the first R features are rotated. None for all, or as many as the tables have.
        scaling: frequencies for longer texts than in training (`rotary_scaling`); None for base only.
        tables: (cos, sin) instead of base and scaling, with a column for each pair: [T, R/2] or [*B, T, R/2] for these
            queries; [P, R/2] for positions 0 … P − 1 if positions are given. Tables of Hugging Face repeat each column:
            pass `cos[..., :R // 2]`.
    Returns: the rotated features, in their dtype; norms change only by the `attention_factor` of a scaling.
    Numerics: angles and products in float32, or float64 for float64. In float32 the relative error of an angle is 1e-7:
        0.01 at position 100 000. A position beyond the tables raises, and inside jit gives NaN.
    Reference: Su et al. 2021, eq. 34; for a part of the features: Black et al. 2022, "GPT-NeoX-20B", the section
        "Rotary Positional Embeddings".

    >>> [round(x, 2) for x in rotary(jnp.ones((2, 1, 2)))[1, 0].tolist()]
    [-0.3, 1.38]
    >>> [round(x, 2) for x in rotary(jnp.ones((2, 1, 4)), rotary_dim=2)[1, 0].tolist()]
    [-0.3, 1.38, 1.0, 1.0]
    """
    if getattr(features, "ndim", 0) < 3:
        raise ValueError("rotary: features must have shape [*B, T, heads, D]; write rotary(query, positions)")
    _check_positions(features, positions)
    dtype = accumulation_dtype(features)
    if tables is not None:
        if base is not None or scaling is not None:
            raise ValueError("rotary: tables replace base and scaling; write rotary(query, tables=(cos, sin))")
        cos, sin = _lookup(tables, features, positions, rotary_dim, dtype)
    else:
        cos, sin = _compute(features, positions, 10000.0 if base is None else base, rotary_dim, scaling, dtype)
    # The heads, and batch axes that the tables do not have.
    cos, sin = (x[..., None, :] for x in (cos, sin))
    cos, sin = (x.reshape((1,) * (features.ndim - x.ndim) + x.shape) for x in (cos, sin))
    width = 2 * cos.shape[-1]
    rotated = _rotate(features[..., :width].astype(dtype), cos, sin, interleaved).astype(features.dtype)
    return rotated if width == features.shape[-1] else jnp.concatenate([rotated, features[..., width:]], axis=-1)


def _rotate(features: Array, cos: Array, sin: Array, interleaved: bool) -> Array:
    """Rotate the pairs of features by angles [..., 1, pairs]."""
    half = features.shape[-1] // 2
    pairs, place = ((half, 2), -1) if interleaved else ((2, half), -2)
    paired = jnp.moveaxis(features.reshape(*features.shape[:-1], *pairs), place, 0)
    rotated = jnp.stack([paired[0] * cos - paired[1] * sin, paired[0] * sin + paired[1] * cos], axis=place)
    return rotated.reshape(features.shape)


def _compute(
    features: Array, positions: Any, base: Any, rotary_dim: int | None, scaling: Scaling | None, dtype: Any
) -> tuple[Array, Array]:
    """Return cos and sin of the angles of every position, [T, R/2] or [*B, T, R/2]."""
    width = _width(features, rotary_dim)
    if scaling is None:
        frequencies = jnp.asarray(base, dtype) ** (jnp.arange(0, width, 2, dtype=dtype) / -width)
    elif not isinstance(scaling, Scaling):
        raise ValueError(
            f"rotary: scaling must be made by rotary_scaling, not {type(scaling).__name__}; write "
            "scaling=rotary_scaling.llama3(factor=8.0, original_max_position_embeddings=8192)"
        )
    elif not isinstance(base, float | int) or base <= 1.0:
        raise ValueError(f"rotary: with a scaling, base must be a number above 1, not {base!r}; write base=10000.0")
    else:
        frequencies = jnp.asarray(scaling.frequencies(base, width), dtype)
    if positions is None:
        positions = jnp.arange(features.shape[-3], dtype=jnp.int32)
    angles = positions.astype(dtype)[..., None] * frequencies.reshape([1] * positions.ndim + [-1])
    factor = 1.0 if scaling is None else scaling.attention_factor
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    return (cos, sin) if factor == 1.0 else (factor * cos, factor * sin)


def _lookup(tables: Any, features: Array, positions: Any, rotary_dim: int | None, dtype: Any) -> tuple[Array, Array]:
    """Return the rows of the tables for every position, [T, R/2] or [*B, T, R/2]."""
    shapes = [getattr(table, "shape", None) for table in tables] if isinstance(tables, tuple | list) else []
    if len(shapes) != 2 or None in shapes or shapes[0] != shapes[1] or not shapes[0]:
        raise ValueError(
            f"rotary: tables must be two arrays of one shape, (cos, sin), not {shapes or type(tables).__name__}; "
            "write tables=(cos, sin)"
        )
    (*front, pairs), (*batch, queries, _, total) = shapes[0], features.shape
    if 2 * pairs > total or rotary_dim not in (None, 2 * pairs):
        rotated = f"{total} features" if rotary_dim is None else f"rotary_dim {rotary_dim}"
        raise ValueError(
            f"rotary: tables {list(shapes[0])} must have a column for each pair of {rotated}; for tables that "
            f"repeat each column write cos[..., :{(rotary_dim or total) // 2}]"
        )
    cos, sin = (jnp.asarray(table).astype(dtype) for table in tables)
    if positions is None:
        if front not in ([queries], [*batch, queries]):
            raise ValueError(
                f"rotary: tables {list(shapes[0])} must have a row for each of {queries} queries, [T, pairs] or "
                f"[*B, T, pairs]; write rotary(query, positions, tables=...) to look up positions"
            )
        return cos, sin
    if len(front) != 1:
        raise ValueError(
            f"rotary: tables {list(shapes[0])} with positions must be [P, pairs], a row for each position; for rows of "
            "these queries write rotary(query, tables=(cos, sin))"
        )
    values, length = known(positions), front[0]
    if values is not None and values.size and not 0 <= values.min() <= values.max() < length:
        raise ValueError(
            f"rotary: the tables have positions 0 to {length - 1}, but positions go from {values.min()} to "
            f"{values.max()}"
        )
    index = jnp.where(positions < 0, length, positions)
    cos, sin = (table.at[index].get(mode="fill", fill_value=jnp.nan) for table in (cos, sin))
    return cos, sin


def _width(features: Array, rotary_dim: int | None) -> int:
    """Return the number of features to rotate."""
    width = features.shape[-1]
    if rotary_dim is None:
        if width % 2:
            raise ValueError(
                f"rotary: the number of features must be even, since they are paired, not {width}; "
                f"write rotary_dim={width - 1} to rotate only the first ones"
            )
        return width
    if type(rotary_dim) is not int or not 0 < rotary_dim <= width or rotary_dim % 2:
        raise ValueError(
            f"rotary: rotary_dim must be an even integer from 2 to {width}, not {rotary_dim!r}; "
            f"write rotary_dim={max(width // 4 * 2, 2)}"
        )
    return rotary_dim


def _check_positions(features: Array, positions: Any) -> None:
    """Raise unless positions are integers, one for each query."""
    if positions is None:
        return
    if not isinstance(positions, Array | np.ndarray):
        raise ValueError(
            f"rotary: positions must be integers [T] or [*B, T], not {type(positions).__name__}; "
            "write rotary(query, n + jnp.arange(T)) for positions from n on"
        )
    if not jnp.issubdtype(jnp.result_type(positions), jnp.integer):
        raise ValueError(
            f"rotary: positions must be integers, not {jnp.result_type(positions)} (in bfloat16 1857 is 1856); "
            "write jnp.arange(T), or positions.astype(jnp.int32) if they are exact"
        )
    if positions.shape not in (features.shape[-3:-2], features.shape[:-2]):
        raise ValueError(f"rotary: positions {positions.shape} must be [T] or [*B, T] of features {features.shape}")

"""Aggregation of attributions: features to a token, tokens to a word, a sentence or a cell of an image."""

from typing import Literal

import jax.numpy as jnp
from jax import Array
from jaxtyping import Float, Int


def aggregate_features(attributions: Float[Array, "n d"], how: Literal["sum", "vnorm"] = "sum") -> Float[Array, " n"]:
    """Aggregate the attributions of a token's features to one number.

    sum: a_i = Σ_m A[i, m]        vnorm: a_i = ‖A[i]‖₂

    The sum keeps the sign and completeness (`integrated_gradients`, `input_x_gradient`); the norm ignores the sign, as
    plain gradients need it (`smooth_grad`).

    Args:
        attributions: one number for each feature of each token.
        how: inseq's names of these two aggregations.
    Returns: one number for each token; at least 0 for "vnorm".
    Numerics: the gradient of the norm is 0 at 0.
    Reference: Atanasova et al. 2020 compare sum, mean and norm; inseq's `sum` and `vnorm`.

    >>> [aggregate_features(jnp.array([[3.0, -4.0]]), how).tolist() for how in ("sum", "vnorm")]
    [[-1.0], [5.0]]
    """
    if how == "sum":
        return jnp.sum(attributions, axis=1)
    if how == "vnorm":
        return vector_norm(attributions)
    raise ValueError(f"aggregate_features: how must be 'sum' or 'vnorm', not {how!r}")


def vector_norm(vectors: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Return ‖vectors[i]‖₂; the gradient at a vector of zeros is 0.

    >>> vector_norm(jnp.array([[3.0, 4.0]])).tolist()
    [5.0]
    """
    squared = jnp.sum(vectors * vectors, axis=-1)
    zero = squared == 0
    return jnp.where(zero, 0, jnp.sqrt(jnp.where(zero, 1, squared)))


def aggregate_segments(
    attributions: Float[Array, " n"],
    segment_ids: Int[Array, " n"],
    segments: int,
    how: Literal["sum", "mean", "max", "absmax"] = "sum",
) -> Float[Array, " s"]:
    """Aggregate the attributions of tokens over segments: words, sentences, cells of an image.

    a_s = Σ_{i in segment s} A_i, their mean, their maximum, or the one of largest magnitude (with its sign)

    Only the sum keeps completeness: the segments' attributions then sum to what the tokens' do. It favors words of
    many tokens; the others do not.

    Args:
        attributions: one number for each token.
        segment_ids: number of the segment of each token, from 0; tokens with any other number (write −1 for padding
            and special tokens) belong to none.
        segments: number of segments, static under `jit`.
        how: inseq's names; inseq merges subwords by "absmax" unless told otherwise.
    Returns: one number for each segment; 0 for a segment without tokens.
    Numerics: of several tokens with the largest magnitude, "absmax" takes the first.
    Reference: inseq's `SubwordAggregator` and `AggregationFunction`s.

    >>> aggregate_segments(jnp.array([1.0, -3.0, 2.0]), jnp.array([0, 0, -1]), 2, "absmax").tolist()
    [-3.0, 0.0]
    """
    if segment_ids.shape != attributions.shape:
        raise ValueError(
            f"aggregate_segments: segment_ids {list(segment_ids.shape)} must have one number for each of "
            f"{list(attributions.shape)} attributions"
        )
    if segments < 0:
        raise ValueError(f"aggregate_segments: segments must be at least 0, not {segments}")
    member = segment_ids[None, :] == jnp.arange(segments, dtype=segment_ids.dtype)[:, None]
    values = jnp.broadcast_to(attributions, member.shape)
    filled = jnp.any(member, axis=1)
    if how == "sum":
        return jnp.sum(jnp.where(member, values, 0), axis=1)
    if how == "mean":
        size = jnp.maximum(jnp.sum(member, axis=1), 1).astype(values.dtype)
        return jnp.sum(jnp.where(member, values, 0), axis=1) / size
    if how not in ("max", "absmax"):
        raise ValueError(f"aggregate_segments: how must be 'sum', 'mean', 'max' or 'absmax', not {how!r}")
    if not attributions.shape[0]:
        return jnp.zeros(segments, attributions.dtype)
    size = values if how == "max" else jnp.abs(values)
    index = jnp.argmax(jnp.where(member, size, -jnp.inf), axis=1)
    return jnp.where(filled, attributions[index], 0)

"""Value zeroing: how much a layer's output changes when one token's value vectors are set to 0."""

from collections.abc import Callable

import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.aggregation import vector_norm
from attnlab.analysis.attribution.batches import map_over
from attnlab.analysis.attribution.checks import check_positive, check_valid, normalized_rows, without_padding

Layer = Callable[[Bool[Array, " k"]], Float[Array, "q d"]]
"""The output of one layer as a function of the keys whose value vectors are zeroed in all heads (True = zeroed); the
layer's input and attention weights stay as they are."""


def cosine_distance(x: Float[Array, "*n d"], y: Float[Array, "*n d"]) -> Float[Array, "*n"]:
    """Return 1 − cos(x_i, y_i).

    1 − cos(x, y) = ½ ‖x/‖x‖ − y/‖y‖‖²

    Returns: distances in [0, 2]; ½ if one of the vectors is 0, and 0 if both are.
    Numerics: computed from the difference, so that small distances keep their relative accuracy.

    >>> cosine_distance(jnp.array([[1.0, 0.0]]), jnp.array([[0.0, 2.0]])).round(4).tolist()
    [1.0]
    """
    difference = _unit(x) - _unit(y)
    return jnp.sum(difference * difference, axis=-1) / 2


def _unit(vectors: Float[Array, "*n d"]) -> Float[Array, "*n d"]:
    lengths = vector_norm(vectors)[..., None]
    return vectors / jnp.where(lengths == 0, 1, lengths)


def value_zeroing(
    layer: Layer,
    keys: int,
    *,
    internal_batch_size: int | None = None,
    query_valid: Bool[Array, " q"] | None = None,
    key_valid: Bool[Array, " k"] | None = None,
) -> Float[Array, "q k"]:
    """Return how much the output of a layer changes for each query when each key's value is zeroed.

    a[i, j] = 1 − cos(y_i without value_j, y_i),    each row divided by its sum

    It can say how much a token's value matters to a layer's output with everything in the layer counted: residual
    connections, norms and the feed-forward network. It cannot say anything of a target or of signs, and a change of
    length alone is not seen by the cosine. For the whole model apply `rollout` to the layers' matrices of
    self-attention, without adding I. The layer is called as it is, so pre-norm and post-norm are alike; the norm behind
    the last pre-norm layer should be a part of it.

    Args:
        layer: recomputes the layer's output with the values of some keys zeroed; traceable by jax.
        keys: number of keys, padding included.
        internal_batch_size: number of keys that are zeroed at a time, each in a copy; None for all.
        query_valid: True for real queries; None if there is no padding.
        key_valid: True for real keys; None if there is no padding.
    Returns: shares in [0, 1]; a row sums to 1, or is 0 if no key changes the output.
    Cost: keys + 1 forward passes of the one layer.
    Numerics: dtype of the layer's output; a distance that rounding alone could make, below (32 ε)², counts as 0. Rows
        and columns of padding have exactly 0.
    Reference: Mohebbi et al. 2023, "Quantifying context mixing in Transformers", section 3; inseq's `value_zeroing`.

    >>> layer = lambda zeroed: jnp.array([[1.0, 0.0]]) + jnp.array([[0.0, 1.0]]) * (1.0 - zeroed[1])
    >>> value_zeroing(layer, 2).round(4).tolist()
    [[0.0, 1.0]]
    """
    check_valid("value_zeroing", key_valid, keys, "key_valid")
    check_positive("value_zeroing", internal_batch_size=internal_batch_size)
    whole = layer(jnp.zeros(keys, bool))
    if whole.ndim != 2:
        raise ValueError(f"value_zeroing: layer must return [queries, features], not {list(whole.shape)}")
    check_valid("value_zeroing", query_valid, whole.shape[0], "query_valid")
    if not keys:
        return jnp.zeros((whole.shape[0], 0), whole.dtype)
    distances = map_over(
        lambda zeroed: cosine_distance(layer(zeroed), whole), jnp.eye(keys, dtype=bool), internal_batch_size
    )
    rounding = (32 * float(jnp.finfo(distances.dtype).eps)) ** 2
    distances = jnp.where(distances > rounding, distances, 0)
    return normalized_rows(without_padding(distances.T, query_valid, key_valid))

"""Scores that do not grow with the length of a vector, or fall with the distance."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from attnlab.functional.parameters import scalar
from attnlab.functional.scores.products import Scale, dot, of_one_width
from attnlab.functional.types import Key, Logits, Query, widen


def cosine(query: Query, key: Key, *, scale: Scale = 1.0) -> Logits:
    """Score every query against every key with the cosine of the angle between them.

    logits[i, j] = scale · query_i · key_j / (‖query_i‖ ‖key_j‖)

    Args:
        query: as wide as the keys.
        key: as wide as the queries.
        scale: a number or a learned [], the inverse of a temperature. With 1 the weights of a softmax differ by a
            factor of e² at most, however good the match.
    Returns: logits between −scale and scale.
    Numerics: computed in float32 for bfloat16 and float16. A zero vector has no angle: its logits are 0, and so is
        its gradient. Any other length is right, also one whose square overflows or vanishes.
    Reference: Graves, Wayne & Danihelka 2014, eq. 6 (content addressing; scale is its β).

    >>> cosine(jnp.array([[3.0, 4.0]]), jnp.array([[6.0, 8.0], [0.0, 0.0]]), scale=2.0).tolist()
    [[2.0, 0.0]]
    """
    of_one_width("cosine", query, key)
    logits = dot(_directions(query), _directions(key))
    return logits * scalar("scores.cosine: scale", scale, logits.dtype)


def _directions(features: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Scale every row to length 1; a row of zeros stays as it is."""
    features = widen(features)
    largest = jnp.max(jnp.abs(features), axis=1, keepdims=True, initial=0.0)
    # Any rescaling of a row leaves its direction, so this one needs no derivative; it only keeps the squares in range.
    features = features / lax.stop_gradient(jnp.where(largest > 0, largest, jnp.ones_like(largest)))
    squared = jnp.sum(jnp.square(features), axis=1, keepdims=True)
    scaled = features * lax.rsqrt(jnp.where(squared > 0, squared, jnp.ones_like(squared)))
    return jnp.where(squared > 0, scaled, jnp.zeros_like(scaled))


def negative_squared_distance(query: Query, key: Key, *, scale: Scale = 1.0) -> Logits:
    """Score every query against every key with their squared Euclidean distance, negated.

    logits[i, j] = −scale · ‖query_i − key_j‖²

    A softmax of it is the kernel regression of Nadaraya and Watson with a Gaussian kernel; `scale` is 1 / (2σ²).

    Args:
        query: as wide as the keys.
        key: as wide as the queries.
        scale: a number or a learned [].
    Returns: logits of at most 0, for a positive scale.
    Numerics: computed in float32 for bfloat16 and float16, as 2 q·k − ‖q‖² − ‖k‖² about the median of the keys, so
        without an array [q k d]. The three terms cancel where a query and a key are much closer to each other than
        to that median: the error is about ε · (‖q‖² + ‖k‖²), measured from the median, with ε = 1e-7 in float32. Two
        equal vectors at a distance of 100 from it score within 1e-2 of 0, not 0. What all have in common, as a
        far origin, costs nothing; nor does a masked key far away.
    Reference: Tsai et al. 2019, "Transformer Dissection", section 3.2, the RBF kernel.

    >>> negative_squared_distance(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [-3.0, -4.0]]), scale=0.5).tolist()
    [[-12.5, -12.5]]
    """
    of_one_width("negative_squared_distance", query, key)
    query, key = widen(query), widen(key)
    if key.shape[0] != 0:  # Distances do not change with the origin, and neither do their derivatives.
        origin = lax.stop_gradient(jnp.median(key, axis=0, keepdims=True))
        query, key = query - origin, key - origin
    squares = jnp.sum(jnp.square(query), axis=1)[:, None] + jnp.sum(jnp.square(key), axis=1)[None, :]
    distances = squares - 2 * dot(query, key)
    return -distances * scalar("scores.negative_squared_distance: scale", scale, distances.dtype)

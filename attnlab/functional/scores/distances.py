"""Scores by cosine and by distance."""

import jax.numpy as jnp
from jax import Array, lax
from jaxtyping import Float

from attnlab.functional.parameters import scalar
from attnlab.functional.scores.products import Scale, check_equal_width, dot
from attnlab.functional.types import Key, Logits, Query, widen


def cosine(query: Query, key: Key, *, scale: Scale = 1.0) -> Logits:
    """Score every query against every key with the cosine of the angle between them.

    logits[i, j] = scale · query_i · key_j / (‖query_i‖ ‖key_j‖)

    Args:
        query: queries of the same width as the keys.
        key: keys of the same width as the queries.
        scale: a number or a learned scalar array [], the inverse of a temperature. With scale 1 the softmax weights
            differ by a factor of at most e².
    Returns: logits, in [−scale, scale].
    Numerics: computed in float32 for bfloat16 and float16. The logits and the gradient of a zero vector are 0. Accurate
        for vectors of any length, also where its square overflows or underflows.
    Reference: Graves, Wayne & Danihelka 2014, eq. 6 (content addressing; scale is its β).

    >>> cosine(jnp.array([[3.0, 4.0]]), jnp.array([[6.0, 8.0], [0.0, 0.0]]), scale=2.0).tolist()
    [[2.0, 0.0]]
    """
    check_equal_width("cosine", query, key)
    logits = dot(_directions(query), _directions(key))
    return logits * scalar("scores.cosine: scale", scale, logits.dtype)


def _directions(features: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Normalize every row to length 1; zero rows stay zero."""
    features = widen(features)
    largest = jnp.max(jnp.abs(features), axis=1, keepdims=True, initial=0.0)
    # This rescaling keeps the squares in range and does not change the direction, so it needs no derivative.
    features = features / lax.stop_gradient(jnp.where(largest > 0, largest, jnp.ones_like(largest)))
    squared = jnp.sum(jnp.square(features), axis=1, keepdims=True)
    scaled = features * lax.rsqrt(jnp.where(squared > 0, squared, jnp.ones_like(squared)))
    return jnp.where(squared > 0, scaled, jnp.zeros_like(scaled))


def negative_squared_distance(query: Query, key: Key, *, scale: Scale = 1.0) -> Logits:
    """Score every query against every key with their negative squared Euclidean distance.

    logits[i, j] = −scale · ‖query_i − key_j‖²

    A softmax of it is the kernel regression of Nadaraya and Watson with a Gaussian kernel; `scale` is 1 / (2σ²).

    Args:
        query: queries of the same width as the keys.
        key: keys of the same width as the queries.
        scale: a number or a learned scalar array [].
    Returns: logits, at most 0 for a positive scale.
    Numerics: computed in float32 for bfloat16 and float16, as 2 q·k − ‖q‖² − ‖k‖² relative to the median of the keys,
        without an array [q k d]. The three terms cancel where a query and a key are much closer to each other than
        to that median: the error is about ε · (‖q‖² + ‖k‖²), relative to the median, with ε = 1e-7 in float32, so the
        logit of two equal vectors at a distance of 100 from it is within 1e-2 of 0. A large common offset, or a distant
        masked key, does not reduce the accuracy.
    Reference: Tsai et al. 2019, "Transformer Dissection", the RBF kernel.

    >>> negative_squared_distance(jnp.array([[0.0, 0.0]]), jnp.array([[3.0, 4.0], [-3.0, -4.0]]), scale=0.5).tolist()
    [[-12.5, -12.5]]
    """
    check_equal_width("negative_squared_distance", query, key)
    query, key = widen(query), widen(key)
    if key.shape[0] != 0:  # Distances and their derivatives do not depend on the origin.
        origin = lax.stop_gradient(jnp.median(key, axis=0, keepdims=True))
        query, key = query - origin, key - origin
    squares = jnp.sum(jnp.square(query), axis=1)[:, None] + jnp.sum(jnp.square(key), axis=1)[None, :]
    distances = squares - 2 * dot(query, key)
    return -distances * scalar("scores.negative_squared_distance: scale", scale, distances.dtype)

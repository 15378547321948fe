"""FAVOR+: positive orthogonal random features, whose inner products estimate the exponential kernel of softmax."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.parameters import scalar
from attnlab.functional.scores.products import Scale
from attnlab.functional.types import accumulation_dtype


def favor(
    features: Float[Array, "t d"], *, projection: Float[Array, "m d"], scale: Scale | None = None
) -> Float[Array, "t m"]:
    """Compute Performer's positive random features.

    φ(x)_r = exp(ω_r · x' − ‖x'‖² / 2) / √m,    x' = scale · x,    ω_r = projection_r
    E[φ(query) · φ(key)] = exp(scale² query · key)

    So `sum_rule` with this map estimates softmax attention of `scores.scaled_dot`; its weights are an unbiased estimate
    before they are divided by their sum. The variance grows with exp(‖query' + key'‖²).

    Args:
        features: queries or keys of one head. Both need the same projection.
        projection: ω, drawn by `orthogonal_projection`, from time to time anew while training.
        scale: a number or an array []; None for D^(−1/4), which estimates exp(query · key / √D).
    Returns: positive features; m, their number, may be larger or smaller than d.
    Numerics: no maximum is subtracted, unlike in Performer's code: that of all keys would not be causal. An exponent is
        at most ‖ω_r‖² / 2, about d / 2, and that of a weight at most twice as large, so that weights can overflow in
        float32 above d = 64, with x' of query and key as long as ω_r. Long x' at right angles to ω vanish: where the
        sum of weights is rounded to 0, so is the output. float32 for narrower dtypes.
    Reference: Choromanski et al. 2021, "Rethinking Attention with Performers", lemma 1 and eq. 5.

    >>> jax.jit(favor)(jnp.zeros((1, 2)), projection=jnp.ones((4, 2))).tolist()
    [[0.5, 0.5, 0.5, 0.5]]
    """
    count, width = projection.shape
    if features.shape[1] != width:
        raise ValueError(
            f"linear.favor: projection is for features of width {width}, not {features.shape[1]}; write "
            f"orthogonal_projection(rng, m, {features.shape[1]})"
        )
    dtype = accumulation_dtype(features, projection)
    x = features.astype(dtype)
    x = x * (max(width, 1) ** -0.25 if scale is None else scalar("linear.favor: scale", scale, dtype))
    exponents = x @ projection.astype(dtype).T - jnp.sum(x * x, axis=-1, keepdims=True) / 2
    return jnp.exp(exponents) / max(count, 1) ** 0.5


def orthogonal_projection(rng: Array, count: int, width: int) -> Float[Array, "m d"]:
    """Draw random directions for `favor`: orthogonal in groups of `width`, with norms as of Gaussian vectors.

    ω_r = ‖g_r‖ u_r,    g_r ~ N(0, I),    u of a group: the rows of a random rotation or reflection

    Each row alone is a standard Gaussian vector, which makes the kernel unbiased; as the rows of a group are
    orthogonal, its variance is smaller than with independent rows.

    Args:
        rng: a key of `jax.random`.
        count: m, the number of random features.
        width: d, the width of queries and keys.
    Returns: [m, d], in the default floating-point type.
    Reference: Choromanski et al. 2021, section 2.4; Yu et al. 2016, "Orthogonal Random Features", section 3.

    >>> jax.eval_shape(lambda: orthogonal_projection(jax.random.key(0), 6, 4)).shape
    (6, 4)
    """
    for name, number in (("count", count), ("width", width)):
        if not isinstance(number, int) or number < 1:
            raise ValueError(f"linear.orthogonal_projection: {name} must be an integer of 1 or more, not {number}")
    of_directions, of_norms = jax.random.split(rng)
    groups = jax.random.orthogonal(of_directions, width, (-(-count // width),))
    norms = jnp.linalg.norm(jax.random.normal(of_norms, (count, width)), axis=-1, keepdims=True)
    return groups.reshape(-1, width)[:count] * norms

"""Feature maps without parameters that keep the width."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import widen


def elu_plus_one(features: Float[Array, "t d"]) -> Float[Array, "t d"]:
    """Make every feature positive: the feature map of linear attention as published first.

    φ(x) = elu(x) + 1 = x + 1 for x > 0, exp(x) for x ≤ 0

    Args:
        features: queries or keys of one head.
    Returns: positive features, of the same width.
    Numerics: computed as in the equation, so that a small exp(x) is not rounded to 0; float32 for narrower dtypes. The
        gradient is positive everywhere, unlike that of relu.
    Reference: Katharopoulos et al. 2020, "Transformers are RNNs", eq. 7.

    >>> jax.jit(elu_plus_one)(jnp.array([[1.0, 0.0]])).tolist()
    [[2.0, 1.0]]
    """
    x = widen(features)
    return jnp.where(x > 0, x + 1.0, jnp.exp(jnp.minimum(x, 0.0)))


def identity(features: Float[Array, "t d"]) -> Float[Array, "t d"]:
    """Return queries and keys as they are: the feature map of RetNet and of gated linear attention.

    φ(x) = x

    Args:
        features: queries or keys of one head.
    Returns: the features, in float32 if they are narrower.
    Reference: Sun et al. 2023, eq. 5; Yang et al. 2024, "Gated Linear Attention Transformers", section 4.

    >>> identity(jnp.array([[1.0, -2.0]])).tolist()
    [[1.0, -2.0]]
    """
    return widen(features)


def silu_unit(features: Float[Array, "t d"]) -> Float[Array, "t d"]:
    """Apply SiLU, and scale every query or key to norm 1: the feature map of DeltaNet and gated DeltaNet.

    φ(x) = silu(x) / ‖silu(x)‖₂,    silu(x) = x / (1 + exp(−x))

    With keys of norm 1, each factor I − β k kᵀ of the delta rule has the eigenvalues 1 and 1 − β, so that the state
    stays bounded for β in [0, 2].

    Args:
        features: queries or keys of one head, after DeltaNet's short convolution if there is one.
    Returns: features of norm 1; 0 for a row of zeros.
    Numerics: the gradient at a row of zeros is 0. Each row is divided by its largest entry before squares are summed,
        so that they neither overflow nor vanish. float32 for narrower dtypes.
    Reference: Yang et al. 2024, "Parallelizing Linear Transformers with the Delta Rule over Sequence Length", section
        3.3.

    >>> jax.jit(silu_unit)(jnp.array([[2.0, 0.0]])).tolist()
    [[1.0, 0.0]]
    """
    x = jax.nn.silu(widen(features))
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), axis=-1, keepdims=True, initial=0.0))
    x = x / jnp.where(largest > 0, largest, 1.0)
    squares = jnp.sum(x * x, axis=-1, keepdims=True)
    return x * jnp.where(squares > 0, jax.lax.rsqrt(jnp.where(squares > 0, squares, 1.0)), 0.0)

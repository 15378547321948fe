"""Hedgehog's feature map: one learned layer per head, with exponentials of both signs."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import accumulation_dtype


def hedgehog(
    features: Float[Array, "t d"], *, w: Float[Array, "d a"], b: Float[Array, " a"] | None = None
) -> Float[Array, "t m"]:
    """Compute positive features with a learned layer, which can imitate the weights of softmax.

    φ(x) = [exp(Wᵀ x + b), exp(−Wᵀ x − b)]

    Queries and keys have a layer each: `feature_map=(query_map, key_map)`.

    Args:
        features: queries or keys of one head.
        w: W, learned; the identity at first. Wrapped by `parts.map_over(w, "h")` for one per head, as in the paper.
        b: b, learned; None for none.
    Returns: positive features, of width m = 2a.
    Numerics: float32 for narrower dtypes; overflows for |Wᵀ x + b| above 88, so scale queries and keys.
    Reference: Zhang et al. 2024, "The Hedgehog & the Porcupine", section 4.

    >>> import jax
    >>> jax.jit(hedgehog)(jnp.zeros((1, 2)), w=jnp.eye(2)).tolist()
    [[1.0, 1.0, 1.0, 1.0]]
    """
    if w.shape[0] != features.shape[1]:
        raise ValueError(
            f"linear.hedgehog: w must have shape [{features.shape[1]}, a], for features of this width, not "
            f"{list(w.shape)}"
        )
    dtype = accumulation_dtype(features, w)
    hidden = features.astype(dtype) @ w.astype(dtype)
    if b is not None:
        hidden = hidden + b.astype(dtype)[None, :]
    return jnp.concatenate([jnp.exp(hidden), jnp.exp(-hidden)], axis=-1)

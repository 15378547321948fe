"""Losses on the attention of captioning models: doubly stochastic attention, and supervision by gold regions."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

MIN_SHARE = 1e-4
"""Lower bound of the share of a word's attention in its region, which bounds its loss by 9.2."""


def doubly_stochastic(weights: Float[Array, "b t s"], lengths: Int[Array, " b"]) -> Float[Array, ""]:
    """Sum over captions and cells the squared difference of a cell's total attention from 1: Σ_s (1 − Σ_t w_ts)².

    Reference: Xu et al. 2015, equation 14.
    """
    real = jnp.arange(weights.shape[1])[None, :] < lengths[:, None]
    totals = jnp.sum(jnp.where(real[..., None], weights, 0.0), axis=1)
    return jnp.sum(jnp.where(lengths[:, None] > 0, (1.0 - totals) ** 2, 0.0))


def attention_supervision(weights: Float[Array, "b t s"], gold: Bool[Array, "b t s"]) -> Float[Array, ""]:
    """Sum over the words with a gold region the negative log of their attention in it: −log Σ_{s in region} w_ts.

    Numerics: the share is clipped at `MIN_SHARE`.
    Reference: Liu, Mao, Sha & Yuille 2017, "Attention correctness in neural image captioning", section 3.2.
    """
    share = jnp.sum(jnp.where(gold, weights, 0.0), axis=-1)
    return jnp.sum(jnp.where(jnp.any(gold, axis=-1), -jnp.log(jnp.maximum(share, MIN_SHARE)), 0.0))

"""Blocks of attention, made by hand and at random, and the methods that decompose them, compiled."""

import jax.numpy as jnp
import numpy as np
from compiled import compiled

from attnlab.analysis import attribution
from attnlab.analysis.attribution import AttentionBlock, Decomposition, NormParameters, decomposition
from attnlab.analysis.attribution.value_zeroing import cosine_distance

alti, alti_contributions, alti_plus = map(
    compiled, (attribution.alti, attribution.alti_contributions, attribution.alti_plus)
)
attention_norms, block_norms, head_attention_norms = map(
    compiled, (attribution.attention_norms, attribution.block_norms, attribution.head_attention_norms)
)
decompose_cross_attention, decompose_self_attention = map(
    compiled, (attribution.decompose_cross_attention, attribution.decompose_self_attention)
)
encoder_norms, globenc = map(compiled, (attribution.encoder_norms, attribution.globenc))
mixing_ratio, rollout = map(compiled, (attribution.mixing_ratio, attribution.rollout))
value_zeroing, weighted_values = map(compiled, (attribution.value_zeroing, attribution.weighted_values))
apply_linear_norm, cosine_distance = map(compiled, (decomposition.apply_linear_norm, cosine_distance))
TWO_TOKENS = AttentionBlock(
    weights=jnp.array([[[0.5, 0.5], [0.25, 0.75]]]),
    values=jnp.array([[[2.0, 0.0]], [[2.0, 4.0]]]),
    output_kernel=jnp.asarray(np.eye(2)[None]),
    residual=jnp.array([[1.0, 1.0], [0.0, -1.0]]),
)
"""By hand: token 0 is [1, 0] + [1, 1] = [2, 1] of itself and [1, 2] of token 1; token 1 is [0.5, 0] of token 0 and
[1.5, 3] + [0, −1] = [1.5, 2] of itself."""
total = compiled(Decomposition.total)


def random_block(seed, queries, keys, heads=2, width=6, causal=False, norm=True):
    rng = np.random.default_rng(seed)
    normal = lambda spread, *shape: jnp.asarray(spread * rng.normal(size=shape), "float32")  # noqa: E731
    exponentials = np.exp(2 * rng.normal(size=(heads, queries, keys)))
    exponentials = np.tril(exponentials) if causal else exponentials
    weights = jnp.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True), "float32")
    parameters = NormParameters(jnp.asarray(1 + 0.3 * rng.normal(size=width), "float32"), normal(0.3, width))
    values, output, residual = normal(1, keys, heads, 3), normal(1, heads, 3, width), normal(3, queries, width)
    return AttentionBlock(weights, values, output, residual, normal(0.2, width), parameters if norm else None)

"""SmoothGrad: gradients averaged over noisy copies of the input."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import weighted_sum
from attnlab.analysis.attribution.checks import check_embedded, check_positive, check_valid, gradient_of
from attnlab.analysis.attribution.record import Attribution, Scores


def smooth_grad(
    scores: Scores,
    embedded: Float[Array, "n d"],
    *,
    rng: Array,
    noise_level: float = 0.15,
    n_samples: int = 50,
    internal_batch_size: int | None = None,
    valid: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Average the score's gradient over copies of the input with Gaussian noise.

    attributions = 1/N Σ_s ∂F/∂x (x + ε_s),    ε_s ~ N(0, σ²),    σ = noise_level · (max x − min x)

    It can say to which tokens the score reacts in a neighborhood rather than at one point, where gradients fluctuate.
    It cannot say how much of the score a token accounts for, and noisy embeddings belong to no tokens. The gradients
    keep their sign; aggregate them by "vnorm". (captum's `NoiseTunnel(Saliency)` averages magnitudes unless
    `abs=False`.)

    Args:
        scores: the explained number as a function of the embedded tokens.
        embedded: the embedded tokens of one example; `jax.vmap` gives batches (with one rng for each example).
        rng: a key of `jax.random`.
        noise_level: σ in units of the range of the real tokens' features; the paper advises 0.1 to 0.2.
        n_samples: N; the paper sees little gain above 50.
        internal_batch_size: number of copies that are computed at a time; None for all. It does not change the noise.
        valid: True for real tokens, which alone get noise; None if there is no padding.
    Returns: an `Attribution` with attributions [n d], of either sign; no completeness gap.
    Cost: n_samples forward and backward passes.
    Numerics: dtype of `embedded`; padding has exactly 0.
    Reference: Smilkov et al. 2017, section 2.

    >>> smooth_grad(lambda x: 2 * x[0, 0], jnp.ones((1, 1)), rng=jax.random.key(0), n_samples=2).attributions.tolist()
    [[2.0]]
    """
    name = "smooth_grad"
    check_embedded(name, embedded)
    check_valid(name, valid, embedded.shape[0])
    check_positive(name, n_samples=n_samples, internal_batch_size=internal_batch_size)
    if noise_level < 0:
        raise ValueError(f"{name}: noise_level must be at least 0, not {noise_level}")
    if not embedded.size:
        return Attribution(name, jnp.zeros_like(embedded))
    real = jnp.ones(embedded.shape, bool) if valid is None else jnp.broadcast_to(valid[:, None], embedded.shape)
    span = jnp.max(embedded, initial=-jnp.inf, where=real) - jnp.min(embedded, initial=jnp.inf, where=real)
    deviation = jnp.where(real, noise_level * jnp.where(jnp.isfinite(span), span, 0), 0).astype(embedded.dtype)
    slope = gradient_of(name, scores)

    def sample(index: Array) -> Array:
        noise = jax.random.normal(jax.random.fold_in(rng, index), embedded.shape, embedded.dtype)
        return slope(embedded + deviation * noise)

    weights = jnp.full(n_samples, 1 / n_samples, embedded.dtype)
    mean = weighted_sum(sample, jnp.arange(n_samples), weights, internal_batch_size)
    return Attribution(name, jnp.where(real, mean, 0))

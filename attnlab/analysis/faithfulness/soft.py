"""Soft erasure: features of the embeddings are masked at random, each token's at a rate given by its attribution."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.faithfulness.masks import Attributions, Where

PredictEmbedded = Callable[[Float[Array, "m n d"]], Float[Array, " m"]]
"""(embedded [m n d]) -> the target's probability [m] for each version of the text's embeddings."""


def min_max(attributions: Attributions, where: Where | None = None) -> Attributions:
    """Scale attributions to [0, 1]: the smallest of the text to 0, the largest to 1.

    scaled_i = (a_i − min a) / (max a − min a)

    Returns: 0 where `where` is False; all 0 if all attributions are equal.

    >>> min_max(jnp.array([-1.0, 0.0, 3.0, 9.0]), jnp.array([True, True, True, False])).tolist()
    [0.0, 0.25, 1.0, 0.0]
    """
    where = jnp.ones(attributions.shape, bool) if where is None else where
    low = jnp.min(attributions, where=where, initial=jnp.inf)
    spread = jnp.max(attributions, where=where, initial=-jnp.inf) - low
    return jnp.where(where & (spread > 0.0), (attributions - low) / jnp.where(spread > 0.0, spread, 1.0), 0.0)


def soft_comprehensiveness(
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    attributions: Attributions,
    where: Where | None = None,
    *,
    samples: int = 10,
) -> Float[Array, ""]:
    """Compute how much the prediction falls when features are masked, the more likely the larger the attribution.

    E[max(0, f(X) − f(E ⊙ X))] / max(0, f(X) − f(0)),    E[i, j] ~ Bernoulli(1 − a_i) for each feature j of token i

    Called Soft-NC in the paper, which draws once; here it is a mean over draws. The higher the better. Unlike
    `normalized_comprehensiveness` it uses the attributions themselves, not only their order, and has no ratio.

    Args:
        rng: a key of `jax.random`.
        predict: (embedded [m n d]) -> the target's probability [m].
        embedded: the embeddings of the tokens.
        attributions: of each token, in [0, 1] (see `min_max`); other values are clipped.
        where: True for tokens that may be masked; None if all may. The embeddings of others stay as they are.
        samples: number of draws.
    Returns: at least 0; NaN if the prediction for embeddings of zeros is not lower than that for the text.
    Reference: Zhao & Aletras 2023, eq. 5.

    >>> predict = lambda embedded: embedded.sum(axis=(1, 2)) / 4.0
    >>> embedded = jnp.array([[1.0, 1.0], [1.0, 1.0]])
    >>> float(soft_comprehensiveness(jax.random.key(0), predict, embedded, jnp.array([1.0, 0.0])))
    0.5
    """
    full, soft, null = _predictions(rng, predict, embedded, 1.0 - jnp.clip(attributions, 0.0, 1.0), where, samples)
    return jnp.mean(jnp.maximum(full - soft, 0.0)) / jnp.where(full > null, full - null, jnp.nan)


def soft_sufficiency(
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    attributions: Attributions,
    where: Where | None = None,
    *,
    samples: int = 10,
) -> Float[Array, ""]:
    """Compute how well the prediction is preserved when features are kept with the attribution as probability.

    (S − S₀) / (1 − S₀),    S = 1 − E[max(0, f(X) − f(E ⊙ X))],    S₀ = 1 − max(0, f(X) − f(0)),
    E[i, j] ~ Bernoulli(a_i) for each feature j of token i

    Called Soft-NS in the paper, which draws once; here S is a mean over draws. The higher the better.

    Args: as in `soft_comprehensiveness`.
    Returns: at most 1; NaN if the prediction for embeddings of zeros is not lower than that for the text.
    Reference: Zhao & Aletras 2023, eq. 4.

    >>> predict = lambda embedded: embedded.sum(axis=(1, 2)) / 4.0
    >>> embedded = jnp.array([[1.0, 1.0], [1.0, 1.0]])
    >>> float(soft_sufficiency(jax.random.key(0), predict, embedded, jnp.array([1.0, 0.0])))
    0.5
    """
    full, soft, null = _predictions(rng, predict, embedded, jnp.clip(attributions, 0.0, 1.0), where, samples)
    return 1.0 - jnp.mean(jnp.maximum(full - soft, 0.0)) / jnp.where(full > null, full - null, jnp.nan)


def _predictions(
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    kept_rate: Float[Array, " n"],
    where: Where | None,
    samples: int,
) -> tuple[Float[Array, ""], Float[Array, " m"], Float[Array, ""]]:
    """Return the predictions for the embeddings, for `samples` masked versions, and with all tokens set to zero."""
    if samples < 1:
        raise ValueError(f"soft erasure: samples must be at least 1, not {samples}")
    where = jnp.ones(len(embedded), bool) if where is None else where
    kept_rate = jnp.where(where, kept_rate, 1.0)
    kept = jax.random.uniform(rng, (samples, *embedded.shape), kept_rate.dtype) < kept_rate[None, :, None]
    null = jnp.where(where[:, None], 0.0, embedded)
    soft = jnp.where(kept, embedded[None], 0.0)
    predictions = predict(jnp.concatenate([embedded[None], soft, null[None]]))
    return predictions[0], predictions[1:-1], predictions[-1]

"""Soft erasure: features of the embeddings are masked at random, each token's at a rate given by its attribution."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.attribution.checks import check_embedded
from attnlab.analysis.checks import check_attributions, check_positive, has_nan
from attnlab.analysis.faithfulness.removal import Attributions, Removable
from attnlab.functional.types import widen

PredictEmbedded = Callable[[Float[Array, "m n d"]], Float[Array, " m"]]
"""(embedded [m n d]) -> the target's probability [m] for each version of the text's embeddings."""


def min_max(attributions: Attributions, removable: Removable | None = None) -> Float[Array, " n"]:
    """Scale attributions to [0, 1]: the smallest of the text to 0, the largest to 1.

    scaled_i = (a_i − min a) / (max a − min a)

    Returns: 0 where `removable` is False; all others 0 if all attributions are equal, and NaN if one is NaN.

    >>> min_max(jnp.array([-1.0, 0.0, 3.0, 9.0]), jnp.array([True, True, True, False])).tolist()
    [0.0, 0.25, 1.0, 0.0]
    """
    values, allowed = check_attributions("min_max", attributions, removable, "removable")
    low = jnp.min(values, where=allowed, initial=jnp.inf)
    spread = jnp.max(values, where=allowed, initial=-jnp.inf) - low
    scaled = jnp.where(spread > 0.0, (values - low) / jnp.where(spread > 0.0, spread, 1.0), 0.0)
    return jnp.where(allowed, jnp.where(has_nan(values, allowed), jnp.nan, scaled), 0.0)


def soft_comprehensiveness(
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    n_samples: int = 10,
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
        removable: True for tokens that may be masked; None if all may. The embeddings of others stay as they are.
        n_samples: number of draws.
    Returns: at least 0; NaN if the prediction for embeddings of zeros is not lower than that for the text, or if an
        attribution is NaN.
    Reference: Zhao & Aletras 2023, eq. 5.

    >>> predict = lambda embedded: embedded.sum(axis=(1, 2)) / 4.0
    >>> embedded = jnp.array([[1.0, 1.0], [1.0, 1.0]])
    >>> float(soft_comprehensiveness(jax.random.key(0), predict, embedded, jnp.array([1.0, 0.0])))
    0.5
    """
    name = "soft_comprehensiveness"
    values, allowed = check_attributions(name, attributions, removable, "removable")
    rate = 1.0 - jnp.clip(values, 0.0, 1.0)
    full, soft, null = _predictions(name, rng, predict, embedded, rate, allowed, n_samples)
    return jnp.mean(jnp.maximum(full - soft, 0.0)) / jnp.where(full > null, full - null, jnp.nan)


def soft_sufficiency(
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    attributions: Attributions,
    removable: Removable | None = None,
    *,
    n_samples: int = 10,
) -> Float[Array, ""]:
    """Compute how well the prediction is preserved when features are kept with the attribution as probability.

    (S − S₀) / (1 − S₀),    S = 1 − E[max(0, f(X) − f(E ⊙ X))],    S₀ = 1 − max(0, f(X) − f(0)),
    E[i, j] ~ Bernoulli(a_i) for each feature j of token i

    Called Soft-NS in the paper, which draws once; here S is a mean over draws. The higher the better.

    Args: as in `soft_comprehensiveness`.
    Returns: at most 1; NaN if the prediction for embeddings of zeros is not lower than that for the text, or if an
        attribution is NaN.
    Reference: Zhao & Aletras 2023, eq. 4.

    >>> predict = lambda embedded: embedded.sum(axis=(1, 2)) / 4.0
    >>> embedded = jnp.array([[1.0, 1.0], [1.0, 1.0]])
    >>> float(soft_sufficiency(jax.random.key(0), predict, embedded, jnp.array([1.0, 0.0])))
    0.5
    """
    name = "soft_sufficiency"
    values, allowed = check_attributions(name, attributions, removable, "removable")
    full, soft, null = _predictions(name, rng, predict, embedded, jnp.clip(values, 0.0, 1.0), allowed, n_samples)
    return 1.0 - jnp.mean(jnp.maximum(full - soft, 0.0)) / jnp.where(full > null, full - null, jnp.nan)


def _predictions(
    name: str,
    rng: Array,
    predict: PredictEmbedded,
    embedded: Float[Array, "n d"],
    kept_rate: Array,
    removable: Array,
    n_samples: int,
) -> tuple[Float[Array, ""], Float[Array, " m"], Float[Array, ""]]:
    """Return the predictions for the embeddings, for `n_samples` masked versions, and with all tokens set to zero.

    The masked versions' are NaN if an attribution is.
    """
    check_positive(name, n_samples=n_samples)
    check_embedded(name, embedded)
    if len(embedded) != kept_rate.size:
        raise ValueError(f"{name}: {kept_rate.size} attributions for {len(embedded)} embedded tokens; pass one a token")
    rate = jnp.where(removable, kept_rate, 1.0)
    kept = jax.random.uniform(rng, (n_samples, *embedded.shape), rate.dtype) < rate[None, :, None]
    null = jnp.where(removable[:, None], jnp.zeros_like(embedded), embedded)
    soft = jnp.where(kept, embedded[None], jnp.zeros_like(embedded)[None])
    predictions = jnp.asarray(predict(jnp.concatenate([embedded[None], soft, null[None]])))
    if predictions.shape != (n_samples + 2,):
        raise ValueError(
            f"{name}: predict must return an array of shape {(n_samples + 2,)} for embeddings of shape "
            f"{(n_samples + 2, *embedded.shape)}, not {predictions.shape}"
        )
    predictions = widen(predictions)
    undefined = has_nan(kept_rate, removable)
    return predictions[0], jnp.where(undefined, jnp.nan, predictions[1:-1]), predictions[-1]

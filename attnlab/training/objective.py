"""Loss functions: sums over the tokens or examples of a batch, padding excluded."""

import jax
import jax.numpy as jnp
from flax import struct
from jaxtyping import Array, Float, Int

from attnlab.functional.divergence import kl, tvd


@struct.dataclass
class Loss:
    """Sums over a batch, which can be added over devices: training minimizes Σ total / Σ count."""

    total: Float[Array, ""]
    count: Array
    """Tokens or examples in the sums; padding does not count."""
    metrics: dict[str, Array]
    """Other sums over the same tokens or examples, to be logged divided by `count`."""


def cross_entropy(
    logits: Float[Array, "b t v"], labels: Int[Array, "b t"], lengths: Int[Array, " b"], *, label_smoothing: float
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Sum over the first `lengths` positions of each row of the smoothed cross entropy, in nats.

    loss = Σ (1 − ε) · (−log p_y) + ε · mean over v of (−log p_v)

    A sum, so that parts of a batch can be added; divide by Σ lengths for the mean over tokens.

    Args:
        logits: unnormalized log-probabilities.
        labels: the correct class of each position.
        lengths: positions of a row that count; a row of length 0 is padding.
        label_smoothing: ε, between 0 and 1.
    Returns: the loss, and the negative log-likelihood (the same with ε = 0), whose mean is the log of the perplexity.
    Numerics: in the dtype of logits; a batch of padding alone gives 0.
    Reference: Szegedy et al. 2016, section 7.

    >>> loss, nll = cross_entropy(jnp.zeros((1, 2, 4)), jnp.zeros((1, 2), int), jnp.array([1]), label_smoothing=0.1)
    >>> round(float(loss), 4), round(float(nll), 4)
    (1.3863, 1.3863)
    """
    normalizer = jax.nn.logsumexp(logits, axis=-1)
    nll = normalizer - jnp.take_along_axis(logits, labels[..., None], axis=-1)[..., 0]
    smoothed = (1 - label_smoothing) * nll + label_smoothing * (normalizer - jnp.mean(logits, axis=-1))
    counts = jnp.arange(labels.shape[1])[None, :] < lengths[:, None]
    return jnp.sum(smoothed, where=counts), jnp.sum(nll, where=counts)


def guided_alignment(
    weights: Float[Array, "b t s"], links: Float[Array, "b t s"], lengths: Int[Array, " b"]
) -> Float[Array, ""]:
    """Sum the cross entropy between gold links and attention over the linked target positions, in nats.

    loss = −Σ_t 1/|A_t| Σ_{s ∈ A_t} log weights[t, s],  A_t the source positions linked to t (none adds 0)

    Args:
        weights: attention of each target position over the source.
        links: 1 where the gold alignment has a link, else 0.
        lengths: target positions of a row that count.
    Numerics: weights are clipped at 1e-9 from below, with gradient 0.
    Reference: Garg et al. 2019, equation 7; Chen et al. 2016.

    >>> round(float(guided_alignment(jnp.array([[[0.5, 0.5]]]), jnp.array([[[1.0, 0.0]]]), jnp.array([1]))), 4)
    0.6931
    """
    counts = jnp.arange(links.shape[1])[None, :] < lengths[:, None]
    linked = jnp.sum(links, axis=-1)
    share = links / jnp.maximum(linked, 1.0)[..., None]
    loss = -jnp.sum(share * jnp.log(jnp.maximum(weights, 1e-9)), axis=-1)
    return jnp.sum(loss, where=counts)


def model_consistent_loss(
    probabilities: Float[Array, " c"],
    base_probabilities: Float[Array, " c"],
    weights: Float[Array, "*r n"],
    base_weights: Float[Array, "*r n"],
    strength: float | Float[Array, ""],
) -> Float[Array, ""]:
    """Compute the loss that trains a model to the predictions of a base model, with other attention weights.

    loss = TVD(ŷ_a, ŷ_b) − λ KL(α_a ‖ α_b)

    with a the adversary, which is trained, and b the base model, which is fixed; the KL is averaged over hops. All
    parameters of the adversary are trained over the whole training set; `adversarial_attention` searches weights for
    one text of a fixed model.

    Args:
        probabilities: of the adversary for one text.
        base_probabilities: of the base model for this text.
        weights: attention weights of the adversary, one row a hop if there are several.
        base_weights: attention weights of the base model over the same tokens.
        strength: λ; the larger, the more the weights differ and the less alike the predictions are.
    Returns: at most 1; there is no lower bound. Sum or average it over texts.
    Numerics: padding, with weight 0 in both, adds nothing. −∞ where a base weight is exactly 0 and the adversary's is
        not.
    Reference: Wiegreffe & Pinter 2019, eq. 1.

    >>> half, other = jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])
    >>> float(model_consistent_loss(half, other, half, half, 1.0))
    0.25
    """
    return tvd(probabilities, base_probabilities) - strength * jnp.mean(kl(weights, base_weights))

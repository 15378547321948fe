"""Differences between two distributions: of predictions over classes, or of attention weights over tokens."""

import jax.numpy as jnp
from jaxtyping import Array, Float

Distribution = Float[Array, " c"]
"""Probabilities that sum to one. A position that is 0 in both distributions, such as padding, adds nothing."""


def tvd(p: Distribution, q: Distribution) -> Float[Array, ""]:
    """Compute the total variation distance of two distributions.

    tvd = ½ Σ_c |p_c − q_c|

    For a binary classifier with one sigmoid output, pass both classes, [1 − p, p].

    Returns: in [0, 1].
    Numerics: the gradient is ±½, and 0 at equal entries. (That of `jnp.abs` is 1 at 0.)
    Reference: Jain & Wallace 2019, section 4.

    >>> tvd(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])).tolist()
    0.25
    """
    difference = p - q
    return 0.5 * jnp.sum(jnp.where(difference == 0.0, 0.0, jnp.abs(difference)))


def kl(p: Distribution, q: Distribution) -> Float[Array, ""]:
    """Compute the Kullback–Leibler divergence of two distributions, in nats.

    kl = Σ_c p_c log(p_c / q_c)    with 0 log 0 = 0

    Not symmetric: it is the expectation under the first distribution.

    Returns: at least 0; ∞ where q is 0 and p is not.
    Numerics: the gradient in p is 0 at p = 0.

    >>> round(float(kl(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 4)
    0.1438
    """
    positive = p > 0.0
    logarithms = jnp.log(jnp.where(positive, p, 1.0)) - jnp.log(jnp.where(positive, q, 1.0))
    return jnp.sum(jnp.where(positive, p * logarithms, 0.0))


def jsd(p: Distribution, q: Distribution) -> Float[Array, ""]:
    """Compute the Jensen–Shannon divergence of two distributions, in nats.

    jsd = ½ kl(p, m) + ½ kl(q, m),    m = (p + q) / 2

    The divergence, not its square root (SciPy's `jensenshannon` is the root).

    Returns: in [0, ln 2 ≈ 0.6931]; ln 2 for distributions with no position in common.
    Numerics: rounding may leave a value of about −1e-8 for equal distributions. The gradient is finite everywhere.
    Reference: Jain & Wallace 2019, section 4; Lin 1991.

    >>> round(float(jsd(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))), 4)
    0.6931
    """
    middle = 0.5 * (p + q)
    return 0.5 * kl(p, middle) + 0.5 * kl(q, middle)

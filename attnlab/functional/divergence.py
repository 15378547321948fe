"""Differences between two distributions: of predictions over classes, or of attention weights over tokens."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.functional.types import widen

Distribution = Float[Array, "*b c"]
"""Probabilities that sum to one. A position that is 0 in both distributions, such as padding, adds nothing."""


def tvd(p: Distribution, q: Distribution) -> Float[Array, "*b"]:
    """Compute the total variation distance of two distributions.

    tvd = ½ Σ_c |p_c − q_c|

    For a binary classifier with one sigmoid output, pass both classes, [1 − p, p].

    Returns: in [0, 1]; NaN if a probability is NaN.
    Numerics: float32 or wider. The gradient is ±½, and 0 at equal entries. (That of `jnp.abs` is 1 at 0.)
    Reference: Jain & Wallace 2019, section 4.

    >>> tvd(jnp.array([0.5, 0.5]), jnp.array([0.75, 0.25])).tolist()
    0.25
    """
    difference = widen(p) - widen(q)
    return 0.5 * jnp.sum(jnp.where(difference == 0.0, 0.0, jnp.abs(difference)), axis=-1)


def kl(p: Distribution, q: Distribution) -> Float[Array, "*b"]:
    """Compute the Kullback–Leibler divergence of two distributions, in nats.

    kl = Σ_c p_c log(p_c / q_c)    with 0 log 0 = 0

    Not symmetric: it is the expectation under the first distribution.

    Returns: at least 0; ∞ where q is 0 and p is not; NaN if a probability is NaN.
    Numerics: float32 or wider. The gradient in p is 0 at p = 0.

    >>> round(float(kl(jnp.array([0.5, 0.5]), jnp.array([0.25, 0.75]))), 4)
    0.1438
    """
    p, q = widen(p), widen(q)
    counts = ~(p <= 0.0) | jnp.isnan(q)
    logarithms = jnp.log(jnp.where(counts, p, 1.0)) - jnp.log(jnp.where(counts, q, 1.0))
    return jnp.sum(jnp.where(counts, p * logarithms, 0.0), axis=-1)


def jsd(p: Distribution, q: Distribution) -> Float[Array, "*b"]:
    """Compute the Jensen–Shannon divergence of two distributions, in nats.

    jsd = ½ kl(p, m) + ½ kl(q, m),    m = (p + q) / 2

    The divergence, not its square root, which is a metric (SciPy's `jensenshannon` is the root).

    Returns: in [0, ln 2 ≈ 0.6931]; 0 for equal distributions, ln 2 for distributions with no position in common, NaN if
        a probability is NaN.
    Numerics: float32 or wider; computed as ¼ Σ t ((1 + x) log(1 + x) + (1 − x) log(1 − x)) with t = p + q and
        x = (p − q) / t, which loses no digits where the two are nearly equal: the error is about 1e-8 in float32. The
        gradient in p_c is ½ log(p_c / m_c), with the smallest normal number in place of smaller positive p_c, and 0 at
        p_c = 0: it is finite everywhere.
    Reference: Lin 1991, with equal weights; Jain & Wallace 2019, section 4.

    >>> round(float(jsd(jnp.array([1.0, 0.0]), jnp.array([0.0, 1.0]))), 4)
    0.6931
    """
    p, q = widen(p), widen(q)
    total = jnp.sum(_jsd_terms(p, q), axis=-1)
    return jnp.where(total < 0.0, 0.0, total)


@jax.custom_jvp
def _jsd_terms(p: Array, q: Array) -> Array:
    total = p + q
    x = jnp.where(total > 0.0, (p - q) / jnp.where(total > 0.0, total, 1.0), 0.0)
    return 0.25 * total * (_entropy_term(x) + _entropy_term(-x))


@_jsd_terms.defjvp
def _jsd_terms_jvp(primals: tuple[Array, Array], tangents: tuple[Any, Any]) -> tuple[Array, Array]:
    p, q = primals
    return _jsd_terms(p, q), _slope(p, q) * tangents[0] + _slope(q, p) * tangents[1]


def _entropy_term(y: Array) -> Array:
    """Return (1 + y) log(1 + y), 0 at y = −1."""
    positive = y > -1.0
    return jnp.where(positive, (1.0 + y) * jnp.log1p(jnp.where(positive, y, 0.0)), 0.0)


def _slope(p: Array, q: Array) -> Array:
    """Return ½ log(p / m) with m = (p + q) / 2, and 0 at p = 0."""
    tiny, positive = jnp.finfo(p.dtype).tiny, p > 0.0
    some, other = jnp.where(positive, jnp.maximum(p, tiny), 1.0), jnp.where(positive, q, 1.0)
    x = (some - other) / (some + other)
    near = x > -0.5
    far = jnp.log(some) - jnp.log(0.5 * some + 0.5 * other)
    return jnp.where(positive, 0.5 * jnp.where(near, jnp.log1p(jnp.where(near, x, 0.0)), far), 0.0 * p)

"""Sparse normalizers: keys whose logits are far enough below the largest get weight exactly 0.

All three have the form weights = power(logits − threshold) with one threshold per row, such that the weights sum to
one. The threshold is computed by sorting or bisection, without gradient, and followed by steps of Newton's method from
the solution, which are differentiated. k steps have all derivatives of the implicit function up to the order 2^k − 1,
so two steps suffice for third derivatives. (A `jax.custom_jvp` would be equivalent, but JAX drops its rule where a
reverse pass through `lax.map` is differentiated in reverse again.)
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.normalizers.allowed import guard, positive_part
from attnlab.functional.parameters import check_values, valid_scalar


def sparsemax(logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None) -> Float[Array, "*rows k"]:
    """Normalize by sparsemax: the Euclidean projection of the logits onto the simplex.

    weights[i] = argmin_{p in the simplex} ‖p − logits[i]‖² = max(logits[i] − threshold_i, 0)    where allowed, else 0

    Args:
        logits: any real numbers; −inf is masked.
        where: True where a query may attend to a key; None if all keys are allowed.
    Returns: weights in [0, 1] that sum to one, many of them exactly 0.
    Numerics: as for all `normalizers`. Exact, by sorting, and so is the gradient, which is discontinuous where a key
        enters the support; at that point it is the gradient of the smaller support. Second derivatives are 0.
    Reference: Martins & Astudillo 2016, algorithm 1.

    >>> sparsemax(jnp.array([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    gaps = _gaps(logits, where)
    inside = gaps > _sparsemax_threshold(jax.lax.stop_gradient(gaps))
    size = jnp.maximum(jnp.sum(inside, axis=-1, keepdims=True), 1).astype(gaps.dtype)
    threshold = (jnp.sum(jnp.where(inside, gaps, 0.0), axis=-1, keepdims=True) - 1.0) / size
    return positive_part(gaps - threshold).astype(logits.dtype)


def entmax15(logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None) -> Float[Array, "*rows k"]:
    """Normalize by 1.5-entmax, halfway between softmax and sparsemax.

    weights[i, j] = max(logits[i, j] / 2 − threshold_i, 0)²    where j is allowed, else 0

    Args: as in `sparsemax`.
    Returns: weights in [0, 1] that sum to one, some of them exactly 0.
    Numerics: as for all `normalizers`. Exact, by sorting; so are the gradient, which is continuous, and derivatives up
        to the third.
    Reference: Peters, Niculae & Martins 2019, "Sparse Sequence-to-Sequence Models".

    >>> [round(weight, 4) for weight in entmax15(jnp.array([1.0, 0.0, -9.0])).tolist()]
    [0.8307, 0.1693, 0.0]
    """
    gaps = _gaps(logits, where) / 2.0
    threshold = _entmax15_threshold(jax.lax.stop_gradient(gaps))
    for _ in range(_STEPS):
        root = positive_part(gaps - threshold)
        threshold += _step(jnp.square(root), 2.0 * root)
    return jnp.square(positive_part(gaps - threshold)).astype(logits.dtype)


def entmax(alpha: Any) -> "Entmax":
    """Return the α-entmax, which interpolates softmax (α = 1), 1.5-entmax and sparsemax (α = 2).

    weights[i, j] = (1 + (α − 1) (logits[i, j] − threshold_i))₊^(1 / (α − 1))    where j is allowed, else 0

    Args:
        alpha: a number or array [], 1 or more, which may be learned; `parts.map_over(alpha, "h")` for one per head. The
            caller keeps a learned α in [1, 2], for example as 1 + sigmoid(a).
    Returns: a normalizer; its weights lie in [0, 1] and sum to one, with 0 for keys far below the largest logit.
    Numerics: as for all `normalizers`. The threshold is bisected to the last bit. Derivatives up to the third with
        respect to logits and α are those of the implicit function, also at and near α = 1, where the power becomes the
        exponential. Above 2 the slope at the edge of the support is infinite, and weights near it are less accurate.
        An α below 1 raises if its value is known, and gives NaN inside jit. `entmax15` and `sparsemax` are several
        times as fast.
    Reference: Peters, Niculae & Martins 2019; Correia, Niculae & Martins 2019, section 3 (α learned).

    >>> weights = entmax(2.0)(jnp.array([1.0, 0.5, -1.0]))
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.75, 0.25, 0.0]
    """
    check_values("entmax: alpha", alpha, "at least 1 (the softmax)", _at_least_one)
    return Entmax(alpha)


@partial(jax.tree_util.register_dataclass, data_fields=["alpha"], meta_fields=[])
@dataclass(frozen=True)
class Entmax:
    """The α-entmax; made by `entmax`."""

    alpha: Any

    def __call__(
        self, logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
    ) -> Float[Array, "*rows k"]:
        gaps = _gaps(logits, where)
        excess = valid_scalar("entmax: alpha", self.alpha, _at_least_one, gaps) - 1.0
        threshold = _entmax_threshold(*jax.lax.stop_gradient((gaps, excess)))
        for _ in range(_STEPS):
            threshold += _step(*_power(gaps - threshold, excess))
        return _power(gaps - threshold, excess)[0].astype(logits.dtype)


_STEPS = 2


def _at_least_one(number: Any) -> Any:
    return number >= 1.0


def _step(weights: Array, slopes: Array) -> Array:
    """Return the Newton step of the threshold, from the weights, which should sum to one, and their slopes."""
    slope = jnp.sum(slopes, axis=-1, keepdims=True)
    return (jnp.sum(weights, axis=-1, keepdims=True) - 1.0) / jnp.where(slope == 0.0, 1.0, slope)


def _gaps(logits: Array, where: Array | None) -> Array:
    """Return each allowed logit minus the largest of its row (≤ 0); −inf where masked."""
    safe, may = guard(logits, where)
    constant = jax.lax.stop_gradient(safe)
    top = jnp.max(jnp.where(may, constant, -jnp.inf), axis=-1, keepdims=True, initial=-jnp.inf)
    return jnp.where(may, safe - jnp.where(top == -jnp.inf, 0.0, top), -jnp.inf)


def _sparsemax_threshold(gaps: Array) -> Array:
    sorted_gaps, rank = _ranked(gaps)
    inside = 1.0 + rank * sorted_gaps > jnp.cumsum(sorted_gaps, axis=-1)
    size = jnp.maximum(jnp.sum(inside, axis=-1, keepdims=True), 1).astype(gaps.dtype)
    return (jnp.sum(jnp.where(inside, sorted_gaps, 0.0), axis=-1, keepdims=True) - 1.0) / size


def _entmax15_threshold(gaps: Array) -> Array:
    sorted_gaps, rank = _ranked(gaps)
    mean = jnp.cumsum(sorted_gaps, axis=-1) / rank
    scatter = jnp.cumsum(jnp.square(sorted_gaps), axis=-1) - rank * jnp.square(mean)
    thresholds = mean - jnp.sqrt(jnp.maximum((1.0 - scatter) / rank, 0.0))
    size = jnp.sum(thresholds <= sorted_gaps, axis=-1, keepdims=True).astype(gaps.dtype)
    return jnp.sum(jnp.where(rank == size, thresholds, 0.0), axis=-1, keepdims=True)


def _ranked(gaps: Array) -> tuple[Array, Array]:
    """Return the gaps in descending order, and their ranks 1, 2, 3 … in an array with as many axes.

    Keys 1 or more below the largest have weight 0, so their gaps are set to −1 (NaN stays NaN).
    """
    clipped = jnp.where(gaps <= -1.0, -1.0, gaps)
    rank = jnp.arange(1, gaps.shape[-1] + 1, dtype=gaps.dtype)
    return jnp.sort(clipped, axis=-1, descending=True), rank.reshape(*[1] * (gaps.ndim - 1), -1)


def _power(above: Array, excess: Array) -> tuple[Array, Array]:
    """Return (1 + excess · above)₊^(1 / excess), with its limit exp(above) at excess 0, and its derivative."""
    inside = (above != -jnp.inf) & ~(excess * above <= -1.0)
    above = jnp.where(inside, above, 0.0)
    part = excess * above
    power = jnp.where(inside, jnp.exp(above * _log1p_ratio(part)), 0.0)
    return power, power / (1.0 + part)


@partial(jax.jit, inline=True)  # an eager call would compile the loop each time
def _entmax_threshold(gaps: Array, excess: Array) -> Array:
    """Bisect the threshold: at 0 the largest logit alone has weight 1, at log n no key has more than 1 / n."""
    excess = jnp.maximum(excess, 1e-30)
    count = jnp.sum(gaps != -jnp.inf, axis=-1, keepdims=True).astype(gaps.dtype)

    def total(threshold: Array) -> Array:
        base = excess * (gaps - threshold)
        power = jnp.exp(jnp.log1p(jnp.maximum(base, -1.0)) / excess)
        return jnp.sum(power, axis=-1, keepdims=True)

    def halve(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = bounds
        middle = (low + high) / 2.0
        heavy = total(middle) >= 1.0
        return jnp.where(heavy, middle, low), jnp.where(heavy, high, middle)

    bounds = jnp.zeros_like(count), jnp.log(jnp.maximum(count, 1.0))
    low, high = jax.lax.fori_loop(0, jnp.finfo(gaps.dtype).nmant + 6, halve, bounds)
    return (low + high) / 2.0


def _log1p_ratio(t: Array) -> Array:
    """Return log(1 + t) / t, 1 at t = 0; by its power series near 0, where the derivatives would cancel."""
    near = jnp.abs(t) < 0.1
    small, far = jnp.where(near, t, 0.0), jnp.where(near, 1.0, t)
    series = jnp.zeros_like(t)
    for n in reversed(range(18)):
        series = series * -small + 1.0 / (n + 1)
    return jnp.where(near, series, jnp.log1p(far) / far)

"""Normalizers that select keys: those with the k largest logits, that with the largest, or a random sample."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional import random
from attnlab.functional.normalizers.allowed import guard
from attnlab.functional.normalizers.exponential import softmax, temperature
from attnlab.functional.normalizers.positional import Positional
from attnlab.functional.parameters import check_values, positive
from attnlab.functional.types import Positions


def top_k(k: int) -> "TopK":
    """Return the softmax over the k largest allowed logits of each query.

    weights[i, j] = exp(logits[i, j]) / Σ_{m in top k of i} exp(logits[i, m])    where j is in the top k, else 0

    Ties are resolved in favor of the first keys. It saves no computation: all logits are computed.

    Args:
        k: number of keys, 1 or more; if fewer are allowed, the softmax is over all allowed keys.
    Returns: a normalizer; its weights sum to one, with at most k nonzero per row.
    Numerics: as in `softmax`. The selection has no gradient: the derivative is that of the softmax over selected keys.
    Reference: Gupta et al. 2021, "Memory-efficient Transformers via Top-k Attention", section 2; Zhao et al. 2019.

    >>> top_k(2)(jnp.array([1.0, 0.0, 1.0, 1.0])).tolist()
    [0.5, 0.0, 0.5, 0.0]
    """
    if not isinstance(k, int) or k < 1:
        raise ValueError(f"top_k: k must be an integer of 1 or more, not {k!r}")
    return TopK(k)


@partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["k"])
@dataclass(frozen=True)
class TopK:
    """The softmax over the k largest allowed logits; made by `top_k`."""

    k: int

    def __call__(
        self, logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
    ) -> Float[Array, "*rows k"]:
        safe, may = guard(logits, where)
        constant = jnp.where(may, jax.lax.stop_gradient(safe), -jnp.inf)
        smallest = jax.lax.top_k(constant, min(self.k, constant.shape[-1]))[0][..., -1:]
        above, tied = constant > smallest, constant == smallest
        room = self.k - jnp.sum(above, axis=-1, keepdims=True)
        selected = above | tied & (jnp.cumsum(tied, axis=-1) <= room) | jnp.isnan(constant)
        return softmax(logits, may & selected)


def hardmax(logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None) -> Float[Array, "*rows k"]:
    """Normalize to weight 1 for the largest allowed logit and 0 for all others.

    weights[i, j] = 1 for the first allowed key j with the largest logits[i, j], else 0

    The limit of `temperature(t)` for t → 0. Its derivative, which is 0 almost everywhere, is replaced by that of the
    softmax, so that it can be trained (straight-through).

    Args: as in `softmax`.
    Returns: one-hot rows; all 0 if all keys are masked.
    Numerics: as for all `normalizers`. The derivatives, forward and reverse, are those of `softmax`.
    Reference: Xu et al. 2015, section 4.1 (hard attention); Bengio, Léonard & Courville 2013 (straight-through).

    >>> hardmax(jnp.array([1.0, 2.0, 2.0])).tolist()
    [0.0, 1.0, 0.0]
    """
    safe, may = guard(logits, where)
    return _straight_through(jnp.where(may, safe, -jnp.inf), softmax(safe, may)).astype(logits.dtype)


def gumbel_softmax(rng: Any, temperature: Any = 1.0, hard: bool = False) -> "GumbelSoftmax":
    """Return the softmax of noisy logits, a differentiable sample of one key with the probabilities of the softmax.

    weights[i] = softmax((logits[i] + noise[i]) / temperature)    over the allowed keys
    noise[i, j] = −log(−log(u[i, j])),    u uniform in (0, 1)

    The largest of logits + noise is key j with probability softmax(logits)[j] at any temperature; the weights
    approach that key alone as the temperature falls.

    Args:
        rng: a key of `jax.random`, a new one for every call, as for dropout. The noise is a hash of (rng, example,
            head, query, key), so it does not depend on how positions are divided into blocks, and it is independent of
            dropout with the same rng.
        temperature: a positive number or array []; as in `temperature`.
        hard: whether the sampled key has weight 1 and all others 0, with the derivative of the weights above.
    Returns: a `Positional` normalizer; its weights sum to one.
    Numerics: as in `softmax`. The noise has 23 random bits, the same in every dtype, and lies in [−2.9, 16.7].
        With `hard`, ties go to the first key and the derivative is straight-through.
    Reference: Jang, Gu & Poole 2017, eq. 2 and section 2.2; Maddison, Mnih & Teh 2017.

    >>> positions = Positions(jnp.arange(1), jnp.arange(3), jnp.int32(0), jnp.int32(0))
    >>> sorted(gumbel_softmax(jax.random.key(0), hard=True)(jnp.zeros((1, 3)), None, positions)[0].tolist())
    [0.0, 0.0, 1.0]
    """
    if isinstance(rng, int | float | None):
        raise ValueError(f"gumbel_softmax: rng must be a key of jax.random, not {rng}; write rng=jax.random.key(0)")
    check_values("gumbel_softmax: temperature", temperature, "positive", positive)
    return GumbelSoftmax(rng, temperature, hard)


@partial(jax.tree_util.register_dataclass, data_fields=["rng", "temperature"], meta_fields=["hard"])
@dataclass(frozen=True)
class GumbelSoftmax(Positional):
    """The softmax of noisy logits; made by `gumbel_softmax`."""

    rng: Any
    temperature: Any = 1.0
    hard: bool = False

    def __call__(
        self, logits: Float[Array, "q k"], where: Bool[Array, "q k"] | None, positions: Positions
    ) -> Float[Array, "q k"]:
        safe, may = guard(logits, where)
        rng = jax.random.fold_in(self.rng, _STREAM)
        drawn = random.bits(rng, positions.example, positions.head, positions.query, positions.key)
        uniform = ((drawn >> 9).astype(safe.dtype) + 0.5) * 2.0**-23
        noisy = safe - jnp.log(-jnp.log(uniform))
        weights = temperature(self.temperature)(noisy, may)
        if self.hard:
            weights = _straight_through(jnp.where(may, noisy, -jnp.inf), weights)
        return weights.astype(logits.dtype)


_STREAM = 0x67756D62
"""Folded into the rng so that the noise is independent of dropout (the letters "gumb")."""


def _straight_through(logits: Array, weights: Array) -> Array:
    """Return the one-hot of the largest logit with the derivative of the weights; NaN and empty rows are unchanged."""
    if logits.shape[-1] == 0:
        return weights
    best = jnp.argmax(logits, axis=-1, keepdims=True)
    index = jax.lax.broadcasted_iota(best.dtype, logits.shape, logits.ndim - 1)
    hard = ((index == best) & (logits != -jnp.inf)).astype(weights.dtype)
    return hard + (weights - jax.lax.stop_gradient(weights))

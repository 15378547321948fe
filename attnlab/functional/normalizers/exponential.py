"""The softmax and its relatives: temperature, and a sink that takes a share of the weight without being a key."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.normalizers.allowed import guard, rounded
from attnlab.functional.parameters import scalar
from attnlab.functional.types import widen


def softmax(
    logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None, *, axis: int = -1
) -> Float[Array, "*axes"]:
    """Weigh every key by the exponential of its logit, so that the weights of a query add up to one.

    weights[i, j] = exp(logits[i, j]) / Σ_{k allowed} exp(logits[i, k])    where j is allowed, else 0

    Not `jax.nn.softmax(..., where=...)`, which gives NaN gradients when a masked logit is NaN.

    Args:
        logits: any real numbers; −inf is the same as not allowed.
        where: True where a query may attend to a key; None where it may attend to all.
        axis: the axis of the keys.
    Returns: weights in [0, 1] that add up to one along `axis`, or are all 0 when nothing is allowed.
    Numerics: shifted by the largest allowed logit; float32 inside for bfloat16 and float16. Nothing of a
        masked logit (NaN, ±inf) reaches a weight or a gradient; an empty row has gradient 0. Differentiable
        forward and in reverse, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 6; Bridle 1990.

    >>> softmax(jnp.array([0.0, 0.0, jnp.nan]), jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    logits = rounded(logits) if where is None else jnp.where(where, logits, -jnp.inf)
    return _softmax(widen(logits), axis).astype(logits.dtype)


def softmax_plus_one(
    logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
) -> Float[Array, "*rows k"]:
    """Weigh by the softmax with one more in the denominator, so that a query may attend to nothing much.

    weights[i, j] = exp(logits[i, j]) / (1 + Σ_{k allowed} exp(logits[i, k]))    where j is allowed, else 0

    The same as `softmax_with_sink(0.0)`, and as one more key of logit 0 whose value is zero.

    Args: as in `softmax`.
    Returns: weights in [0, 1) that add up to less than one.
    Numerics: as in `softmax`; shifted by the largest of 0 and the allowed logits, so nothing overflows.
    Reference: Miller 2023, "Attention Is Off By One".

    >>> softmax_plus_one(jnp.array([0.0, jnp.nan]), jnp.array([True, False])).tolist()
    [0.5, 0.0]
    """
    return Softmax(sink=0.0)(logits, where)


def temperature(t: Any) -> "Softmax":
    """Make the softmax of logits divided by a temperature: the lower, the nearer to the largest logit alone.

    weights[i, j] = exp(logits[i, j] / t) / Σ_{k allowed} exp(logits[i, k] / t)    where j is allowed, else 0

    Args:
        t: a positive number or array [], which may be learned, one a head by `parts.map_over(t, "h")`.
    Returns: a normalizer.
    Numerics: as in `softmax`.
    Reference: Hinton, Vinyals & Dean 2015, eq. 1.

    >>> weights = temperature(0.5)(jnp.log(jnp.array([1.0, 2.0])))
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.2, 0.8]
    """
    if isinstance(t, int | float) and not t > 0.0:
        raise ValueError(f"temperature: {t} is not positive")
    return Softmax(temperature=t)


def softmax_with_sink(sink: Any) -> "Softmax":
    """Make the softmax whose denominator holds one more term, the exponential of a (learned) sink logit.

    weights[i, j] = exp(logits[i, j]) / (exp(sink) + Σ_{k allowed} exp(logits[i, k]))    where j is allowed, else 0

    Not the attention sink of Xiao et al. 2023, who keep the first keys of the text: this sink is no key and has no
    value.

    Args:
        sink: a number or array [], −inf for none; which may be learned, one a head by `parts.map_over(sink, "h")`.
    Returns: a normalizer.
    Numerics: as in `softmax`; an empty row gives nothing to the sink's gradient.
    Reference: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", section 2.2; Miller 2023.

    >>> softmax_with_sink(jnp.log(2.0))(jnp.zeros(2)).tolist()
    [0.25, 0.25]
    """
    return Softmax(sink=sink)


@partial(jax.tree_util.register_dataclass, data_fields=["temperature", "sink"], meta_fields=[])
@dataclass(frozen=True)
class Softmax:
    """The softmax of logits / temperature with exp(sink) in the denominator; None is 1 and no sink.

    The sink is not divided by the temperature.
    """

    temperature: Any = None
    sink: Any = None

    def __call__(
        self, logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
    ) -> Float[Array, "*rows k"]:
        x, may = guard(logits, where)
        if self.temperature is not None:
            x /= scalar("temperature: t", self.temperature, x.dtype)
        x = jnp.where(may, x, -jnp.inf)
        if self.sink is None:
            return _softmax(x, -1).astype(logits.dtype)
        sink = jnp.broadcast_to(scalar("softmax_with_sink: sink", self.sink, x.dtype), (*x.shape[:-1], 1))
        return _softmax(jnp.concatenate([x, sink], axis=-1), -1)[..., :-1].astype(logits.dtype)


def as_softmax(normalizer: Callable[..., Array]) -> Softmax | None:
    """Tell which `Softmax` a normalizer is, as a function or as a part (`parts.as_part`), or None.

    >>> as_softmax(softmax_plus_one)
    Softmax(temperature=None, sink=0.0)
    >>> as_softmax(jax.tree_util.Partial(softmax, axis=0))
    """
    if isinstance(normalizer, Softmax):
        return normalizer
    if isinstance(normalizer, jax.tree_util.Partial):
        if normalizer.args or normalizer.keywords:
            return None
        return as_softmax(normalizer.func)
    if normalizer is softmax:
        return Softmax()
    return Softmax(sink=0.0) if normalizer is softmax_plus_one else None


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def _softmax(logits: Array, axis: int) -> Array:
    largest = jnp.max(logits, axis=axis, keepdims=True, initial=-jnp.inf)
    empty = largest == -jnp.inf
    powers = jnp.exp(logits - jnp.where(empty, 0.0, largest))
    return powers / jnp.where(empty, 1.0, jnp.sum(powers, axis=axis, keepdims=True))


@_softmax.defjvp
def _softmax_jvp(axis: int, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    weights, change = _softmax(primals[0], axis), tangents[0]
    return weights, weights * (change - jnp.sum(weights * change, axis=axis, keepdims=True))

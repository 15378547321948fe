"""The softmax and its variants: with a temperature, and with a sink logit in the denominator."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.functional.normalizers.allowed import guard, rounded
from attnlab.functional.parameters import check_values, positive, scalar, valid_scalar
from attnlab.functional.types import widen


def softmax(
    logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None, *, axis: int = -1
) -> Float[Array, "*axes"]:
    """Normalize logits by the softmax: weights are proportional to their exponentials and sum to one.

    weights[i, j] = exp(logits[i, j]) / Σ_{k allowed} exp(logits[i, k])    where j is allowed, else 0

    Not `jax.nn.softmax(..., where=...)`, which gives NaN gradients when a masked logit is NaN.

    Args:
        logits: any real numbers; −inf is masked.
        where: True where a query may attend to a key; None if all keys are allowed.
        axis: the axis of the keys.
    Returns: weights in [0, 1] that sum to one along `axis`, or are all 0 if all keys are masked.
    Numerics: shifted by the largest allowed logit; computed in float32 for bfloat16 and float16. Masked logits (NaN,
        ±inf) reach no weight and no gradient; a fully masked row has gradient 0. Differentiable in forward and reverse
        mode, to any order.
    Reference: Bahdanau, Cho & Bengio 2015, eq. 6; Bridle 1990.

    >>> softmax(jnp.array([0.0, 0.0, jnp.nan]), jnp.array([True, True, False])).tolist()
    [0.5, 0.5, 0.0]
    """
    logits = rounded(logits) if where is None else jnp.where(where, logits, -jnp.inf)
    return _softmax(widen(logits), axis).astype(logits.dtype)


def softmax_plus_one(
    logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
) -> Float[Array, "*rows k"]:
    """Normalize by the softmax with 1 added to the denominator, so that a query may attend to almost nothing.

    weights[i, j] = exp(logits[i, j]) / (1 + Σ_{k allowed} exp(logits[i, k]))    where j is allowed, else 0

    The same as `softmax_with_sink(0.0)`, and as an additional key with logit 0 and value 0.

    Args: as in `softmax`.
    Returns: weights in [0, 1) that sum to less than one.
    Numerics: as in `softmax`; shifted by the largest of 0 and the allowed logits, so nothing overflows.
    Reference: Miller 2023, "Attention Is Off By One".

    >>> softmax_plus_one(jnp.array([0.0, jnp.nan]), jnp.array([True, False])).tolist()
    [0.5, 0.0]
    """
    return Softmax(sink=0.0)(logits, where)


def temperature(t: Any) -> "Softmax":
    """Return the softmax of logits divided by a temperature; a low temperature sharpens the weights.

    weights[i, j] = exp(logits[i, j] / t) / Σ_{k allowed} exp(logits[i, k] / t)    where j is allowed, else 0

    Args:
        t: a positive number or array [], which may be learned; `parts.map_over(t, "h")` for one per head.
    Returns: a normalizer, whose weights lie in [0, 1] and sum to one.
    Numerics: as in `softmax`. A t that is not positive raises if its value is known, and gives NaN inside jit.
    Reference: Hinton, Vinyals & Dean 2015, eq. 1.

    >>> weights = temperature(0.5)(jnp.log(jnp.array([1.0, 2.0])))
    >>> [round(weight, 4) for weight in weights.tolist()]
    [0.2, 0.8]
    """
    check_values("temperature: t", t, "positive", positive)
    return Softmax(temperature=t)


def softmax_with_sink(sink: Any) -> "Softmax":
    """Return the softmax with the exponential of a (learned) sink logit added to the denominator.

    weights[i, j] = exp(logits[i, j]) / (exp(sink) + Σ_{k allowed} exp(logits[i, k]))    where j is allowed, else 0

    Not the attention sinks of Xiao et al. 2023, which are the first keys of the text: this sink has no key and no
    value.

    Args:
        sink: a number or array [], which may be learned; `parts.map_over(sink, "h")` for one per head; −inf for none.
    Returns: a normalizer, whose weights lie in [0, 1) and sum to less than one.
    Numerics: as in `softmax`; a fully masked row adds nothing to the gradient of the sink.
    Reference: OpenAI 2025, "gpt-oss-120b & gpt-oss-20b Model Card", section 2.2; Miller 2023.

    >>> softmax_with_sink(jnp.log(2.0))(jnp.zeros(2)).tolist()
    [0.25, 0.25]
    """
    return Softmax(sink=sink)


@partial(jax.tree_util.register_dataclass, data_fields=["temperature", "sink"], meta_fields=[])
@dataclass(frozen=True)
class Softmax:
    """The softmax of logits / temperature with exp(sink) in the denominator; None for temperature 1 and no sink.

    The sink is not divided by the temperature.
    """

    temperature: Any = None
    sink: Any = None

    def __call__(
        self, logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
    ) -> Float[Array, "*rows k"]:
        x, may = guard(logits, where)
        if self.temperature is not None:
            x = divided(x, self.temperature)
        x = jnp.where(may, x, -jnp.inf)
        if self.sink is None:
            return _softmax(x, -1).astype(logits.dtype)
        sink = jnp.broadcast_to(scalar("softmax_with_sink: sink", self.sink, x.dtype), (*x.shape[:-1], 1))
        return _softmax(jnp.concatenate([x, sink], axis=-1), -1)[..., :-1].astype(logits.dtype)


def divided(logits: Float[Array, "*axes"], t: Any) -> Float[Array, "*axes"]:
    """Divide logits by a temperature; they become NaN if it is not positive.

    >>> divided(jnp.array([1.0, 2.0]), 0.5).tolist()
    [2.0, 4.0]
    """
    return logits / valid_scalar("temperature: t", t, positive, logits)


def as_softmax(normalizer: Callable[..., Array]) -> Softmax | None:
    """Return the `Softmax` that equals a normalizer (a function or a part, `parts.as_part`), or None.

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

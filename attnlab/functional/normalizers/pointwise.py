"""Normalizers that are applied to each logit independently, so that the weights of a query need not sum to one."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.normalizers.allowed import guard, positive_part
from attnlab.functional.parameters import scalar


def sigmoid(bias: Any = None) -> "Sigmoid":
    """Return the normalizer that applies the sigmoid to every logit.

    weights[i, j] = 1 / (1 + exp(−(logits[i, j] + bias)))    where j is allowed, else 0

    At initialization the weights over n keys sum to about n / 2 unless the bias is about −log n. Ramapuram et al. set
    it to −log n with n the length of the longest sequence in training. Here the caller sets it, since n may be that
    length or the number of keys of the row.

    Args:
        bias: a number or array [], which may be learned; `parts.map_over(bias, "h")` for one per head; None for 0.
    Returns: a normalizer; its weights lie in [0, 1] and do not sum to one.
    Numerics: as for all `normalizers`. Smooth; a fully masked row adds nothing to the gradient of the bias.
    Reference: Ramapuram et al. 2024, "Theory, Analysis, and Best Practices for Sigmoid Self-Attention".

    >>> sigmoid()(jnp.array([0.0, jnp.nan]), jnp.array([True, False])).tolist()
    [0.5, 0.0]
    """
    return Sigmoid(bias)


@partial(jax.tree_util.register_dataclass, data_fields=["bias"], meta_fields=[])
@dataclass(frozen=True)
class Sigmoid:
    """The sigmoid of every logit; made by `sigmoid`."""

    bias: Any = None

    def __call__(
        self, logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None
    ) -> Float[Array, "*axes"]:
        safe, may = guard(logits, where)
        if self.bias is not None:
            safe += scalar("sigmoid: bias", self.bias, safe.dtype)
        return jnp.where(may, jax.nn.sigmoid(safe), 0.0).astype(logits.dtype)


def relu_over_length(
    logits: Float[Array, "*rows k"], where: Bool[Array, "*rows k"] | None = None
) -> Float[Array, "*rows k"]:
    """Normalize by the positive part of every logit, divided by the number of keys that the query may attend to.

    weights[i, j] = max(logits[i, j], 0) / |{k allowed for i}|    where j is allowed, else 0

    Wortsman et al. divide by the length of the sequence; the two differ for rows with masked keys.

    Args:
        logits: any real numbers; −inf is masked, and not counted.
        where: True where a query may attend to a key; None if all keys are allowed.
    Returns: weights ≥ 0, which do not sum to one.
    Numerics: as for all `normalizers`. The derivative at a logit of 0 is 0.
    Reference: Wortsman et al. 2023, "Replacing softmax with ReLU in Vision Transformers", section 3.

    >>> relu_over_length(jnp.array([3.0, -1.0, 9.0]), jnp.array([True, True, False])).tolist()
    [1.5, 0.0, 0.0]
    """
    safe, may = guard(logits, where)
    length = jnp.maximum(jnp.sum(may, axis=-1, keepdims=True), 1).astype(safe.dtype)
    return jnp.where(may, positive_part(safe) / length, 0.0).astype(logits.dtype)


def linear(logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None) -> Float[Array, "*axes"]:
    """Return the logits themselves as weights, with 0 where masked.

    weights[i, j] = logits[i, j]    where j is allowed, else 0

    With `scores.dot` this is linear attention without a feature map and without a denominator, the read-out of a
    fast-weight memory: output_i = (Σ_j value_j key_jᵀ) query_i. It is divided neither by the number of keys nor by the
    sum of the logits (which may be 0). Not kernel attention with a feature map, which divides by a positive sum.

    Args:
        logits: any real numbers; −inf is masked.
        where: True where a query may attend to a key; None if all keys are allowed.
    Returns: weights of any sign.
    Numerics: as for all `normalizers`.
    Reference: Schlag, Irie & Schmidhuber 2021, "Linear Transformers Are Secretly Fast Weight Programmers", eq. 10
        and 11; von Oswald et al. 2023, "Transformers learn in-context by gradient descent".

    >>> linear(jnp.array([3.0, -1.0, jnp.nan]), jnp.array([True, True, False])).tolist()
    [3.0, -1.0, 0.0]
    """
    safe, may = guard(logits, where)
    return jnp.where(may, safe, 0.0).astype(logits.dtype)

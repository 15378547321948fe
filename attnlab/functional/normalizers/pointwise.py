"""Weights of each logit by itself: the weights of a query need not add up to one, and keys do not compete."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.normalizers.allowed import guard, positive_part
from attnlab.functional.parameters import scalar


def sigmoid(bias: Any = None) -> "Sigmoid":
    """Make the normalizer that squashes every logit by itself.

    weights[i, j] = 1 / (1 + exp(−(logits[i, j] + bias)))    where j is allowed, else 0

    A query of n keys starts with weights that add up to about n / 2 unless the bias is about −log n: Ramapuram et al.
    set it to that, of the longest sequence of the training. It is the caller's choice here, since only the caller
    knows whether n is that length or the row's own. Not a softmax over two classes a key.

    Args:
        bias: a number or array [], which may be learned, one a head by `parts.map_over(bias, "h")`; None is 0.
    Returns: a normalizer; its weights lie in [0, 1] and do not add up to one.
    Numerics: as everywhere in `normalizers`. Smooth; an empty row gives nothing to the bias's gradient.
    Reference: Ramapuram et al. 2024, "Theory, Analysis, and Best Practices for Sigmoid Self-Attention", eq. 3.

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
    """Weigh every key by the positive part of its logit over the number of keys that the query may attend to.

    weights[i, j] = max(logits[i, j], 0) / |{k allowed for i}|    where j is allowed, else 0

    Wortsman et al. divide by the length of the sequence; the two differ where a mask leaves a row fewer keys.

    Args:
        logits: any real numbers; −inf is the same as not allowed, and is not counted.
        where: True where a query may attend to a key; None where it may attend to all.
    Returns: weights ≥ 0 that do not add up to one.
    Numerics: as everywhere in `normalizers`. The derivative at a logit of 0 is 0.
    Reference: Wortsman et al. 2023, "Replacing softmax with ReLU in Vision Transformers", section 3.

    >>> relu_over_length(jnp.array([3.0, -1.0, 9.0]), jnp.array([True, True, False])).tolist()
    [1.5, 0.0, 0.0]
    """
    safe, may = guard(logits, where)
    length = jnp.maximum(jnp.sum(may, axis=-1, keepdims=True), 1).astype(safe.dtype)
    return jnp.where(may, positive_part(safe) / length, 0.0).astype(logits.dtype)


def linear(logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None) -> Float[Array, "*axes"]:
    """Take the logits themselves as weights.

    weights[i, j] = logits[i, j]    where j is allowed, else 0

    With `scores.dot` this is linear attention without a feature map and without a denominator: the reading of a
    fast-weight memory, output_i = (Σ_j value_j key_jᵀ) query_i. Neither divided by the number of keys nor by the sum
    of the logits (which may be 0). Not kernel attention with a feature map, which divides by a positive sum.

    Args:
        logits: any real numbers; −inf is the same as not allowed.
        where: True where a query may attend to a key; None where it may attend to all.
    Returns: weights of any sign.
    Numerics: as everywhere in `normalizers`.
    Reference: Schlag, Irie & Schmidhuber 2021, "Linear Transformers Are Secretly Fast Weight Programmers", eq. 3
        to 6; von Oswald et al. 2023, eq. 3.

    >>> linear(jnp.array([3.0, -1.0, jnp.nan]), jnp.array([True, True, False])).tolist()
    [3.0, -1.0, 0.0]
    """
    safe, may = guard(logits, where)
    return jnp.where(may, safe, 0.0).astype(logits.dtype)

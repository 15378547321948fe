"""Weights in a random order of the keys: a control that keeps how much is attended to, and loses to what."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Num

from attnlab.functional import random
from attnlab.functional.normalizers.allowed import guard
from attnlab.functional.normalizers.positional import Positional
from attnlab.functional.parts import as_part
from attnlab.functional.types import Positions


def permuted(normalizer: Any, rng: Any, *, shared: bool = False) -> "Permuted":
    """Return the weights of a normalizer in a random order of the keys that a query may attend to.

    weights[i, π_i(j)] = normalizer(logits)[i, j],    π_i a random permutation of the allowed keys of query i

    Every row keeps its weights, and so its entropy and sum; which key has which of them is random.

    Args:
        normalizer: any normalizer.
        rng: a key of `jax.random`. The order is a hash of (rng, example, head, query, key), so that it does not depend
            on masked keys or on how positions are divided into blocks.
        shared: whether all examples have the same order where they have the same allowed keys, so that it does not
            depend on the batch.
    Returns: a `Positional` normalizer.
    Numerics: those of the normalizer; a logit of −inf counts as masked. The gradient flows to the logits through the
        permuted weights; the order has none.
    Reference: Jain & Wallace 2019, section 4.2.1, at test time; here also in training.

    >>> positions = Positions(jnp.arange(1), jnp.arange(3), jnp.int32(0), jnp.int32(0))
    >>> normalizer = permuted(lambda logits, where: logits, jax.random.key(0))
    >>> normalizer(jnp.array([[1.0, 2.0, 3.0]]), jnp.array([[True, False, True]]), positions).tolist()
    [[3.0, 2.0, 1.0]]
    """
    if isinstance(rng, int | float | None):
        raise ValueError(f"permuted: rng must be a key of jax.random, not {rng}; write rng=jax.random.key(0)")
    return Permuted(normalizer if isinstance(normalizer, Positional) else as_part(normalizer), rng, shared)


@partial(jax.tree_util.register_dataclass, data_fields=["normalizer", "rng"], meta_fields=["shared"])
@dataclass(frozen=True)
class Permuted(Positional):
    """The weights of a normalizer in a random order; made by `permuted`."""

    normalizer: Any
    rng: Any
    shared: bool = False

    def __call__(
        self, logits: Float[Array, "q k"], where: Bool[Array, "q k"] | None, positions: Positions
    ) -> Float[Array, "q k"]:
        place = (positions,) if isinstance(self.normalizer, Positional) else ()
        weights = self.normalizer(logits, where, *place)
        example = jnp.int32(0) if self.shared else positions.example
        rng = jax.random.fold_in(self.rng, _STREAM)
        drawn = random.bits(rng, example, positions.head, positions.query, positions.key)
        return reorder(weights, guard(logits, where)[1], drawn)


_STREAM = 0x7065726D
"""Folded into the rng so that the order is independent of dropout and other noise (the letters "perm")."""


def reorder(
    weights: Float[Array, "*rows k"], allowed: Bool[Array, "*rows k"], drawn: Num[Array, "*rows k"]
) -> Float[Array, "*rows k"]:
    """Give the n-th allowed key the weight of the allowed key with the n-th smallest number; others keep theirs.

    Args:
        weights: of each row.
        allowed: the keys among which they are permuted.
        drawn: random numbers, such that every order is equally likely.

    >>> allowed = jnp.array([True, False, True, True])
    >>> reorder(jnp.array([0.125, 0.0, 0.25, 0.625]), allowed, jnp.array([5, 0, 9, 2])).tolist()
    [0.625, 0.0, 0.125, 0.25]
    """
    if weights.shape[-1] == 0:
        return weights
    sources = jnp.lexsort((drawn, ~allowed), axis=-1)  # the allowed keys by their numbers, then the others
    rank = jnp.maximum(jnp.cumsum(allowed, axis=-1, dtype=sources.dtype) - 1, 0)
    own = jax.lax.broadcasted_iota(sources.dtype, weights.shape, weights.ndim - 1)
    source = jnp.where(allowed, jnp.take_along_axis(sources, rank, axis=-1), own)
    return jnp.take_along_axis(weights, source, axis=-1)

"""Tokens that are cut out of a batch: what follows them closes up, and the text is shorter."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int


class TokenArrays(NamedTuple):
    """The arrays of a batch that have the positions of one embedded array.

    Attributes:
        names: arrays [b n ...] with a row for each position.
        lengths: the array [b] of the number of positions that are not padding.
    """

    names: tuple[str, ...]
    lengths: str


def kept_first(removed: Bool[Array, " n"]) -> Int[Array, " n"]:
    """Return the positions that stay, in their order, and after them those that are removed.

    >>> kept_first(jnp.array([False, True, False, True])).tolist()
    [0, 2, 1, 3]
    """
    return jnp.argsort(removed, stable=True).astype(jnp.int32)


def closed_up(array: Array, removed: Bool[Array, " n"]) -> Array:
    """Return an array without its removed positions: the others close up, and 0 (padding) follows.

    Args:
        array: [b n ...].
        removed: True for the positions that are cut out of every row.

    >>> closed_up(jnp.array([[5, 6, 7, 0]]), jnp.array([True, False, False, False])).tolist()
    [[6, 7, 0, 0]]
    """
    moved = jnp.take(jnp.asarray(array), kept_first(removed), axis=1)
    stays = jnp.arange(len(removed)) < jnp.sum(~removed)
    return jnp.where(stays.reshape(1, -1, *(1,) * (moved.ndim - 2)), moved, jnp.zeros((), moved.dtype))


def dropped(
    batch: Mapping[str, Any], sequences: Sequence[TokenArrays], removed: Sequence[Bool[Array, " n"]]
) -> dict[str, Any]:
    """Return a batch whose texts are without removed tokens, as if they had never been there.

    The shape of the batch stays, so that versions of one text that lose different tokens are computed together.

    Args:
        batch: arrays with a row for each example, all of which lose the same tokens.
        sequences: which arrays belong to which text.
        removed: for each text, True for the tokens that are cut out.
    """
    changed = dict(batch)
    for arrays, gone in zip(sequences, removed, strict=True):
        changed |= {name: closed_up(batch[name], gone) for name in arrays.names}
        changed[arrays.lengths] = jnp.asarray(batch[arrays.lengths]) - jnp.sum(gone, dtype=jnp.int32)
    return changed


def at_places_of_text(logits: Array, removed: Bool[Array, " n"]) -> Array:
    """Return logits of the places of a shortened text at the places that these tokens have in the whole text.

    A removed token gets the probability of about 1e-38, the smallest normal float32, and not 0: the logarithm of a span
    that contains it remains a number.

    Args:
        logits: [... n] of the tokens that stayed, then of padding.
        removed: True for the tokens that were cut out.
    """
    places = jnp.argsort(kept_first(removed))
    smallest = jnp.max(logits, axis=-1, keepdims=True) + np.log(np.finfo(np.float32).tiny)
    return jnp.where(removed, smallest, jnp.take(logits, places, axis=-1))

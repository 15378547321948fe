"""Which tokens are removed: the tokens of one text in the order of their attributions, and masks of the largest."""

import math
from collections.abc import Sequence
from functools import cache

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.checks import check_attributions
from attnlab.analysis.record import Attribution

Attributions = Float[Array, " n"] | Attribution
"""The attribution of each token of a text, the larger the more important: an array, or the record of a method whose
attributions are one number a token."""
Removable = Bool[Array, " n"]
"""True for tokens that may be removed: neither padding nor special tokens."""
Ratios = Sequence[float | np.floating] | Float[np.ndarray, " r"]
"""Shares of the tokens of a text, in [0, 1]; static under `jit`."""
RATIOS = (0.01, 0.05, 0.1, 0.2, 0.5)
"""ERASER's shares of tokens: 1, 5, 10, 20 and 50%."""
ROUNDING = 1e-6
"""How much of a number of tokens counts as rounding; that of float32 is below 1e-7."""


def token_order(attributions: Attributions, removable: Removable | None = None) -> Int[Array, " n"]:
    """Return the indices of the tokens in the order of their attributions, the largest first.

    Args:
        attributions: of each token.
        removable: True for tokens that may be chosen; None if all may.
    Returns: a permutation of 0 … n − 1. Of equal attributions the earlier token comes first, a NaN comes after all
        numbers (a metric of attributions with NaN is NaN), and tokens that may not be chosen come last, in the order
        of the text.
    Numerics: a sort; it has no gradient.

    >>> token_order(jnp.array([0.1, 0.7, 0.7, 0.9]), jnp.array([True, True, True, False])).tolist()
    [1, 2, 0, 3]
    """
    values, allowed = check_attributions("token_order", attributions, removable, "removable")
    return jnp.lexsort((jnp.where(allowed, -values, 0.0), ~allowed)).astype(jnp.int32)


def token_ranks(attributions: Attributions, removable: Removable | None = None) -> Int[Array, " n"]:
    """Return the rank of each token by its attribution: 0 for the largest. It is the inverse of `token_order`.

    >>> token_ranks(jnp.array([0.1, 0.7, 0.7, 0.9]), jnp.array([True, True, True, False])).tolist()
    [2, 0, 1, 3]
    """
    order = token_order(attributions, removable)
    return jnp.zeros_like(order).at[order].set(jnp.arange(order.size, dtype=order.dtype))


def length(attributions: Attributions, removable: Removable | None = None) -> Int[Array, ""]:
    """Return the number of tokens that may be removed.

    >>> int(length(jnp.zeros(3), jnp.array([True, True, False])))
    2
    """
    return jnp.sum(check_attributions("length", attributions, removable, "removable")[1], dtype=jnp.int32)


def token_count(ratio: float | np.floating, tokens: int) -> int:
    """Return how many tokens a share of a text is.

    count = ⌈ratio · tokens⌉

    Rounded up, as in ERASER's models, so that every share of a nonempty text has at least one token. ferret
    (`based_on="perc"`) rounds down and leaves out shares of no token: of a sentence of 19 tokens, the usual length in
    SST-2, neither 1% nor 5% would then be evaluated. A product that exceeds a whole number by less than a millionth of
    it counts as that number, so that 7% of 100 tokens are 7, although 0.07 · 100 in float64 is more than 7, and so
    that a ratio may be computed (`np.arange(0.1, 0.6, 0.1)`) or be of float32.

    Args:
        ratio: share of the tokens, in [0, 1].
        tokens: number of tokens that may be removed.
    Reference: DeYoung et al. 2020, section 4.2, and the models published with it (`math.ceil`).

    >>> token_count(0.05, 19), token_count(0.1, 30), token_count(0.5, 0)
    (1, 3, 0)
    """
    if not 0.0 <= ratio <= 1.0 + ROUNDING:
        raise ValueError(f"token_count: ratio must be between 0 and 1, not {ratio}; 10% of the tokens are 0.1")
    return min(math.ceil(float(ratio) * tokens * (1.0 - ROUNDING)), tokens)


def token_counts(
    attributions: Attributions, removable: Removable | None = None, ratios: Ratios | None = RATIOS
) -> Int[Array, " r"]:
    """Return how many tokens each share of a text is; see `token_count`.

    Args:
        attributions: of each token; only their number matters.
        removable: True for tokens that may be removed; None if all may.
        ratios: shares of the tokens, static under `jit`; None for every number of tokens, 1 … n. (Numbers beyond the
            length of the text become its length.)

    >>> token_counts(jnp.zeros(4), jnp.array([True, True, True, False]), (0.1, 0.5)).tolist()
    [1, 2]
    """
    size, tokens = check_attributions("token_counts", attributions)[0].size, length(attributions, removable)
    if ratios is None:
        return jnp.minimum(jnp.arange(1, size + 1, dtype=jnp.int32), tokens)
    if not len(ratios):
        raise ValueError("ratios must not be empty; write None for every number of tokens, or ratios=(0.1, 0.5)")
    return jnp.asarray(_count_table(size, tuple(map(float, ratios))))[tokens]


def top_tokens(
    attributions: Attributions, counts: Int[Array, " r"], removable: Removable | None = None
) -> Bool[Array, "r n"]:
    """Mark the tokens with the largest attributions.

    Args:
        attributions: of each token.
        counts: how many tokens to mark in each row; if the text has fewer, all are marked.
        removable: True for tokens that may be marked; None if all may.
    Returns: True for the marked tokens of each row. Ties as in `token_order`.

    >>> top_tokens(jnp.array([0.1, 0.7, 0.2]), jnp.array([1, 2])).tolist()
    [[False, True, False], [False, True, True]]
    """
    allowed = check_attributions("top_tokens", attributions, removable, "removable")[1]
    return (token_ranks(attributions, removable)[None, :] < counts.astype(jnp.int32)[:, None]) & allowed[None, :]


def rationale_removed(
    attributions: Attributions, removable: Removable | None = None, ratios: Ratios | None = RATIOS
) -> Bool[Array, "r n"]:
    """Return masks that remove the tokens with the largest attributions (the rationale), for comprehensiveness.

    Args: as in `token_counts`.
    Returns: True for removed tokens, a row for each ratio.

    >>> rationale_removed(jnp.array([0.1, 0.7, 0.2]), ratios=(0.5,)).tolist()
    [[False, True, True]]
    """
    return top_tokens(attributions, token_counts(attributions, removable, ratios), removable)


def rationale_kept(
    attributions: Attributions, removable: Removable | None = None, ratios: Ratios | None = RATIOS
) -> Bool[Array, "r n"]:
    """Return masks that remove all but the tokens with the largest attributions (the rationale), for sufficiency.

    Args: as in `token_counts`.
    Returns: True for removed tokens, a row for each ratio. Special tokens and padding (`removable` False) are not
        removed.

    >>> rationale_kept(jnp.array([0.1, 0.7, 0.2]), ratios=(0.5,)).tolist()
    [[True, False, False]]
    """
    rest = ~rationale_removed(attributions, removable, ratios)
    return rest if removable is None else rest & removable[None, :]


@cache
def _count_table(size: int, ratios: tuple[float, ...]) -> Int[np.ndarray, "size_plus_1 r"]:
    """Return the number of tokens at each ratio for texts of 0 … size tokens."""
    return np.array([[token_count(ratio, tokens) for ratio in ratios] for tokens in range(size + 1)], np.int32)

"""Extra results of `attention`, computed from the logits and weights of one head, a block of rows at a time."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float, Int

from attnlab.functional import statistics
from attnlab.functional.types import Logits, Positions, Size, Weights, Where


class TopKeys(NamedTuple):
    """The keys with the largest weights for each query, in descending order."""

    weights: Float[Array, "*B N T top"]
    keys: Int[Array, "*B N T top"]
    """Indices from 0 to S − 1; arbitrary where the weight is 0."""


class Rows(NamedTuple):
    """A block of whole rows of one head's attention."""

    scores: Logits
    """The scores, before the mods."""
    logits: Logits
    weights: Weights
    where: Where | None
    positions: Positions
    columns: Int[Array, " k"] | None
    """The index of each column among the S keys, S for padding; None when the columns are all keys in order."""
    keys: Size
    """S."""
    valid: Bool[Array, " q"] | None = None
    """False for padding; None when there is none."""


@dataclass(frozen=True)
class Extra:
    """An extra result, named after its field of `AttentionOutput`; made from a name or by a function below."""

    name: str
    top: int = 0
    """The number of keys of "top_k"; 0 for 8, or all keys if there are fewer."""
    rows: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    @property
    def selects(self) -> bool:
        """Whether it is restricted to some rows or heads."""
        return self.rows is not None or self.heads is not None

    def __call__(self, rows: Rows) -> Any:
        """Compute the result for a block of rows."""
        if self.name == "top_k":
            return _top_keys(rows, self.top)
        return ROWWISE[self.name](rows) if self.name in ROWWISE else SUMMED[self.name](rows)


def top_k(k: int) -> Extra:
    """Return the k keys with the largest weights for each query, as `TopKeys`.

    The name "top_k" by itself returns 8 keys, or all keys if there are fewer.

    Args:
        k: number of keys, from 1 to S.

    >>> top_k(2).top
    2
    """
    if k < 1:
        raise ValueError(f"extras.top_k: k must be at least 1, not {k}")
    return Extra("top_k", top=int(k))


def weights(rows: Sequence[int] | None = None, heads: Sequence[int] | None = None) -> Extra:
    """Return the weights of some queries and heads only: [*B, len(heads), len(rows), S].

    Args:
        rows: indices of queries; None for all.
        heads: indices of query heads; None for all.

    >>> weights(rows=[3], heads=[0, 1]).heads
    (0, 1)
    """
    if any(indices is not None and not len(indices) for indices in (rows, heads)):
        raise ValueError("extras.weights: at least one row and one head are required; write None for all")
    as_indices = lambda indices: None if indices is None else tuple(int(index) for index in indices)  # noqa: E731
    return Extra("weights", rows=as_indices(rows), heads=as_indices(heads))


def _scatter(block: Array, rows: Rows, fill: float) -> Array:
    """Scatter the columns to their indices among all S keys."""
    if rows.columns is None:
        return block
    all_keys = jnp.full((block.shape[0], rows.keys), fill, block.dtype)
    return all_keys.at[:, rows.columns].set(block, mode="drop")


def _key_mass(rows: Rows) -> Array:
    weights = rows.weights if rows.valid is None else jnp.where(rows.valid[:, None], rows.weights, 0.0)
    mass = statistics.key_mass(weights)
    return mass if rows.columns is None else jnp.zeros(rows.keys, mass.dtype).at[rows.columns].add(mass, mode="drop")


def _top_keys(rows: Rows, top: int) -> TopKeys:
    top = top or min(8, rows.keys)
    if top > rows.keys:
        raise ValueError(f"extras.top_k: k is {top}, but there are only {rows.keys} keys")
    block, missing = rows.weights, max(top - rows.weights.shape[1], 0)
    columns = jnp.arange(block.shape[1], dtype=jnp.int32) if rows.columns is None else rows.columns
    if missing:
        block = jnp.pad(block, ((0, 0), (0, missing)))
        columns = jnp.pad(columns, (0, missing), constant_values=rows.keys)
    largest, indices = jax.lax.top_k(block, top)
    return TopKeys(largest, jnp.minimum(columns[indices], rows.keys - 1))  # padding has weight 0


ROWWISE: dict[str, Callable[[Rows], Array]] = {
    "weights": lambda rows: _scatter(rows.weights, rows, 0.0),
    "scores": lambda rows: _scatter(statistics.masked_logits(rows.scores, rows.where), rows, -jnp.inf),
    "logits": lambda rows: _scatter(statistics.masked_logits(rows.logits, rows.where), rows, -jnp.inf),
    "lse": lambda rows: statistics.lse(rows.logits, rows.where),
    "entropy": lambda rows: statistics.entropy(rows.weights),
    "max": lambda rows: statistics.largest(rows.logits, rows.where),
    "distance": lambda rows: statistics.distance(rows.weights, rows.positions),
}
"""Extras with a value or a row for each query."""

SUMMED: dict[str, Callable[[Rows], Array]] = {"key_mass": _key_mass}
"""Extras that are sums over the queries."""

NAMES = (*ROWWISE, "top_k", *SUMMED)
"""Names of all extras."""


def requested(returns: Any) -> tuple[Extra, ...]:
    """Convert the `returns` of `attention` to extras; raise for an unknown or a repeated name.

    >>> [extra.name for extra in requested(("lse", top_k(3)))]
    ['lse', 'top_k']
    """
    if isinstance(returns, str | Extra):
        raise ValueError(f"attention: returns must be a tuple; write returns=({returns!r},)")
    if not isinstance(returns, Iterable):
        raise ValueError(f'attention: returns must be a tuple of names, not {returns!r}; write returns=("weights",)')
    extras = []
    for item in returns:
        extra = item if isinstance(item, Extra) else Extra(item)
        if extra.name not in NAMES:
            near = get_close_matches(str(extra.name), NAMES, n=1)
            hint = f'; write returns=("{near[0]}",)' if near else ""
            raise ValueError(f"attention: returns {extra.name!r} is not one of {', '.join(NAMES)}{hint}")
        extras.append(extra)
    names = [extra.name for extra in extras]
    if len(set(names)) < len(names):
        raise ValueError(f"attention: returns has a repeated name: {', '.join(names)}")
    return tuple(extras)

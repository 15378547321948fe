"""What `attention` can return besides its output: made of one head's logits and weights, a block of rows at a time."""

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
    """The keys that weigh most for each query, heaviest first."""

    weights: Float[Array, "*B N T top"]
    keys: Int[Array, "*B N T top"]
    """Index of the key, from 0 to S − 1; any where the weight is 0."""


class Rows(NamedTuple):
    """A block of whole rows of one head's attention."""

    scores: Logits
    """What the score answered, before the mods."""
    logits: Logits
    weights: Weights
    where: Where | None
    positions: Positions
    columns: Int[Array, " k"] | None
    """Which of the S keys each column is, S for none; None when the columns are the keys."""
    keys: Size
    """S."""
    live: Bool[Array, " q"] | None = None
    """False for a row that pads a block and is no query."""


@dataclass(frozen=True)
class Extra:
    """Something to return, by the field of `AttentionOutput` that it fills; made by a name or a function below."""

    name: str
    top: int = 0
    """Of "top_k": how many; 0 for 8, or for all keys where there are fewer."""
    rows: tuple[int, ...] | None = None
    heads: tuple[int, ...] | None = None

    @property
    def chosen(self) -> bool:
        """Whether only some rows or heads are asked for."""
        return self.rows is not None or self.heads is not None

    def __call__(self, rows: Rows) -> Any:
        """Compute it for a block of rows."""
        if self.name == "top_k":
            return _top_keys(rows, self.top)
        return ROWWISE[self.name](rows) if self.name in ROWWISE else SUMMED[self.name](rows)


def top_k(k: int) -> Extra:
    """Ask for the k keys that weigh most for each query: `TopKeys`, of k weights and k key indices.

    The name "top_k" alone asks for 8, or for all keys where there are fewer.

    >>> top_k(2).top
    2
    """
    if k < 1:
        raise ValueError(f"extras.top_k: k is at least 1, not {k}")
    return Extra("top_k", top=k)


def weights(rows: Sequence[int] | None = None, heads: Sequence[int] | None = None) -> Extra:
    """Ask for the weights of some queries and heads alone: [*B, len(heads), len(rows), S].

    Args:
        rows: indices of queries; None for all.
        heads: indices of query heads; None for all.

    >>> weights(rows=[3], heads=[0, 1]).heads
    (0, 1)
    """
    if any(chosen is not None and not len(chosen) for chosen in (rows, heads)):
        raise ValueError("extras.weights: name at least one row and one head, or None for all")
    as_indices = lambda chosen: None if chosen is None else tuple(int(index) for index in chosen)  # noqa: E731
    return Extra("weights", rows=as_indices(rows), heads=as_indices(heads))


def _spread(block: Array, rows: Rows, fill: float) -> Array:
    """Put columns back where their keys stand among all S."""
    if rows.columns is None:
        return block
    whole = jnp.full((block.shape[0], rows.keys), fill, block.dtype)
    return whole.at[:, rows.columns].set(block, mode="drop")


def _key_mass(rows: Rows) -> Array:
    weights = rows.weights if rows.live is None else jnp.where(rows.live[:, None], rows.weights, 0.0)
    mass = statistics.key_mass(weights)
    return mass if rows.columns is None else jnp.zeros(rows.keys, mass.dtype).at[rows.columns].add(mass, mode="drop")


def _top_keys(rows: Rows, top: int) -> TopKeys:
    top = top or min(8, rows.keys)
    if top > rows.keys:
        raise ValueError(f"extras.top_k: {top} keys asked for, there are {rows.keys}")
    block, missing = rows.weights, max(top - rows.weights.shape[1], 0)
    columns = jnp.arange(block.shape[1], dtype=jnp.int32) if rows.columns is None else rows.columns
    if missing:
        block = jnp.pad(block, ((0, 0), (0, missing)))
        columns = jnp.pad(columns, (0, missing), constant_values=rows.keys)
    largest, places = jax.lax.top_k(block, top)
    return TopKeys(largest, jnp.minimum(columns[places], rows.keys - 1))  # padding is no key, and weighs 0


ROWWISE: dict[str, Callable[[Rows], Array]] = {
    "weights": lambda rows: _spread(rows.weights, rows, 0.0),
    "scores": lambda rows: _spread(statistics.masked_logits(rows.scores, rows.where), rows, -jnp.inf),
    "logits": lambda rows: _spread(statistics.masked_logits(rows.logits, rows.where), rows, -jnp.inf),
    "lse": lambda rows: statistics.lse(rows.logits, rows.where),
    "entropy": lambda rows: statistics.entropy(rows.weights),
    "max": lambda rows: statistics.largest(rows.logits, rows.where),
    "distance": lambda rows: statistics.distance(rows.weights, rows.positions),
}
"""One value, or one row, a query."""

SUMMED: dict[str, Callable[[Rows], Array]] = {"key_mass": _key_mass}
"""Added up over the queries."""

NAMES = (*ROWWISE, "top_k", *SUMMED)


def requested(returns: Any) -> tuple[Extra, ...]:
    """Turn names into extras; refuse what is not one, or is asked for twice.

    >>> [extra.name for extra in requested(("lse", top_k(3)))]
    ['lse', 'top_k']
    """
    if isinstance(returns, str | Extra):
        raise ValueError(f"attention: returns is a tuple: ({returns!r},)")
    if not isinstance(returns, Iterable):
        raise ValueError(f'attention: returns is a tuple of names, not {returns!r}; write returns=("weights",)')
    asked = []
    for each in returns:
        extra = each if isinstance(each, Extra) else Extra(each)
        if extra.name not in NAMES:
            near = get_close_matches(str(extra.name), NAMES, n=1)
            hint = f'; write returns=("{near[0]}",)' if near else ""
            raise ValueError(f"attention: returns {extra.name!r} is none of {', '.join(NAMES)}{hint}")
        asked.append(extra)
    names = [extra.name for extra in asked]
    if len(set(names)) < len(names):
        raise ValueError(f"attention: returns names something twice: {', '.join(names)}")
    return tuple(asked)

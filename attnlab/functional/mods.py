"""Mods: functions that modify the logits between score and mask, `mod(logits [q k], positions) -> logits [q k]`.

A mod is called on blocks of logits; `positions` are the positions of the block's queries and keys. Learned arrays are
its leaves; `parts.map_over` wraps an array with a slice for each head ("h") or example ("b"):

    mods.relative_bias(map_over(tables, "h"))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array
from jax.tree_util import Partial, register_dataclass

from attnlab.functional.fixed_biases import diagonal_bias as diagonal_bias
from attnlab.functional.fixed_biases import random_bias as random_bias
from attnlab.functional.parameters import check_values, positive, valid_scalar
from attnlab.functional.parts import MappedArray, map_over
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Extent, Logits, Positions, named_axes

Mod = Callable[[Logits, Positions], Logits]


@suggest_arguments()
def soft_cap(cap: float | int | Array | MappedArray) -> Mod:
    """Bound the logits smoothly.

    logits ← cap · tanh(logits / cap)

    Args:
        cap: the bound, a positive number or a learned scalar array []; `parts.map_over(cap, "h")` for one per head.
    Returns: a mod; its logits lie between −cap and cap, and are almost unchanged near 0.
    Numerics: the gradient of a logit far beyond the cap vanishes. A cap that is not positive raises if its value is
        known, and gives NaN inside jit.
    Reference: Bello et al. 2016, "Neural combinatorial optimization" (clipped logits); Gemma Team 2024, section 2.

    >>> soft_cap(2.0)(jnp.array([[0.0, 1e9]]), None).tolist()
    [[0.0, 2.0]]
    """
    check_values("soft_cap: cap", cap, "positive", positive)
    return Partial(_soft_cap, cap=cap)


def _soft_cap(logits: Logits, positions: Any, *, cap: Any) -> Logits:
    cap = valid_scalar("soft_cap: cap", cap, positive, logits)
    return cap * jnp.tanh(logits / cap)


@partial(register_dataclass, data_fields=[], meta_fields=["slopes"])
@dataclass(frozen=True)
class Alibi:
    """A penalty on the distance, with a slope for each head; made by `alibi`."""

    slopes: tuple[float, ...]

    def __call__(self, logits: Logits, positions: Positions) -> Logits:
        slopes = jnp.asarray(self.slopes, logits.dtype)
        slope = slopes.at[positions.head].get(mode="fill", fill_value=jnp.nan)  # no silent clipping of head indices
        rows, columns = positions.rows.astype(logits.dtype), positions.columns.astype(logits.dtype)
        return logits - slope * jnp.abs(columns - rows)


@suggest_arguments()
def alibi(heads: int) -> Mod:
    """Subtract a penalty proportional to the distance, with a different slope for each head.

    logits[i, j] ← logits[i, j] − slope_h · |i − j|,    slope_h = 2^(−8h / n) for h = 1 … n = heads

    Published for causal attention, where |i − j| is i − j; this is the symmetric form, for keys on both sides.

    Args:
        heads: n, the number of query heads of the call. If it is not a power of two, the first heads have the slopes of
            the next lower power, and the others every second slope of twice that power.
    Returns: a mod without arrays.
    Numerics: computed in the dtype of the logits: distances are exact up to positions of 2²⁴ in float32.
    Reference: Press, Smith & Lewis 2022, section 3; the rule for other numbers of heads is that of their code.

    >>> alibi(8).slopes[:3]
    (0.5, 0.25, 0.125)
    """
    if not isinstance(heads, int) or heads < 1:
        value = heads if isinstance(heads, int) else type(heads).__name__
        raise ValueError(f"alibi: heads must be an integer of 1 or more, not {value}; write mods.alibi(8)")
    return Alibi(tuple(_slopes(heads)))


def _slopes(heads: int) -> list[float]:
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2.0 ** (-8 * h / power) for h in range(1, power + 1)]
    return slopes if heads == power else slopes + _slopes(2 * power)[::2][: heads - power]


def relative_bias(table: Array | MappedArray) -> Mod:
    """Add a learned bias for each relative position up to R, and a shared bias for all greater ones on either side.

    logits[i, j] ← logits[i, j] + table[R + clip(j − i, −R, R)]

    The scalar form of the relative positions of Shaw et al., which add vectors to the keys.

    Args:
        table: [2R + 1], from the key farthest before the query to the key farthest after it; wrapped by
            `parts.map_over` if each head or example has its own table.
    Returns: a mod with the table as its leaf.
    Numerics: added in the dtype of the logits.
    Reference: Shaw, Uszkoreit & Vaswani 2018, section 3.2 (the clipping); Raffel et al. 2020, section 2.1 (scalars).

    >>> places = Positions(jnp.arange(1), jnp.arange(3), jnp.array(0), jnp.array(0))
    >>> relative_bias(jnp.array([9.0, 0.0, 5.0]))(jnp.zeros((1, 3)), places).tolist()
    [[0.0, 5.0, 5.0]]
    """
    length = _last(table)
    if length % 2 == 0:
        raise ValueError(f"relative_bias: the length of table must be odd, 2R + 1, not {length}")
    return Partial(_relative_bias, table=table)


def _relative_bias(logits: Logits, positions: Positions, *, table: Any) -> Logits:
    if table.ndim != 1:
        raise ValueError(
            f"relative_bias: table must be [2R + 1] for one head, not {list(table.shape)}; "
            'write parts.map_over(table, "h") for one per head, [N, 2R + 1]'
        )
    furthest = table.shape[0] // 2
    distance = jnp.clip(positions.columns - positions.rows, -furthest, furthest)
    return logits + table.astype(logits.dtype)[distance + furthest]


@partial(register_dataclass, data_fields=["table"], meta_fields=["bidirectional", "max_distance"])
@dataclass(frozen=True)
class T5Bias:
    """A learned bias for each bucket of relative positions; made by `t5_bias`."""

    table: Any
    bidirectional: bool
    max_distance: int

    def __call__(self, logits: Logits, positions: Positions) -> Logits:
        if self.table.ndim != 1:
            raise ValueError(
                f"t5_bias: table must be [buckets] for one head, not {list(self.table.shape)}; "
                'write parts.map_over(table, "h") for [N, buckets], the transpose of T5\'s [buckets, N]'
            )
        distances = np.arange(-self.max_distance, self.max_distance + 1)
        buckets = _t5_buckets(distances, self.table.shape[0], self.bidirectional, self.max_distance)
        return _relative_bias(logits, positions, table=self.table[jnp.asarray(buckets, jnp.int32)])


def t5_bias(table: Array | MappedArray, *, bidirectional: bool = True, max_distance: int = 128) -> Mod:
    """Add a learned bias for each bucket of relative positions, as in T5; buckets widen with the distance.

    logits[i, j] ← logits[i, j] + table[bucket(j − i)]

    Args:
        table: [buckets], wrapped by `parts.map_over` if each head has its own table (as in T5, with 32 buckets).
        bidirectional: True in an encoder: half of the buckets are for keys after the query. False in a decoder: all
            buckets are for keys before it, and keys after it share bucket 0.
        max_distance: distance from which on all keys share the last bucket.
    Returns: a mod with the table as its leaf.
    Numerics: the buckets equal those of T5, whose logarithms are in float32.
    Reference: Raffel et al. 2020, section 2.1; its code, `_relative_position_bucket`.

    >>> places = Positions(jnp.arange(1), jnp.array([0, 1, 500]), jnp.array(0), jnp.array(0))
    >>> t5_bias(jnp.arange(32.0))(jnp.zeros((1, 3)), places).tolist()
    [[0.0, 17.0, 31.0]]
    """
    _t5_buckets(np.arange(1), _last(table), bidirectional, max_distance)
    return T5Bias(table, bidirectional, max_distance)


def _t5_buckets(distances: np.ndarray, buckets: int, bidirectional: bool = True, max_distance: int = 128) -> np.ndarray:
    """Return the bucket of each relative position j − i, as in T5.

    Half of the buckets of a side hold one distance each, 0, 1, …; the others grow geometrically to max_distance.

    Args:
        distances: key position − query position, of any shape.
        buckets: number of buckets.
        bidirectional: as in `t5_bias`.
        max_distance: as in `t5_bias`.
    Returns: integers from 0 to buckets − 1, of the shape of the distances.

    >>> _t5_buckets(np.array([-91, -90, -8, 0, 1, 7, 12]), 32).tolist()
    [15, 14, 8, 0, 17, 23, 25]
    """
    side = buckets // 2 if bidirectional else buckets
    exact = side // 2
    if exact < 1 or max_distance <= exact:
        raise ValueError(
            f"t5_bias: {buckets} buckets are too few for max_distance {max_distance}; at least "
            f"{4 if bidirectional else 2} buckets and a max_distance above {max(exact, 1)} are required"
        )
    distance = np.abs(distances) if bidirectional else np.maximum(-distances, 0)
    ratio = np.log(np.maximum(distance, 1).astype(np.float32) / np.float32(exact))
    growing = ratio / np.float32(math.log(max_distance / exact)) * np.float32(side - exact)
    far = np.minimum(exact + growing.astype(np.int64), side - 1)
    first = side * (distances > 0) if bidirectional else 0
    return first + np.where(distance < exact, distance, far)


def location(query: Array | MappedArray, w: Array | MappedArray, *, start: Any = None) -> Mod:
    """Replace the logits by a function of the query and the position of the key, independent of the key itself.

    logits[i, j] ← query_iᵀ w_j

    The score has no effect and gets gradient 0; pass any score, such as `scores.dot`.

    Args:
        query: [T, d], the queries of one head of one example: `map_over(query, "b h")` for [*B, N, T, d].
        w: [d, L], a column for each key position; keys beyond L use the last column. `map_over(w, "h")` for
            [N, d, L].
        start: position of the first query, for a decoder that continues a sequence; None for 0.
    Returns: a mod with both as its leaves.
    Numerics: accumulated in the dtype of the logits. `query_positions` must be below start + T; inside jit, where they
        are unknown, positions beyond the end use the last query.
    Reference: Luong, Pham & Manning 2015, eq. 8, "location".

    >>> places = Positions(jnp.arange(1), jnp.array([1, 0]), jnp.array(0), jnp.array(0))
    >>> location(jnp.array([[2.0]]), jnp.array([[3.0, 5.0]]))(jnp.ones((1, 2)), places).tolist()
    [[10.0, 6.0]]
    """
    inner = _last(query), _shape(w)[-2]
    if inner[0] != inner[1]:
        raise ValueError("location: the width {} of query and the {} rows of w must be equal".format(*inner))
    return Location(query, w, start)


@partial(register_dataclass, data_fields=["query", "w", "start"], meta_fields=[])
@dataclass(frozen=True)
class Location:
    """Logits from the query and the position of the key; made by `location`."""

    query: Any
    w: Any
    start: Any = None

    def __call__(self, logits: Logits, positions: Positions) -> Logits:
        rows = _take(self.query, positions.after(self.start).query, 0).astype(logits.dtype)
        return jnp.matmul(rows, _take(self.w, positions.key, 1).astype(logits.dtype))

    def check(self, queries: Extent, keys: Extent) -> None:
        """Raise if the number of queries is not that of the call."""
        queries.after(self.start).check("location: axis q of query", _shape(self.query)[-2])


@partial(register_dataclass, data_fields=["array"], meta_fields=["axes"])
@dataclass(frozen=True)
class Bias:
    """A bias stored as an array; made by `bias`."""

    array: Any
    axes: tuple[str, ...]

    def __call__(self, logits: Logits, positions: Positions) -> Logits:
        rows = _take(self.array, positions.query, 0) if "q" in self.axes else self.array[None]
        block = _take(rows, positions.key, 1) if "k" in self.axes else rows[:, None]
        return logits + jnp.broadcast_to(block, logits.shape).astype(logits.dtype)

    def check(self, queries: Extent, keys: Extent) -> None:
        """Raise if the array does not have an entry for every query and key."""
        sizes = dict(zip(reversed(self.axes), reversed(_shape(self.array)), strict=False))
        for axis, along in (("q", queries), ("k", keys)):
            if axis in sizes:
                instead = f"to broadcast along {axis}, remove that axis and write bias(array, axes=...) without {axis}"
                along.check(f"bias: axis {axis} of the array", sizes[axis], instead)


@suggest_arguments()
def bias(array: Array, axes: str = "b h q k") -> Mod:
    """Add an array with named axes to the logits.

    logits[i, j] ← logits[i, j] + array[…, i, j]

    Args:
        array: floating-point numbers, learned or not. To mask a key use a mask, not a large negative number.
        axes: its axes, in this order and separated by spaces: b (all batch axes *B), h (query heads), q, k. An axis
            that is left out is shared: "h k" is a bias of every key in every head. Axes b and h of size 1 are shared
            too; q and k are as long as the inputs, or longer than every given position.
    Returns: a mod with the array as its leaf.
    Numerics: added in the dtype of the logits. Inside jit, where given positions are unknown, positions beyond the end
        use the last entry.
    Reference: Raffel et al. 2020, section 2.1; Hu et al. 2018, for biases of boxes in an image.

    >>> places = Positions(jnp.arange(2), jnp.arange(2), jnp.array(0), jnp.array(0))
    >>> bias(jnp.array([1.0, 2.0]), axes="k")(jnp.zeros((2, 2)), places).tolist()
    [[1.0, 2.0], [1.0, 2.0]]
    """
    names = tuple(axes.split()) if isinstance(axes, str) else ("?",)
    if names != tuple(name for name in "bhqk" if name in names):
        raise ValueError(f"bias: axes {axes!r} {named_axes(axes)}")
    array = jnp.asarray(array)
    if array.dtype == jnp.bool_:
        raise ValueError(
            f'bias: array must hold numbers to add to the logits, not booleans; write mask=masks.array(array, "{axes}")'
        )
    rank = len([name for name in names if name != "b"])
    if array.ndim < rank or ("b" not in names and array.ndim > rank):
        raise ValueError(f"bias: shape {array.shape} does not have the axes {axes!r}; {named_axes(array.ndim)}")
    front = " ".join(name for name in names if name in "bh")
    return Bias(map_over(array, front) if front else array, tuple(name for name in names if name in "qk"))


def _take(array: Array, indices: Array, axis: int) -> Array:
    return jnp.take(array, indices, axis=axis, mode="clip")


def _shape(array: Any) -> tuple[int, ...]:
    return array.array.shape if isinstance(array, MappedArray) else array.shape


def _last(array: Any) -> int:
    return _shape(array)[-1]

"""The parts under test, one row each: a name, a function that draws its parameters, and its oracle.

A new part is a new row; every property in test_conformance.py is then checked on it.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import oracle_masks
import oracle_mods
import oracle_normalizers
import oracle_scores
from jax.tree_util import Partial

from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.parts import map_over, per_head


@dataclass(frozen=True, repr=False)
class Row:
    """A part with parameters; `shapes` gives the axes of each, in the letters of `Size` (a is the hidden width)."""

    name: str
    part: Callable[..., jax.Array]
    oracle: Callable[..., float]
    shapes: dict[str, str] = field(default_factory=dict)
    constants: dict[str, None] = field(default_factory=dict)
    ties: str = ""
    """Axes that must be as long as the query's width D: "E" for inner products, "A" for what comes projected."""

    def __str__(self) -> str:
        return self.name

    __repr__ = __str__


@dataclass(frozen=True)
class Size:
    batch: tuple[int, ...]
    T: int
    S: int
    N: int
    K: int
    D: int
    E: int
    V: int
    A: int

    def __str__(self) -> str:
        return f"b{'x'.join(map(str, self.batch))}-T{self.T}-S{self.S}-N{self.N}-K{self.K}"


SIZES = [
    Size((), T=1, S=1, N=1, K=1, D=1, E=1, V=1, A=1),
    Size((), T=7, S=3, N=1, K=1, D=5, E=2, V=3, A=4),
    Size((3,), T=5, S=6, N=4, K=2, D=3, E=4, V=1, A=2),
    Size((2, 1), T=3, S=5, N=3, K=1, D=2, E=3, V=4, A=5),
    Size((1,), T=2, S=129, N=1, K=1, D=4, E=3, V=2, A=3),
]
SMALL = SIZES[2]
EDGES = [
    Size((2,), T=3, S=7, N=4, K=2, D=4, E=3, V=2, A=3),
    Size((), T=129, S=7, N=2, K=1, D=3, E=2, V=3, A=2),
    Size((2,), T=1, S=128, N=2, K=2, D=2, E=5, V=1, A=4),
    Size((2, 1), T=2, S=3, N=3, K=1, D=5, E=4, V=3, A=1),
    Size((), T=7, S=1, N=2, K=2, D=1, E=2, V=2, A=3),
    Size((), T=128, S=129, N=1, K=1, D=3, E=2, V=2, A=2),
]
"""Where blocks end: lengths of 1, 2, 3, 7, 128 and 129, fewer queries than keys and more."""

SCORES = [
    Row("dot", scores.dot, oracle.dot, ties="E"),
    Row("scaled_dot", scores.scaled_dot, oracle.scaled_dot, ties="E"),
    Row("general", scores.general, oracle.general, {"w": "D E"}),
    Row("additive", scores.additive, oracle.additive, {"w_query": "D A", "w_key": "E A", "v": "A"}),
    Row("additive_key_ready", scores.additive, oracle.additive, {"w_query": "D E", "v": "E"}, {"w_key": None}),
    Row("additive_query_ready", scores.additive, oracle.additive, {"w_key": "E D", "v": "D"}, {"w_query": None}),
    Row("additive_ready", scores.additive, oracle.additive, {"v": "D"}, {"w_query": None, "w_key": None}, "E"),
    Row("multiplicative", scores.multiplicative, oracle_scores.multiplicative, {"w_query": "D A", "w_key": "E A"}),
    Row(
        "multiplicative_key_ready",
        scores.multiplicative,
        oracle_scores.multiplicative,
        {"w_query": "D E", "scale": ""},
        {"w_key": None},
    ),
    Row("scaled_dot_scale", scores.scaled_dot, oracle_scores.scaled, {"scale": ""}, ties="E"),
    Row("concat", scores.concat, oracle_scores.concat, {"w": "D+E A", "v": "A"}),
    Row("cosine", scores.cosine, oracle_scores.cosine, {"scale": ""}, ties="E"),
    Row("distance", scores.negative_squared_distance, oracle_scores.negative_squared_distance, {"scale": ""}, ties="E"),
    Row(
        "trilinear",
        scores.trilinear,
        oracle_scores.trilinear,
        {"w_query": "D", "w_key": "D", "w_product": "D"},
        ties="E",
    ),
    Row("constant", scores.constant, oracle_scores.constant),
]


def tilt(logits, positions, *, slope):
    """A custom mod that uses positions, the head and a parameter, and does not commute with `cap`."""
    distance = positions.rows - positions.columns + positions.head
    return logits + slope * distance.astype(logits.dtype)


def cap(logits, positions):
    return jnp.tanh(logits)


def _soft_cap_alibi(draw, size: Size):
    expected = lambda logit, i, j, head: oracle_mods.alibi(oracle_mods.soft_cap(logit, 1.5), i, j, head, size.N)  # noqa: E731
    return (mods.soft_cap(1.5), mods.alibi(size.N)), expected


def _tables_per_head(draw, size: Size):
    """Draw both kinds of learned tables, short enough that distances are clipped and buckets shared."""
    near, t5 = draw(size.N, 3), draw(size.N, 8)

    def one(logit, i, j, head):
        bucket = oracle_mods.t5_bucket(j - i, 8, True, 4)
        return logit + float(near[head, min(max(j - i, -1), 1) + 1]) + float(t5[head, bucket])

    return (mods.relative_bias(map_over(near, "h")), mods.t5_bias(map_over(t5, "h"), max_distance=4)), one


def _location_bias(draw, size: Size):
    query, w, added = draw(size.T, 2), draw(size.N, 2, size.S), draw(size.N, size.T, size.S)

    def one(logit, i, j, head):
        logit = sum(float(query[i, m]) * float(w[head, m, j]) for m in range(2))
        return logit + float(added[head, i, j])

    return (mods.location(query, map_over(w, "h")), mods.bias(added, "h q k")), one


def _diagonal_bias(draw, size: Size):
    offset = draw(size.N)
    mod = mods.diagonal_bias(jnp.float32(1.5), ratio=jnp.float32(0.75), offset=map_over(offset, "h"))
    return (mod,), lambda logit, i, j, head: oracle_mods.diagonal(logit, i, j, 1.5, 0.75, float(offset[head]))


def _random_bias(draw, size: Size):
    return (mods.random_bias(_rng, 0.5),), lambda logit, i, j, head: oracle_mods.random(logit, i, j, head, _random, 0.5)


def _diagonal_random_cap(draw, size: Size):
    added = _diagonal_bias(draw, size), _random_bias(draw, size)
    expected = lambda logit, *at: np.tanh(added[1][1](added[0][1](logit, *at), *at))  # noqa: E731
    return (*added[0][0], *added[1][0], cap), expected


MODS = {
    "no_mods": ((), lambda slope: lambda logit, i, j, head: logit),
    "tilt_cap": ((tilt, cap), lambda slope: lambda logit, i, j, head: np.tanh(logit + slope * (i - j + head))),
    "cap_tilt": ((cap, tilt), lambda slope: lambda logit, i, j, head: np.tanh(logit) + slope * (i - j + head)),
    "soft_cap_alibi": _soft_cap_alibi,
    "tables_per_head": _tables_per_head,
    "location_bias": _location_bias,
    "diagonal_bias": _diagonal_bias,
    "random_bias": _random_bias,
    "diagonal_random_cap": _diagonal_random_cap,
}
"""Either the mods and how their oracle follows from the slope of `tilt`, or a function that draws both."""


_bound = oracle_normalizers.by_row
_rng = jax.random.key(7)
_words, _order, _random = (
    tuple(jax.random.bits(jax.random.fold_in(_rng, int.from_bytes(name)), (2,), jnp.uint32).tolist())
    for name in (b"gumb", b"perm", b"rand")
)
_centers = np.resize(np.array([0.25, 2.0, 1.4, 0.0, 5.1, 4.0, 2.2], np.float32), 129)
_gumbel = _bound(oracle_normalizers.gumbel_softmax, key=_words, temperature=0.5)
_local_p = _bound(oracle_normalizers.local_p, center=_centers.tolist(), width=1.5625)
NORMALIZERS = {
    "softmax": (normalizers.softmax, oracle.softmax),
    "temperature": (normalizers.temperature(jnp.float32(0.5)), _bound(oracle_normalizers.softmax, temperature=0.5)),
    "softmax_with_sink": (
        normalizers.softmax_with_sink(jnp.float32(0.75)),
        _bound(oracle_normalizers.softmax, sink=0.75),
    ),
    "softmax_plus_one": (normalizers.softmax_plus_one, _bound(oracle_normalizers.softmax, sink=0.0)),
    "sigmoid": (normalizers.sigmoid(jnp.float32(-1.5)), _bound(oracle_normalizers.sigmoid, bias=-1.5)),
    "sparsemax": (normalizers.sparsemax, oracle_normalizers.sparsemax),
    "entmax15": (normalizers.entmax15, _bound(oracle_normalizers.entmax, alpha=1.5)),
    "entmax": (normalizers.entmax(jnp.float32(1.25)), _bound(oracle_normalizers.entmax, alpha=1.25)),
    "relu_over_length": (normalizers.relu_over_length, oracle_normalizers.relu_over_length),
    "top_k": (normalizers.top_k(2), _bound(oracle_normalizers.top_k, k=2)),
    "hardmax": (normalizers.hardmax, oracle_normalizers.hardmax),
    "gumbel_softmax": (normalizers.gumbel_softmax(_rng, jnp.float32(0.5)), _gumbel),
    "local_p": (normalizers.local_p(jnp.asarray(_centers), jnp.float32(1.5625)), _local_p),
    "permuted": (normalizers.permuted(normalizers.softmax, _rng), _bound(oracle_normalizers.permuted, key=_order)),
    "permuted_local_p": (
        normalizers.permuted(normalizers.local_p(jnp.asarray(_centers), jnp.float32(1.5625)), _rng, shared=True),
        _bound(oracle_normalizers.permuted, key=_order, ordered=_local_p, shared=True),
    ),
}
"""A part and its oracle, over the list of a row's allowed logits; that of a `Positional` one is also told where:
(logits, keys, query, head, number of the example)."""
POSITIVE = ("softmax", "temperature", "softmax_with_sink", "softmax_plus_one", "sigmoid", "gumbel_softmax", "permuted")
"""Normalizers that give every allowed key some weight."""
NOT_A_DERIVATIVE = ("hardmax",)
"""Normalizers whose gradient is by design another function's."""


def _random_lengths(rng: np.random.Generator, size: Size):
    keys = rng.integers(0, size.S + 1, size.batch)
    queries = rng.integers(0, size.T + 1, size.batch)
    keys.flat[:1] = 0 if keys.size > 1 else size.S
    mask = masks.lengths(jnp.asarray(keys, jnp.int32), jnp.asarray(queries, jnp.int32))
    return mask, lambda b, h, i, j: i < queries[b] and j < keys[b]


def _random_array(axes: str):
    def draw(rng: np.random.Generator, size: Size):
        lengths = {"b": size.batch, "h": (size.N,), "q": (size.T,), "k": (size.S,)}
        where = rng.random(sum((lengths[axis] for axis in axes.split()), ())) < 0.6

        def may(b, h, i, j):
            place = {"b": b, "h": (h,), "q": (i,), "k": (j,)}
            return where[sum((place[axis] for axis in axes.split()), ())]

        return masks.array(jnp.asarray(where), axes), may

    return draw


def _causal(alignment):
    def draw(rng: np.random.Generator, size: Size):
        offset = {"upper_left": 0, "lower_right": size.S - size.T}.get(alignment, alignment)
        return masks.causal(alignment), lambda b, h, i, j: j <= i + offset

    return draw


def _causal_by_example(rng: np.random.Generator, size: Size):
    """Draw a causal mask of queries that continue caches of different lengths."""
    offsets = rng.integers(-1, size.S, size.batch)
    mask = masks.causal(jnp.asarray(offsets, jnp.int32))
    return mask, lambda b, h, i, j: oracle_masks.causal(offsets[b])(i, j)


def _window_by_example(rng: np.random.Generator, size: Size):
    """Draw a window of different width and offset in each example, unlimited to the right."""
    widths, offsets = (rng.integers(0, size.S, size.batch) for _ in range(2))
    array, chosen = _random_array("b q k")(rng, size)
    mask = masks.sliding_window(jnp.asarray(widths, jnp.int32), None, jnp.asarray(offsets, jnp.int32)) & array

    def may(b, h, i, j):
        return oracle_masks.sliding_window(widths[b], size.S + size.T, offsets[b])(i, j) and chosen(b, h, i, j)

    return mask, may


def _by_function(rng: np.random.Generator, size: Size):
    mask = masks.from_fn(Partial(lambda period, i, j, head: (i + 2 * j + head) % period == 0, jnp.int32(3)))
    return mask, lambda b, h, i, j: (i + 2 * j + h) % 3 == 0


def _composed(rng: np.random.Generator, size: Size):
    lengths, within = _random_lengths(rng, size)
    array, chosen = _random_array("h q k")(rng, size)
    mask = masks.causal("lower_right") & lengths | ~array & lengths
    early = _causal("lower_right")(rng, size)[1]
    return mask, lambda *at: (early(*at) and within(*at)) or (not chosen(*at) and within(*at))


def _aligned(make, truth, *arguments):
    """Return a mask that needs an alignment, with the last query at the last key."""

    def draw(rng: np.random.Generator, size: Size):
        may = truth(*arguments, offset=size.S - size.T)
        return make(*arguments, alignment="lower_right"), lambda b, h, i, j: may(i, j)

    return draw


def _random_segments(rng: np.random.Generator, size: Size):
    query_ids = np.sort(rng.integers(0, 3, (*size.batch, size.T)), axis=-1)
    key_ids = rng.integers(0, 3, size.S)
    mask = masks.segments(jnp.asarray(query_ids, jnp.int32), jnp.asarray(key_ids, jnp.int32))
    return mask, lambda b, h, i, j: oracle_masks.segments(query_ids[b], key_ids)(i, j)


def _prefix_language_model(rng: np.random.Generator, size: Size):
    seen = rng.integers(0, size.S + 1, size.batch)
    early = oracle_masks.causal()
    mask = masks.causal("upper_left") | masks.prefix(jnp.asarray(seen, jnp.int32))
    return mask, lambda b, h, i, j: early(i, j) or oracle_masks.prefix(seen[b])(i, j)


def _random_globals(rng: np.random.Generator, size: Size):
    tokens = rng.integers(-1, max(size.T, size.S), (*size.batch, 2))
    local = oracle_masks.sliding_window(1, 0)
    mask = masks.global_tokens(jnp.asarray(tokens, jnp.int32), 0) | masks.sliding_window(1, 0, 0)
    return mask, lambda b, h, i, j: oracle_masks.global_tokens(list(tokens[b]))(i, j) or local(i, j)


def _random_layout(traced: bool):
    def draw(rng: np.random.Generator, size: Size):
        shape = (size.N, -(-size.T // 2), -(-size.S // 3))
        layout = rng.random((*size.batch, *shape) if traced else shape) < 0.5

        def may(b, h, i, j):
            return oracle_masks.block_layout(layout[b][h] if traced else layout[h], 2, 3)(i, j)

        if traced:
            return masks.block_layout(jnp.asarray(layout), (2, 3), "b h q k"), may
        return masks.block_layout(layout, (2, 3), "h q k"), may

    return draw


MASKS = {
    "no_mask": lambda rng, size: (None, lambda b, h, i, j: True),
    "causal_lower_right": _causal("lower_right"),
    "causal_upper_left": _causal("upper_left"),
    "causal_offset": _causal(-1),
    "causal_by_example": _causal_by_example,
    "window_by_example": _window_by_example,
    "lengths": _random_lengths,
    "array_q_k": _random_array("q k"),
    "array_b_k": _random_array("b k"),
    "array_b_h_q_k": _random_array("b h q k"),
    "sliding_window": _aligned(masks.sliding_window, oracle_masks.sliding_window, 2, 1),
    "dilated": _aligned(masks.dilated, oracle_masks.dilated, 4, 2),
    "strided": _aligned(masks.strided, oracle_masks.strided, 3),
    "fixed": _aligned(masks.fixed, oracle_masks.fixed, 3, 1),
    "segments": _random_segments,
    "prefix_language_model": _prefix_language_model,
    "global_tokens": _random_globals,
    "block_layout_static": _random_layout(traced=False),
    "block_layout_traced": _random_layout(traced=True),
    "from_fn": _by_function,
    "composed": _composed,
}


@dataclass
class Problem:
    """A drawn instance: the arguments of `attention`, and the same for the oracle."""

    inputs: tuple[jax.Array, jax.Array, jax.Array]
    params: dict[str, jax.Array]
    bind: Callable[[dict[str, jax.Array]], Callable[..., jax.Array]]
    mask: masks.Mask | None
    mods: tuple[Callable[..., jax.Array], ...]
    normalizer: Callable[..., jax.Array]
    _oracle: Callable[..., dict[str, np.ndarray]]

    def options(self) -> dict[str, object]:
        return {"score": self.bind(self.params), "mods": self.mods, "mask": self.mask, "normalizer": self.normalizer}

    def expected(self, rounded: Callable[[float], float] = float) -> dict[str, np.ndarray]:
        """Compute the oracle's results; `rounded` is applied to every score, logit after the mods, and weight."""
        return self._oracle(rounded)


def problem(
    score: Row,
    size: Size = SMALL,
    mask: str = "composed",
    mods: str = "no_mods",
    normalizer: str = "softmax",
    dtype: str = "float32",
    per_head_params: bool = False,
) -> Problem:
    """Draw a problem; arrays rounded to `dtype` are rounded for the oracle too."""
    rng = np.random.default_rng(sum(map(ord, f"{score}{size}{mask}{mods}")))
    axes = {"D": size.D, "E": size.D if "E" in score.ties else size.E, "A": size.A}
    axes["D+E"] = axes["D"] + axes["E"]

    def draw(*shape: int) -> jax.Array:
        return jnp.asarray(rng.standard_normal(shape), dtype)

    front = (size.N,) if per_head_params else ()
    query = draw(*size.batch, size.T, size.N, size.D)
    key = draw(*size.batch, size.S, size.K, axes["E"])
    value = draw(*size.batch, size.S, size.K, size.V)
    params = {name: draw(*front, *(axes[axis] for axis in shape.split())) for name, shape in score.shapes.items()}
    drawn_mask, may = MASKS[mask](rng, size)
    slope = 0.25
    row = MODS[mods]
    if callable(row):
        mod_parts, drawn_oracle = row(draw, size)
        mod_oracle = lambda slope: drawn_oracle  # noqa: E731
    else:
        mod_parts, mod_oracle = row
    learned = Partial(tilt, slope=jnp.asarray(slope, "float64" if dtype == "float64" else "float32"))
    bound = tuple(learned if mod is tilt else mod for mod in mod_parts)
    normalize, row_oracle = NORMALIZERS[normalizer]

    def normalize_oracle(logits, *place):
        return row_oracle(logits, *place) if isinstance(normalize, normalizers.Positional) else row_oracle(logits)

    def bind(params: dict[str, jax.Array]) -> Callable[..., jax.Array]:
        part = Partial(score.part, **params, **score.constants)
        return per_head(part) if per_head_params else part

    def expected(rounded: Callable[[float], float]) -> dict[str, np.ndarray]:
        wide = {name: np.asarray(x).astype(np.float64) for name, x in params.items()}

        def one_score(query_row, key_row, head):
            params = {n: x[head] if per_head_params else x for n, x in wide.items()}
            return rounded(score.oracle(query_row, key_row, **params))

        mod = mod_oracle(slope)
        modified = lambda logit, *at: rounded(mod(logit, *at))  # noqa: E731
        weigh = lambda logits, *place: [rounded(w) for w in normalize_oracle(logits, *place)]  # noqa: E731
        arrays = [np.asarray(x).astype(np.float64) for x in (query, key, value)]
        return oracle.attention(*arrays, one_score, modified, may, weigh)

    return Problem((query, key, value), params, bind, drawn_mask, bound, normalize, expected)

"""Large logits, up to the limit of the inputs' dtype: no implementation is much less accurate than `dense`.

A logit of 1e5 in float32 is accurate only to 1/128, so a result may be far from that of float64. Blocks must not add
to the error: it is at most 4 times that of `dense` and 4 units in the last place (of the largest number of a result).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle_normalizers
import pytest
from jax.tree_util import Partial
from rows import NORMALIZERS
from samples import BLOCKWISE, OPTIMIZED

from attnlab.functional import masks, normalizers
from attnlab.functional.attention import attention

pytestmark = pytest.mark.optimized

QUERIES, KEYS, BLOCKS = 48, 80, (16, 24)
RESULTS = ("output", "query", "key", "value", "bias")


def add_bias(logits, positions, *, bias):
    return logits + bias[positions.query][:, positions.key]


def products(rng: np.random.Generator, size: float):
    """Return inner products of this magnitude, mostly one key per query; no power of two divides them (width 12)."""
    return rng.standard_normal((QUERIES, 12)) * size**0.5, rng.standard_normal((KEYS, 12)) * size**0.5, None


def ties(rng: np.random.Generator, size: float):
    """Return products with few values: many keys share the largest logit, and no logit is rounded (width 16)."""
    step = 2.0 ** round(np.log2(size) / 2)
    return rng.integers(-1, 2, (QUERIES, 16)) * step, rng.integers(-1, 2, (KEYS, 16)) * step, None


def padding(rng: np.random.Generator, size: float):
    """Return a bias such as −1e9 on the first keys instead of a mask; rows without other keys are not empty."""
    bias = np.zeros((QUERIES, KEYS))
    bias[:, : KEYS - 30] = -size
    return rng.standard_normal((QUERIES, 12)), rng.standard_normal((KEYS, 12)), bias


def biases(rng: np.random.Generator, size: float):
    """Return a large learned bias."""
    bias = rng.standard_normal((QUERIES, KEYS)) * size
    return rng.standard_normal((QUERIES, 12)), rng.standard_normal((KEYS, 12)), bias


def expected(query, key, value, change, bias, where):
    """Compute softmax attention and its reverse rule in NumPy float64."""
    query, key, value, change, bias = (np.asarray(x).astype(np.float64) for x in (query, key, value, change, bias))
    scale = query.shape[1] ** -0.5
    logits = np.where(where, query @ key.T * scale + bias, -np.inf)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    weights = powers / powers.sum(axis=1, keepdims=True)
    d_weights = change @ value.T
    d_logits = weights * (d_weights - (weights * d_weights).sum(axis=1, keepdims=True))
    return weights @ value, d_logits @ key * scale, d_logits.T @ query * scale, weights.T @ change, d_logits


def call(implementation: str, mask: masks.Mask | None, query, key, value, bias):
    mods = (Partial(add_bias, bias=bias),)
    how = {"mask": mask, "mods": mods, "implementation": implementation, "block_size": BLOCKS}
    return attention(query[:, None], key[:, None], value[:, None], **how)[:, 0]


def found(implementation: str, mask: masks.Mask | None) -> Callable[..., tuple[jax.Array, ...]]:
    def both(query, key, value, change, bias):
        output, pull = jax.vjp(partial(call, implementation, mask), query, key, value, bias)
        return output, *pull(change)

    return both


def optimized(function: Callable, *inputs):
    """Compiled as by users: the fusion of operations decides how often a number is rounded."""
    return jax.jit(function).lower(*inputs).compile(compiler_options=OPTIMIZED)


def error(result: jax.Array, true: np.ndarray) -> float:
    return float(np.abs(np.asarray(result).astype(np.float64) - true).max())


SIZES = {"float32": (1e3, 1e5, 1e7, 1e9, 1e12, 1e18, 1e30), "bfloat16": (1e3, 1e10, 1e30), "float16": (1e3, 6e4)}


DRAWS = [
    pytest.param(draw, dtype, marks=[] if dtype == "float32" and draw in (products, padding) else pytest.mark.slow)
    for draw in (products, ties, padding, biases)
    for dtype in SIZES
]


@pytest.mark.parametrize(("draw", "dtype"), DRAWS, ids=lambda value: getattr(value, "__name__", value))
def test_blocks_err_no_further_than_dense(draw, dtype):
    rng = np.random.default_rng(0)
    where = np.tri(QUERIES, KEYS, KEYS - QUERIES, dtype=bool) if draw is padding else np.ones((QUERIES, KEYS), bool)
    mask = masks.causal("lower_right") if draw is padding else None
    compiled = {}
    for size in SIZES[dtype]:
        query, key, bias = draw(rng, size)
        value, change = rng.standard_normal((KEYS, 5)), rng.standard_normal((QUERIES, 5))
        arrays = [jnp.asarray(x, dtype) for x in (query, key, value, change)]
        arrays.append(jnp.asarray(np.zeros(where.shape) if bias is None else bias, jnp.float32))
        true = expected(*arrays, where)
        if not compiled:
            compiled = {name: optimized(found(name, mask), *arrays) for name in ("dense", *BLOCKWISE)}
        dense = compiled["dense"](*arrays)
        for name in BLOCKWISE:
            for what, mine, theirs, exact in zip(RESULTS, compiled[name](*arrays), dense, true, strict=True):
                if np.isfinite(np.asarray(theirs, np.float64)).all():
                    unit = float(jnp.finfo(mine.dtype).eps) * np.abs(exact).max()
                    allowed = 4 * error(theirs, exact) + 4 * unit
                    assert error(mine, exact) <= allowed, (name, what, size)
        # Where logits are exact, so is dense.
        if draw is ties and dtype == "float32":
            assert error(dense[0], true[0]) <= 1e-6


@pytest.mark.slow
@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.parametrize("size", [1e5, 1e10])
def test_second_derivatives_of_large_logits_are_those_of_dense(size, implementation):
    rng = np.random.default_rng(1)
    query, key, bias = padding(rng, size)
    arrays = [query, key, rng.standard_normal((KEYS, 5)), bias]
    lines = [rng.standard_normal(x.shape) for x in arrays]
    mask = masks.causal("lower_right")

    def second(name):
        slope = jax.grad(lambda *x: jnp.sin(call(name, mask, *x)).sum(), argnums=(0, 1, 2, 3))
        # Reverse over reverse, and forward over reverse.
        again = jax.grad(lambda x, u: sum(map(jnp.vdot, slope(*x), u)))
        return lambda x, u: (again(x, u), jax.jvp(slope, tuple(x), tuple(u))[1])

    narrow = [[jnp.asarray(x, jnp.float32) for x in xs] for xs in (arrays, lines)]
    with jax.enable_x64(True):
        true = jax.tree.leaves(jax.jit(second("dense"))(*([jnp.asarray(x, "float64") for x in xs] for xs in narrow)))
    theirs, mine = (jax.tree.leaves(optimized(second(n), *narrow)(*narrow)) for n in ("dense", implementation))
    for a, b, exact in zip(mine, theirs, true, strict=True):
        exact = np.asarray(exact)
        assert error(a, exact) <= 4 * error(b, exact) + 4 * float(jnp.finfo(jnp.float32).eps) * np.abs(exact).max()


@pytest.mark.parametrize("implementation", BLOCKWISE)
def test_a_large_negative_bias_at_the_blocks_of_users(implementation):
    """600 of 1,024 keys at −1e10 with the default blocks, where every output was NaN; and left padding of −1e9."""
    rng = np.random.default_rng(0)
    query, key, value, change = (jnp.asarray(rng.standard_normal((1024, 16)), jnp.float32) for _ in range(4))
    bias = jnp.zeros(1024).at[200:800].set(-1e10)

    def both(name, mask, query, key, value, bias):
        def output(query, key, value, bias):
            mods = (Partial(lambda logits, positions, bias: logits + bias[positions.key][None, :], bias=bias),)
            return attention(*(x[:, None] for x in (query, key, value)), mods=mods, mask=mask, implementation=name)

        result, pull = jax.vjp(output, query, key, value, bias)
        return result, *pull(change[:, None])

    for mask, some in ((None, bias), (masks.causal(), jnp.zeros(1024).at[:300].set(-1e9))):
        mine, theirs = (
            optimized(partial(both, name, mask), query, key, value, some)(query, key, value, some)
            for name in (implementation, "dense")
        )
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-5)


@pytest.mark.parametrize("implementation", ["dense", *BLOCKWISE])
def test_a_row_of_large_negative_logits_is_not_empty(implementation):
    value = jnp.asarray(np.arange(6.0, dtype=np.float32).reshape(6, 1, 1))
    query, key = (jnp.asarray(np.zeros((n, 1, 4), np.float32)) for n in (3, 6))
    how = {"implementation": implementation, "block_size": (2, 4)}

    @jax.jit
    def shifted(level):
        mods = (Partial(lambda logits, positions, level: logits + level, level=level),)
        return attention(query, key, value, mods=mods, returns=("weights",), **how)

    for level in (-1e9, -1e30, float(np.finfo(np.float32).min)):
        result = shifted(level)
        np.testing.assert_allclose(result.weights, 1 / 6, rtol=1e-6)
        np.testing.assert_allclose(result.output, 2.5, rtol=1e-6)
    nothing = (lambda logits, positions: jnp.full_like(logits, -jnp.inf),)
    hidden = jax.jit(lambda *arrays: attention(*arrays, mods=nothing, **how))(query, key, value)
    np.testing.assert_array_equal(hidden, 0.0)


@pytest.mark.parametrize("implementation", ["dense", *BLOCKWISE])
@pytest.mark.parametrize("part", ["softmax_with_sink", "temperature"])
@pytest.mark.quick("softmax_with_sink-dense", "softmax_with_sink-streaming", "temperature-block_sparse")
def test_parameters_of_the_softmax_at_large_logits(part, implementation):
    """A sink among the largest logits; a temperature near 0. One float64 oracle for all."""
    rng = np.random.default_rng(0)
    logits = rng.integers(-9, 9, (7, 40)) * 2.0**20
    number = 5 * 2.0**20 if part == "softmax_with_sink" else 2.0**-20
    logits = logits if part == "softmax_with_sink" else logits * 2.0**-20
    bound = {"sink": number} if part == "softmax_with_sink" else {"temperature": number}
    weights = np.array([oracle_normalizers.softmax(row.tolist(), **bound) for row in logits])
    value = rng.standard_normal((40, 3))

    def output(query, key, value, bias, number):
        normalizer = getattr(normalizers, part)(number)
        mods = (Partial(add_bias, bias=bias),)
        how = {"mods": mods, "normalizer": normalizer, "implementation": implementation, "block_size": (4, 16)}
        return attention(query, key, value[:, None], **how)[:, 0]

    narrow = (jnp.asarray(x, jnp.float32) for x in (value, logits, number))
    wide = (jnp.zeros((7, 1, 2)), jnp.zeros((40, 1, 2)), *narrow)
    np.testing.assert_allclose(optimized(output, *wide)(*wide), weights @ value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [12, 48, 63])
@pytest.mark.quick("12")
def test_the_largest_logit_is_the_largest_however_it_is_compiled(width):
    """Of products divided by √width, computed once for the maximum and again for the exponential."""
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.standard_normal((n, width)) * 1e6, jnp.float32) for n in (256, 300))

    def weights(query, key):
        return normalizers.softmax(query @ key.T / width**0.5)

    result = np.asarray(optimized(weights, query, key)(query, key))
    np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-6)
    whole = optimized(lambda q, k, v: call("dense", None, q, k, v, jnp.zeros((256, 300))), query, key, key)
    np.testing.assert_allclose(whole(query, key, jnp.ones_like(key)), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    "name", [n for n, row in NORMALIZERS.items() if not isinstance(row[0], normalizers.Positional)]
)
def test_every_normalizer_at_every_size(name):
    """Against its oracle over the same float32 logits: ties, a row of one large negative number, and half of one."""
    part, by_the_book = NORMALIZERS[name]
    normalize = jax.jit(lambda logits: part(logits, None))
    slope = jax.jit(jax.grad(lambda logits: jnp.sin(jnp.arange(9.0) * part(logits, None)).sum()))
    rng = np.random.default_rng(0)
    for size in (1e3, 1e5, 1e7, 1e10, 1e20, 1e30):
        logits = (rng.standard_normal((4, 9)) * size).astype(np.float32)
        logits[1, 3:5] = logits[1].max()
        logits[2] = -size
        logits[3, :4] = -size
        logits[3, 4:] = rng.standard_normal(5)
        true = np.array([by_the_book(row.tolist()) for row in logits])
        # In units of the largest weight: linear ones are as large as their logits.
        np.testing.assert_allclose(normalize(logits), true, rtol=2e-6, atol=2e-6 * max(np.abs(true).max(), 1.0))
        assert np.isfinite(slope(logits)).all(), size

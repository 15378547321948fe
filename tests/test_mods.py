"""Mods and rotary positions against their definitions, on blocks of any rows and columns, and their gradients."""

import doctest
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import oracle_mods as book
import pytest
from jax.test_util import check_grads
from tolerances import assert_close

from attnlab.functional import mods, rotary_scaling, scores
from attnlab.functional import rotary as rotary_module
from attnlab.functional.attention import attention
from attnlab.functional.parts import map_over
from attnlab.functional.rotary import rotary
from attnlab.functional.types import Positions

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
ROWS, COLUMNS = [0, 1, 2, 7, 40], [39, 3, 2, 41, 0, 8]
"""A block as a planner may cut it: gathered rows and columns."""


def drawn(*shapes, seed=0, dtype="float64"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def positions(rows=ROWS, columns=COLUMNS, head=0):
    numbers = [jnp.asarray(x, jnp.int32) for x in (rows, columns, head, 0)]
    return Positions(*numbers)


def assert_mod(mod, oracle, head=0):
    """Compare a mod on a block with a function of (logit, i, j)."""
    (logits,) = drawn((len(ROWS), len(COLUMNS)), seed=1)
    expected = [[oracle(float(logits[r, c]), i, j) for c, j in enumerate(COLUMNS)] for r, i in enumerate(ROWS)]
    compiled = jax.jit(lambda mod, logits, at: mod(logits, at))
    assert_close(compiled(mod, logits, positions(head=head)), np.array(expected), "float64")
    single = logits.astype("float32")
    assert mod(single, positions(head=head)).dtype == jnp.float32


def test_soft_cap(x64):
    assert_mod(mods.soft_cap(1.5), lambda logit, i, j: book.soft_cap(logit, 1.5))
    assert_mod(mods.soft_cap(jnp.asarray(0.5)), lambda logit, i, j: book.soft_cap(logit, 0.5))
    with pytest.raises(ValueError, match=r"cap .*positive.* 0"):
        mods.soft_cap(0)


@pytest.mark.parametrize("heads", [1, 2, 3, 8, 12, 16, 20])
def test_alibi(heads, x64):
    for head in {0, heads // 2, heads - 1}:
        assert_mod(mods.alibi(heads), lambda logit, i, j: book.alibi(logit, i, j, head, heads), head)  # noqa: B023


def test_slopes_are_the_published_ones():
    np.testing.assert_allclose(mods.alibi(8).slopes, [2.0**-n for n in range(1, 9)])
    twelve = [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625, 0.0078125, 0.00390625]
    twelve += [2**-0.5, 2**-1.5, 2**-2.5, 2**-3.5]
    np.testing.assert_allclose(mods.alibi(12).slopes, twelve)


@pytest.mark.parametrize("length", [1, 5, 99])
def test_relative_bias(length, x64):
    (table,) = drawn((length,))
    assert_mod(mods.relative_bias(table), lambda logit, i, j: logit + float(book.relative(table, i, j)))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (8, 20), (6, 7)])
def test_t5_bias(buckets, furthest, bidirectional, x64):
    (table,) = drawn((buckets,))
    mod = mods.t5_bias(table, bidirectional=bidirectional, max_distance=furthest)
    bucket = lambda i, j: book.t5_bucket(j - i, buckets, bidirectional, furthest)  # noqa: E731
    assert_mod(mod, lambda logit, i, j: logit + float(table[bucket(i, j)]))


@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize(("buckets", "furthest"), [(32, 128), (64, 128), (32, 256), (8, 20), (4, 3)])
def test_buckets_at_every_distance(buckets, furthest, bidirectional):
    distances = np.arange(-2 * furthest, 2 * furthest + 1)
    expected = [book.t5_bucket(int(d), buckets, bidirectional, furthest) for d in distances]
    np.testing.assert_array_equal(mods._t5_buckets(distances, buckets, bidirectional, furthest), expected)


def test_buckets_where_they_change_in_t5():
    """The starts of the wide buckets of T5's encoder (32 buckets to 128) and decoder."""
    encoder = [8, 12, 16, 23, 32, 46, 64, 91]
    for bucket, start in enumerate(encoder, start=8):
        assert mods._t5_buckets(np.array([-start, 1 - start, start]), 32).tolist() == [bucket, bucket - 1, bucket + 16]
    decoder = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]
    for bucket, start in enumerate(decoder, start=16):
        result = mods._t5_buckets(np.array([-start, 1 - start, start]), 32, bidirectional=False).tolist()
        assert result == [bucket, bucket - 1, 0]


def test_location_replaces_the_score(x64):
    query, w = drawn((41, 3), (3, 42))
    assert_mod(mods.location(query, w), lambda logit, i, j: float(np.dot(np.asarray(query)[i], np.asarray(w)[:, j])))
    batch = drawn((2, 5, 2, 3), (2, 6, 2, 3), (2, 6, 2, 1), (3, 6))
    caught = []
    for score in (scores.dot, scores.scaled_dot):
        by_location = mods.location(map_over(batch[0].swapaxes(-3, -2), "b h"), batch[3])
        caught.append(attention(*batch[:3], score=score, mods=(by_location,), returns=("logits",)).logits)
    np.testing.assert_array_equal(*caught)
    assert_close(caught[0], np.einsum("btnd,dl->bntl", batch[0], batch[3]), "float64")


@pytest.mark.parametrize("axes", ["", "k", "q", "q k", "h k", "b", "b q", "b h q k"])
def test_bias_is_added_along_the_axes_it_names(axes, x64):
    sizes = {"b": (2, 3), "h": (4,), "q": (5,), "k": (6,)}
    (array,) = drawn(sum((sizes[axis] for axis in axes.split()), ()))
    query, key, value = drawn((2, 3, 5, 4, 2), (2, 3, 6, 2, 2), (2, 3, 6, 2, 1), seed=1)
    call = lambda *chosen: attention(query, key, value, mods=chosen, returns=("logits",)).logits  # noqa: E731
    full = np.asarray(array).reshape(
        sum((sizes[axis] if axis in axes else (1,) * len(sizes[axis]) for axis in "bhqk"), ())
    )
    assert_close(call(mods.bias(array, axes)), np.asarray(call()) + full, "float64")


def test_bias_on_a_block(x64):
    (array,) = drawn((41, 42))
    assert_mod(mods.bias(array, "q k"), lambda logit, i, j: logit + float(array[i, j]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: mods.bias(jnp.ones((2, 3)), "k q"), "bias: axes .*'k q'"),
        (lambda: mods.bias(jnp.ones(2), "q k"), "does not have the axes"),
        (lambda: mods.relative_bias(jnp.ones(4)), r"relative_bias: .*2R \+ 1.* 4"),
        (lambda: mods.t5_bias(jnp.ones(3)), "t5_bias: .*at least 4 buckets"),
        (lambda: mods.t5_bias(jnp.ones(32), max_distance=8), "t5_bias: 32 buckets.* 8"),
        (lambda: mods.location(jnp.ones((2, 3)), jnp.ones((4, 5))), "location: .*width 3.*4 rows"),
        (lambda: mods.alibi(0), "alibi: heads .*1.* 0"),
    ],
)
def test_wrong_arguments_raise(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_learned_arrays_differentiate_twice(x64):
    (logits,) = drawn((len(ROWS), len(COLUMNS)))
    made = drawn((), (5,), (32,), (41, 3), (3, 42), (41, 42), seed=1)

    @jax.jit
    def number(logits, cap, relative, t5, query, w, array):
        chain = [mods.relative_bias(relative), mods.t5_bias(t5), mods.bias(array, "q k")]
        for mod in [*chain, mods.alibi(3), mods.soft_cap(2.0 + cap)]:
            logits = mod(logits, positions(head=1))
        return jnp.sin(logits).sum() + jnp.sin(mods.location(query, w)(logits, positions())).sum()

    check_grads(number, (logits, *made), order=2, modes=("fwd", "rev"), eps=1e-5, rtol=1e-6, atol=1e-6)


# Rotary positions


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary(interleaved, x64):
    (features,) = drawn((2, 3, 2, 6))
    chosen = jnp.asarray([[0, 5, 1000], [7, 8, 9]], jnp.int32)
    call = jax.jit(lambda x, places: rotary(x, places, base=100.0, interleaved=interleaved))
    result, row_found = call(features, chosen), call(features, chosen[0])
    for b, t, n in np.ndindex(2, 3, 2):
        turn = lambda place: book.rotary(np.asarray(features[b, t, n]), place, 100.0, interleaved)  # noqa: B023, E731
        assert_close(result[b, t, n], turn(int(chosen[b, t])), "float64")
        assert_close(row_found[b, t, n], turn(int(chosen[0, t])), "float64")
    assert_close(rotary(features), rotary(features, jnp.arange(3)), "float64")


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_products_depend_on_the_distance_alone(interleaved, x64):
    query, key = drawn((4, 2, 6), (4, 2, 6))

    @jax.jit
    def logits(shift):
        places = jnp.arange(4) + shift
        rotated = [rotary(x, places, interleaved=interleaved) for x in (query, key)]
        return jnp.einsum("tnd,snd->nts", *rotated)

    np.testing.assert_allclose(logits(0), logits(1234), atol=1e-11)
    same = [jnp.broadcast_to(x[:1], x.shape) for x in (query, key)]
    rotated = jnp.einsum("tnd,snd->nts", *(rotary(x, interleaved=interleaved) for x in same))
    np.testing.assert_allclose(rotated[:, 0, 1:-1], rotated[:, 1, 2:], atol=1e-12)
    lengths = [jnp.linalg.norm(x, axis=-1) for x in (query, rotary(query, interleaved=interleaved))]
    assert_close(*lengths, "float64")


def test_rotary_keeps_the_dtype_and_computes_in_float32():
    (features,) = drawn((3, 2, 4), dtype="bfloat16")
    rotated = rotary(features)
    assert rotated.dtype == jnp.bfloat16
    np.testing.assert_array_equal(rotated, rotary(features.astype(jnp.float32)).astype(jnp.bfloat16))
    with pytest.raises(ValueError, match=r"rotary: .*even.* 3.*rotary_dim=2"):
        rotary(jnp.ones((2, 1, 3)))
    with pytest.raises(ValueError, match=r"rotary: positions \(3,\)"):
        rotary(jnp.ones((2, 1, 4)), jnp.arange(3))


def test_rotary_differentiates_twice(x64):
    features = drawn((3, 2, 4))
    check_grads(jax.jit(lambda x: jnp.sin(rotary(x)).sum()), features, order=2, eps=1e-5, rtol=1e-6, atol=1e-6)


LLAMA3 = {"factor": 8.0, "original_max_position_embeddings": 8192, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
"""Of Llama 3.1."""
SCALINGS = {
    "linear": (rotary_scaling.linear(4.0), [10000.0 ** (-m / 8) / 4.0 for m in range(8)], 10000.0),
    "llama3": (rotary_scaling.llama3(**LLAMA3), book.llama3(5e5, 16, 8.0, 8192, 1.0, 4.0), 5e5),
    "llama3 of a short length": (rotary_scaling.llama3(32.0, 100, 0.5), book.llama3(1e4, 16, 32.0, 100, 0.5, 4.0), 1e4),
    "yarn": (rotary_scaling.yarn(4.0, 32768), book.yarn(1e6, 16, 4.0, 32768, 32.0, 1.0, True), 1e6),
    "yarn of gpt-oss": (
        rotary_scaling.yarn(32.0, 4096, attention_factor=1.0, truncate=False),
        book.yarn(150000.0, 16, 32.0, 4096, 32.0, 1.0, False),
        150000.0,
    ),
    "yarn without a slow pair": (rotary_scaling.yarn(2.0, 10**9), book.yarn(1e4, 16, 2.0, 10**9, 32.0, 1.0, True), 1e4),
}


@pytest.mark.parametrize("name", SCALINGS)
def test_rotary_for_longer_texts(name, x64):
    scaling, speeds, base = SCALINGS[name]
    np.testing.assert_allclose(scaling.frequencies(base, 16), speeds, rtol=1e-12)
    (features,) = drawn((2, 1, 16))
    places = jnp.asarray([3, 70000])
    result = rotary(features, places, base=base, scaling=scaling)
    factor = {"yarn": 0.1 * math.log(4.0) + 1.0, "yarn without a slow pair": 0.1 * math.log(2.0) + 1.0}.get(name, 1.0)
    for t, place in enumerate(places):
        rotated = book.rotary(np.asarray(features[t, 0]), int(place), speeds=speeds)
        assert_close(result[t, 0], factor * rotated, "float64")


def test_frequencies_of_llama_and_yarn_as_published():
    """Fast pairs are unchanged to the last bit, slow pairs are divided, and those between follow the ramp."""
    plain = 5e5 ** (np.arange(0, 128, 2) / -128)
    ratio = rotary_scaling.llama3(**LLAMA3).frequencies(5e5, 128) / plain
    turns = 8192 * plain / (2 * np.pi)
    np.testing.assert_allclose(ratio[turns >= 4], 1.0, rtol=1e-15)
    np.testing.assert_allclose(ratio[turns <= 1], 1 / 8, rtol=1e-15)
    assert np.all(np.diff(ratio) <= 0)
    assert ((ratio > 1 / 8) & (ratio < 1)).sum() == ((turns > 1) & (turns < 4)).sum() > 3
    plain = 1e6 ** (np.arange(0, 128, 2) / -128)
    ratio = rotary_scaling.yarn(4.0, 32768).frequencies(1e6, 128) / plain
    first, last = 23, 40  # ⌊64 ln(32768 / (2π · 32)) / ln 10⁶⌋ and ⌈64 ln(32768 / 2π) / ln 10⁶⌉
    np.testing.assert_allclose(ratio[: first + 1], 1.0, rtol=1e-15)
    np.testing.assert_allclose(ratio[last:], 0.25, rtol=1e-15)
    np.testing.assert_allclose(np.diff(ratio[first : last + 1]), -0.75 / (last - first), rtol=1e-9)


@pytest.mark.parametrize("interleaved", [False, True])
def test_rotary_of_a_part_of_the_features(interleaved, x64):
    (features,) = drawn((3, 2, 10))
    result = rotary(features, base=100.0, rotary_dim=4, interleaved=interleaved)
    np.testing.assert_array_equal(result[..., 4:], features[..., 4:])
    np.testing.assert_array_equal(result[..., :4], rotary(features[..., :4], base=100.0, interleaved=interleaved))
    for t, n in np.ndindex(3, 2):
        rotated = book.rotary(np.asarray(features[t, n, :4]), t, 100.0, interleaved)
        assert_close(result[t, n, :4], rotated, "float64")
    scaled = rotary(features, base=5e5, rotary_dim=6, scaling=rotary_scaling.llama3(**LLAMA3))
    speeds = book.llama3(5e5, 6, 8.0, 8192, 1.0, 4.0)
    assert_close(scaled[2, 1, :6], book.rotary(np.asarray(features[2, 1, :6]), 2, speeds=speeds), "float64")


def test_rotary_by_given_tables(x64):
    (features,) = drawn((2, 3, 2, 6))
    places = jnp.asarray([[0, 5, 9], [7, 8, 2]], jnp.int32)
    angles = np.arange(10)[:, None] * 100.0 ** (np.arange(0, 6, 2) / -6)
    cos, sin = jnp.cos(angles), jnp.sin(angles)
    expected = rotary(features, places, base=100.0)
    assert_close(rotary(features, places, tables=(cos, sin)), expected, "float64")
    assert_close(rotary(features, tables=(cos[places], sin[places])), expected, "float64")
    assert_close(rotary(features, tables=(cos[:3], sin[:3])), rotary(features, base=100.0), "float64")
    part = rotary(features, places, tables=(cos[:, :2], sin[:, :2]))
    np.testing.assert_array_equal(part[..., 4:], features[..., 4:])
    beyond = jax.jit(lambda x, places: rotary(x, places, tables=(cos, sin)))(
        features, places.at[0].set(-1).at[1].set(10)
    )
    assert np.isnan(beyond).all()


ONES = jnp.ones((3, 1, 4))
TABLE = jnp.ones((3, 2))


@pytest.mark.parametrize(
    ("call", "named", "meant"),
    [
        (lambda: rotary(ONES, rotary_dim=3), "rotary_dim", "from 2 to 4"),
        (lambda: rotary(ONES, rotary_dim=6), "rotary_dim", "from 2 to 4"),
        (lambda: rotary(jnp.ones((3, 1, 5))), "not 5", "rotary_dim=4"),
        (lambda: rotary(ONES, tables=(TABLE, TABLE), base=1e4), "tables", "tables=(cos, sin)"),
        (lambda: rotary(ONES, tables=(jnp.ones((3, 4)),) * 2), "[3, 4]", "cos[..., :2]"),
        (lambda: rotary(jnp.ones((3, 1, 8)), tables=(jnp.ones((3, 4)),) * 2, rotary_dim=4), "[3, 4]", "cos[..., :2]"),
        (lambda: rotary(ONES, tables=(jnp.ones((5, 2)),) * 2), "[5, 2]", "rotary(query, positions, tables=...)"),
        (lambda: rotary(ONES, jnp.arange(1, 4), tables=(TABLE, TABLE)), "0 to 2", "from 1 to 3"),
        (lambda: rotary(ONES, base=1.0, scaling=rotary_scaling.linear(2.0)), "base", "base=10000.0"),
        (lambda: rotary_scaling.linear(0.5), "factor", "1 or more"),
        (lambda: rotary_scaling.yarn(4.0, 0), "original_max_position_embeddings", "1 or more"),
        (lambda: rotary_scaling.yarn(4.0, 4096, 1.0, 32.0), "beta_fast", "beta_fast=32.0"),
        (lambda: rotary_scaling.llama3(8.0, 8192, 4.0, 1.0), "low_freq_factor 4.0", "low_freq_factor=1.0"),
    ],
)
def test_rotary_refuses(call, named, meant):
    with pytest.raises(ValueError, match=re.escape(named)) as error:
        call()
    assert meant in str(error.value)


@pytest.mark.parametrize("module", [mods, rotary_module, rotary_scaling], ids=lambda module: module.__name__)
def test_examples_run(module):
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed


@pytest.mark.slow
def test_random_numbers_are_the_same_in_half_precision():
    mod = mods.random_bias(jax.random.key(0), 0.5)
    logits = np.zeros((len(ROWS), len(COLUMNS)), np.float32)
    narrow, wide = jax.jit(lambda logits: (mod(logits.astype(jnp.bfloat16), positions()), mod(logits, positions())))(
        logits
    )
    assert narrow.dtype == jnp.bfloat16
    np.testing.assert_array_equal(narrow, wide.astype(jnp.bfloat16))

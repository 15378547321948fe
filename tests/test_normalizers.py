"""Normalizers on their own: values against plain Python, gradients, and the handling of `where`."""

import itertools
import math
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import optax
import oracle_normalizers as book
import pytest
from jax.test_util import check_grads
from jax.tree_util import Partial

from attnlab.functional import dropout, normalizers
from attnlab.functional.parts import MappedArray, as_part, map_over, per_head
from attnlab.functional.types import Positions

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]

KEY = jax.random.key(7)
CENTER = (0.25, 2.0, 2.4, 1.1, 3.9)
PLAIN = {
    "softmax": (normalizers.softmax, book.softmax),
    "softmax_plus_one": (normalizers.softmax_plus_one, book.by_row(book.softmax, sink=0.0)),
    "softmax_with_sink": (normalizers.softmax_with_sink(0.75), book.by_row(book.softmax, sink=0.75)),
    "temperature": (normalizers.temperature(0.5), book.by_row(book.softmax, temperature=0.5)),
    "sparsemax": (normalizers.sparsemax, book.sparsemax),
    "entmax15": (normalizers.entmax15, book.by_row(book.entmax, alpha=1.5)),
    "entmax_1": (normalizers.entmax(1), book.softmax),
    "entmax_1.05": (normalizers.entmax(1.05), book.by_row(book.entmax, alpha=1.05)),
    "entmax_1.3": (normalizers.entmax(1.3), book.by_row(book.entmax, alpha=1.3)),
    "entmax_1.5": (normalizers.entmax(1.5), book.by_row(book.entmax, alpha=1.5)),
    "entmax_2": (normalizers.entmax(2.0), book.sparsemax),
    "sigmoid": (normalizers.sigmoid(), book.sigmoid),
    "sigmoid_bias": (normalizers.sigmoid(-1.5), book.by_row(book.sigmoid, bias=-1.5)),
    "relu_over_length": (normalizers.relu_over_length, book.relu_over_length),
    "linear": (normalizers.linear, book.linear),
    "top_k": (normalizers.top_k(3), book.by_row(book.top_k, k=3)),
    "top_k_more_than_there_are": (normalizers.top_k(99), book.softmax),
    "hardmax": (normalizers.hardmax, book.hardmax),
}
POSITIONAL = {
    "gumbel_softmax": (
        normalizers.gumbel_softmax(KEY, 0.5),
        book.by_row(
            book.gumbel_softmax,
            key=tuple(jax.random.bits(jax.random.fold_in(KEY, 0x67756D62), (2,), jnp.uint32).tolist()),
            temperature=0.5,
        ),
    ),
    "local_p": (
        normalizers.local_p(np.array(CENTER, np.float32), 1.55),
        book.by_row(book.local_p, center=np.array(CENTER, np.float32).tolist(), width=1.55),
    ),
}
ALL = PLAIN | POSITIONAL
SUMS_TO_ONE = [
    name
    for name in ALL
    if name.startswith(("entmax", "sparsemax", "top_k", "hardmax", "temp", "gumbel")) or name == "softmax"
]
every = pytest.mark.parametrize("name", ALL)
SAME = ("entmax_1", "entmax_1.5", "entmax_2", "sigmoid_bias", "top_k_more_than_there_are")
"""Normalizers that run the code of another with other numbers; their values are compared by default."""
most = pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow if n in SAME else ()) for n in ALL])


def call(normalizer, logits, where=None, head=2, example=1, first=0):
    """Apply a normalizer of either kind to [q, k], as the queries 0, 1, ... and the keys `first`, ..."""
    if not isinstance(normalizer, normalizers.Positional):
        return normalizer(logits, where)
    rows, columns = (jnp.arange(n, dtype=jnp.int32) for n in logits.shape)
    return normalizer(logits, where, Positions(rows, columns + first, jnp.int32(head), jnp.int32(example)))


@cache
def compiled(name: str):
    """Return the normalizer of a row as a compiled function of logits and mask, cached by shape."""
    return jax.jit(lambda logits, where=None: call(ALL[name][0], logits, where))


def draw(seed: int, rows: int = 5, keys: int = 6, scale: float = 1.5, dtype="float64"):
    """Draw logits, and a mask that leaves one key to the third row and none to the fourth."""
    rng = np.random.default_rng(seed)
    where = rng.random((rows, keys)) < 0.7
    where[2] = np.arange(keys) == 1
    where[3] = False
    return jnp.asarray(scale * rng.standard_normal((rows, keys)), dtype), jnp.asarray(where)


def expected(name: str, logits, where, head=2, example=1):
    oracle, (rows, keys) = ALL[name][1], logits.shape
    weights = np.zeros((rows, keys))
    for i in range(rows):
        allowed = [j for j in range(keys) if where is None or where[i, j]]
        row = [float(logits[i, j]) for j in allowed]
        place = (allowed, i, head, example) if name in POSITIONAL else ()
        weights[i, allowed] = oracle(row, *place)
    return weights


# Values


@every
def test_equals_the_oracle(name, x64):
    for scale in (0.1, 1.5, 30.0):
        logits, where = draw(0, scale=scale)
        for mask in (where, None):
            truth = expected(name, logits, mask)
            np.testing.assert_allclose(compiled(name)(logits, mask), truth, rtol=1e-12, atol=1e-12)


@every
@pytest.mark.quick("softmax", "entmax15", "top_k", "local_p")
def test_equals_the_oracle_when_not_compiled(name, x64):
    logits, where = draw(0)
    np.testing.assert_allclose(call(ALL[name][0], logits, where), expected(name, logits, where), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", [name for name in SUMS_TO_ONE if name in PLAIN and "more" not in name])
@pytest.mark.quick("softmax", "sparsemax", "entmax15", "entmax_1.05", "top_k")
def test_equals_the_book_on_long_rows(name, x64):
    for scale in (0.01, 3.0):
        logits, _ = draw(1, keys=500, scale=scale)
        result = np.asarray(compiled(name)(logits))
        np.testing.assert_allclose(result, expected(name, np.asarray(logits), None), rtol=1e-10, atol=1e-13)
        np.testing.assert_allclose(result.sum(axis=1), 1.0, rtol=1e-13)


@most
@pytest.mark.parametrize(
    "dtype", ["bfloat16", *(pytest.param(n, marks=pytest.mark.slow) for n in ("float32", "float16"))]
)
def test_narrow_dtypes_are_computed_in_float32(name, dtype):
    logits, where = draw(2, dtype=dtype)
    result = compiled(name)(logits, where)
    assert result.dtype == dtype
    step = {"float32": 2e-6, "bfloat16": 2**-8, "float16": 2**-10}[dtype]
    np.testing.assert_allclose(np.asarray(result, "float32"), expected(name, logits, where), rtol=step, atol=step)


@every
def test_float64_stays(name, x64):
    assert jax.eval_shape(compiled(name), draw(2)[0]).dtype == "float64"


@pytest.mark.parametrize("name", SUMS_TO_ONE)
def test_weights_of_a_row_add_up_to_one(name):
    logits, where = draw(3, rows=5, keys=200, scale=5.0, dtype="float32")
    result = np.asarray(compiled(name)(logits, where))
    np.testing.assert_allclose(result.sum(axis=1), [1, 1, 1, 0, 1], rtol=2e-6)


def test_sparsemax_is_the_projection_of_optax(x64):
    logits, _ = draw(4)
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        projected = jax.vmap(optax.projections.projection_simplex)(logits)
    np.testing.assert_allclose(normalizers.sparsemax(logits), projected, rtol=1e-14, atol=1e-14)


def test_sparsemax_is_the_best_of_all_supports():
    """All supports are tried, not only prefixes of the sorted logits."""
    for seed in range(20):
        row = np.random.default_rng(seed).standard_normal(6).tolist()
        points = []
        for support in itertools.product([False, True], repeat=6):
            inside = [x for x, chosen in zip(row, support, strict=True) if chosen]
            if inside:
                level = (math.fsum(inside) - 1.0) / len(inside)
                point = [x - level if chosen else 0.0 for x, chosen in zip(row, support, strict=True)]
                points += [point] if min(point) >= 0.0 else []
        best = min(points, key=lambda point: math.dist(point, row))
        np.testing.assert_allclose(book.sparsemax(row), best, atol=1e-15)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "entmax_1", "entmax_1.05", "entmax_1.5", "entmax_2"])
@pytest.mark.quick("sparsemax", "entmax15", "entmax_1.05")
def test_equal_logits_and_far_ones(name, x64):
    normalizer = jax.jit(PLAIN[name][0])
    np.testing.assert_allclose(normalizer(jnp.full((1, 7), 1e4)), 1 / 7, rtol=1e-13)
    np.testing.assert_allclose(normalizer(jnp.array([[1e300, 0.0, -1e300]])), [[1.0, 0.0, 0.0]], atol=1e-14)
    np.testing.assert_allclose(normalizer(jnp.array([[3.0, 2.0, 3.0]]) + 1e6), normalizer(jnp.array([[3.0, 2.0, 3.0]])))


def test_entmax_runs_into_the_softmax(x64):
    logits, where = draw(5)
    limit = normalizers.softmax(logits, where)
    for alpha in (1.0, 1.0 + 1e-12, 1.0 + 1e-9):
        np.testing.assert_allclose(normalizers.entmax(alpha)(logits, where), limit, rtol=1e-6 * (alpha > 1) + 1e-14)
    learned = jax.jit(lambda alpha: normalizers.entmax(alpha)(logits, where))
    by_alpha = jax.jit(jax.jacfwd(learned))
    inside, step = by_alpha(jnp.asarray(1.001)), 1e-6
    difference = np.asarray(learned(1.001 + step)) - np.asarray(learned(1.001 - step))
    np.testing.assert_allclose(inside, difference / (2 * step), atol=1e-8)
    np.testing.assert_allclose(by_alpha(jnp.asarray(1.0)), inside, atol=1e-2)


def test_ties_go_to_the_first_keys():
    logits = jnp.array([[1.0, 2.0, 1.0, 2.0, 1.0]])
    where = jnp.array([[True, False, True, True, True]])
    two, three, hardmax = map(jax.jit, (normalizers.top_k(2), normalizers.top_k(3), normalizers.hardmax))
    assert (np.asarray(two(logits, where)) > 0).tolist() == [[True, False, False, True, False]]
    assert (np.asarray(three(logits)) > 0).tolist() == [[True, True, False, True, False]]
    assert hardmax(logits).tolist() == [[0, 1, 0, 0, 0]]
    assert hardmax(logits, where).tolist() == [[0, 0, 0, 1, 0]]


def test_top_k_needs_a_number_of_keys():
    with pytest.raises(ValueError, match="top_k: k "):
        normalizers.top_k(0)


@pytest.mark.parametrize(
    "make",
    [
        lambda: normalizers.temperature(0.0),
        lambda: normalizers.gumbel_softmax(KEY, -1),
        lambda: normalizers.local_p(jnp.zeros(2), 0.0),
    ],
)
def test_what_must_be_positive(make):
    with pytest.raises(ValueError, match="positive"):
        make()


# What is not allowed is not there


@most
def test_masked_logits_reach_nothing(name):
    normalizer, (logits, where) = ALL[name][0], draw(6, dtype="float32")

    @jax.jit
    def both(logits, where):
        turn = jnp.arange(1.0, 31.0).reshape(5, 6)
        return call(normalizer, logits, where), jax.grad(lambda x: jnp.sum(turn * call(normalizer, x, where)))(logits)

    clean, slope = both(jnp.where(where, logits, 0.0), where)
    assert not clean[~where].any()
    assert not clean[3].any()
    assert not slope[3].any()
    assert jnp.isfinite(slope).all()
    for poison in (jnp.nan, jnp.inf, -jnp.inf, 1e38):
        weights, by_logits = both(jnp.where(where, logits, poison), where)
        np.testing.assert_array_equal(weights, clean)
        np.testing.assert_array_equal(by_logits, slope)
    weights, by_logits = both(jnp.where(where, logits, -jnp.inf), jnp.ones_like(where))
    np.testing.assert_array_equal(weights, clean)
    np.testing.assert_array_equal(by_logits, slope)


@most
def test_an_allowed_nan_spoils_its_row_and_no_other(name):
    logits, where = draw(7, dtype="float32")
    bad = np.array(logits)
    bad[2, 1] = np.nan
    clean, spoiled = (np.asarray(compiled(name)(x, where)) for x in (logits, jnp.asarray(bad)))
    assert np.isnan(spoiled[2, 1])
    np.testing.assert_array_equal(spoiled[[0, 1, 3, 4]], clean[[0, 1, 3, 4]])


@most
def test_vmap_equals_the_loop(name, x64):
    pairs = [draw(seed) for seed in range(3)]
    logits, where = (np.stack(x) for x in zip(*pairs, strict=True))
    mapped = np.asarray(jax.jit(jax.vmap(compiled(name)))(logits, where))
    for result, pair in zip(mapped, pairs, strict=True):
        np.testing.assert_allclose(result, compiled(name)(*pair), rtol=1e-14, atol=1e-15)


# Gradients

TIGHT = {"order": 2, "modes": ("fwd", "rev"), "eps": 1e-5, "rtol": 1e-6, "atol": 1e-6}


SMOOTH = ("softmax", "softmax_plus_one", "sparsemax", "entmax15", "relu_over_length", "linear", "top_k")
"""Almost everywhere; those with parameters follow below."""


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.quick("softmax", "entmax15", "top_k")
def test_differentiates_twice_forward_and_reverse(name, x64):
    logits, where = draw(8)
    check_grads(jax.jit(lambda x: jnp.sin(3.0 * call(ALL[name][0], x, where))), (logits,), **TIGHT)


@pytest.mark.parametrize("name", ["sparsemax", "entmax15", "entmax_1.3"])
@pytest.mark.quick("sparsemax")
def test_reverse_over_reverse_through_a_loop(name, x64):
    """In this case JAX drops the rule of a `custom_jvp`."""
    logits, where = (jnp.stack(x) for x in zip(*[draw(seed) for seed in range(3)], strict=True))

    def twice(mapped):
        number = lambda x: jnp.sum(jnp.sin(3.0 * mapped(x)))  # noqa: E731
        return jax.jit(jax.grad(lambda x: jnp.sum(jnp.cos(jax.grad(number)(x)))))(logits)

    straight = twice(lambda x: call(ALL[name][0], x, where))
    np.testing.assert_allclose(
        twice(lambda x: jax.lax.map(lambda pair: call(ALL[name][0], *pair), (x, where))), straight, atol=1e-13
    )


LEARNED = {
    "temperature": (normalizers.temperature, 0.7),
    "sink": (normalizers.softmax_with_sink, 0.3),
    "alpha_near_1": (normalizers.entmax, 1.02),
    "alpha": (normalizers.entmax, 1.4),
    "bias": (normalizers.sigmoid, -1.0),
    "center": (lambda center: normalizers.local_p(center, 1.55), CENTER),
    "width": (lambda width: normalizers.local_p(np.array(CENTER), width), 1.55),
    "gumbel_temperature": (lambda t: normalizers.gumbel_softmax(KEY, t), 0.7),
}


@pytest.mark.parametrize("parameter", LEARNED)
@pytest.mark.quick("temperature", "sink", "center")
def test_parameters_are_learned(parameter, x64):
    make, at = LEARNED[parameter]
    logits, where = draw(9)
    check_grads(jax.jit(lambda p, x: jnp.sin(3.0 * call(make(p), x, where))), (jnp.array(at), logits), **TIGHT)


@pytest.mark.parametrize("parameter", LEARNED)
def test_empty_rows_give_parameters_nothing(parameter):
    make, at = LEARNED[parameter]
    at = jnp.array(at)
    nothing = jnp.zeros((5, 6), bool)
    by_parameter = jax.jit(jax.grad(lambda p: jnp.sum(call(make(p), jnp.full((5, 6), jnp.nan), nothing))))(at)
    assert not np.any(by_parameter)


def test_the_sparse_jacobian_is_that_of_the_paper(x64):
    """Martins & Astudillo 2016, eq. 9: diag(s) − s sᵀ / |s|."""
    weights = normalizers.sparsemax(row := jnp.array([1.0, 0.8, 0.1, -1.0]))
    s = np.asarray(weights > 0, float)
    assert s.sum() == 3 - (0.1 < (1.8 - 1) / 2)
    jacobian = np.diag(s) - np.outer(s, s) / s.sum()
    np.testing.assert_allclose(jax.jit(jax.jacrev(normalizers.sparsemax))(row), jacobian, atol=1e-15)
    np.testing.assert_allclose(jax.jit(jax.jacfwd(normalizers.entmax(2.0)))(row), jacobian, atol=1e-13)


def test_the_jacobian_of_entmax_is_that_of_the_paper(x64):
    """Peters, Niculae & Martins 2019, proposition 2: diag(s) − s sᵀ / ‖s‖₁ with s = p^(2 − α)."""
    row = jnp.array([1.0, 0.8, 0.1, -3.0])
    for normalizer, alpha in [(normalizers.entmax15, 1.5), (normalizers.entmax(1.2), 1.2)]:
        s = np.array(jax.jit(normalizer)(row))
        s[s > 0] **= 2 - alpha
        for by in (jax.jacrev, jax.jacfwd):
            jacobian = jax.jit(by(normalizer))(row)
            np.testing.assert_allclose(jacobian, np.diag(s) - np.outer(s, s) / s.sum(), atol=1e-14)


def test_hard_choices_learn_by_the_softmax(x64):
    logits, where = draw(10)
    slopes = lambda by, normalizer: jax.jit(by(normalizer))(logits, where)  # noqa: E731
    hard = slopes(jax.jacrev, normalizers.hardmax)
    np.testing.assert_allclose(hard, slopes(jax.jacrev, normalizers.softmax), rtol=1e-14)
    np.testing.assert_allclose(hard, slopes(jax.jacfwd, normalizers.hardmax), rtol=1e-14, atol=1e-16)
    drawn, soft = (normalizers.gumbel_softmax(KEY, 0.5, hard=hard) for hard in (True, False))
    sampled, relaxed = (jax.jit(lambda x, where, n=n: call(n, x, where)) for n in (drawn, soft))
    weights = np.asarray(sampled(logits, where))
    assert set(np.unique(weights)) == {0.0, 1.0}
    np.testing.assert_array_equal(weights.argmax(1), np.asarray(relaxed(logits, where)).argmax(1))
    np.testing.assert_allclose(slopes(jax.jacrev, sampled), slopes(jax.jacrev, relaxed))


# Softmax and its names


def test_which_normalizers_are_a_softmax():
    softmax, plus_one = normalizers.softmax, normalizers.softmax_plus_one
    assert normalizers.as_softmax(softmax) == normalizers.as_softmax(as_part(softmax)) == normalizers.Softmax()
    assert normalizers.as_softmax(as_part(plus_one)) == normalizers.Softmax(sink=0.0)
    warm = normalizers.temperature(2.0)
    assert normalizers.as_softmax(as_part(warm)) is warm
    for other in (Partial(softmax, axis=0), normalizers.sparsemax, as_part(normalizers.linear)):
        assert normalizers.as_softmax(other) is None


def test_a_sink_is_one_more_key_without_a_value(x64):
    logits, where = draw(11)
    column = jnp.full((5, 1), 0.6)
    more = jnp.concatenate([logits, column], 1), jnp.concatenate([where, jnp.ones((5, 1), bool)], 1)
    result = normalizers.Softmax(sink=0.6)(logits, where)
    np.testing.assert_allclose(result, normalizers.softmax(*more)[:, :-1], rtol=1e-14)
    np.testing.assert_array_equal(
        normalizers.softmax_with_sink(-jnp.inf)(logits, where), normalizers.softmax(logits, where)
    )
    huge = normalizers.softmax_plus_one(jnp.array([[1e6, -1e6]]))
    np.testing.assert_array_equal(huge, [[1.0, 0.0]])


def test_temperature_does_not_touch_the_sink(x64):
    logits, where = draw(12)
    both = normalizers.Softmax(temperature=2.0, sink=0.6)(logits, where)
    np.testing.assert_array_equal(both, normalizers.Softmax(sink=0.6)(logits / 2.0, where))


def test_parameters_may_differ_by_head():
    sink = normalizers.softmax_with_sink(map_over(jnp.zeros(4), "h"))
    assert isinstance(sink.sink, MappedArray)
    assert per_head(normalizers.entmax(jnp.ones(4))).alpha.axes == ("h",)
    assert normalizers.local_p(jnp.zeros((2, 4, 3)), 1.0, "b h").center.axes == ("b", "h")


# Those that know positions


def test_the_noise_does_not_depend_on_the_block():
    normalizer = normalizers.gumbel_softmax(KEY, 0.5)
    logits, _ = draw(13, dtype="float32")
    whole = call(normalizer, logits)
    at = Positions(jnp.array([3, 1]), jnp.array([4, 0, 1, 2, 3, 5]), jnp.int32(2), jnp.int32(1))
    result = normalizer(logits[at.rows, at.columns], None, at)
    np.testing.assert_allclose(result, whole[at.rows, at.columns], rtol=1e-6)
    for other in (call(normalizer, logits, head=3), call(normalizer, logits, example=0)):
        assert not np.allclose(other, whole)


def test_the_noise_samples_keys_with_the_probabilities_of_the_softmax():
    logits = jnp.broadcast_to(jnp.array([1.0, 0.0, -1.0, 0.5]), (20_000, 4))
    drawn = jax.jit(lambda x: jnp.mean(call(normalizers.gumbel_softmax(KEY, 0.3, hard=True), x), axis=0))(logits)
    share = np.asarray(normalizers.softmax(logits[0]))
    assert (np.abs(drawn - share) < 4 * np.sqrt(share * (1 - share) / 20_000)).all()


def test_the_noise_is_not_that_of_dropout():
    twenty, zero = jnp.arange(100, dtype=jnp.int32), jnp.int32(0)
    kept = np.asarray(dropout.keep(KEY, 0.5, zero, zero, twenty, twenty))
    gumbel = jax.jit(lambda *arguments: normalizers.gumbel_softmax(KEY)(*arguments))
    drawn = np.asarray(gumbel(jnp.zeros((100, 100)), None, Positions(twenty, twenty, zero, zero)))
    assert abs(np.corrcoef(kept.ravel(), (drawn > np.median(drawn)).ravel())[0, 1]) < 0.05


def test_dropout_draws_are_unchanged():
    """Its bits equal threefry's in plain Python."""
    key = tuple(jax.random.bits(KEY, (2,), jnp.uint32).tolist())
    own = book.threefry(key, (3, 1))
    bits = [[book.threefry(own, (i, j))[0] for j in (5, 6)] for i in (0, 9)]
    kept = dropout.keep(KEY, 0.4, jnp.int32(3), jnp.int32(1), jnp.array([0, 9]), jnp.array([5, 6]))
    np.testing.assert_array_equal(kept, np.array(bits) >= int(0.4 * 2**32))


def test_a_window_may_be_anywhere_and_hold_nothing():
    zeros = jnp.zeros((5, 6))
    normalizer = normalizers.local_p(jnp.array([-9.0, 2.0, 90.0, jnp.nan]), 1.0)
    weights = call(normalizer, zeros)
    assert not weights[jnp.array([0, 2, 4])].any()  # the last query has no center
    np.testing.assert_allclose(weights[1, 1:4], np.exp([-2.0, 0.0, -2.0]) / 3, rtol=1e-6)
    assert jnp.isnan(weights[3]).all()
    shifted = call(normalizers.local_p(jnp.full(5, 12.0), 1.0), zeros, first=10)
    np.testing.assert_array_equal(shifted[0], weights[1])


def test_predicted_centers(x64):
    rng = np.random.default_rng(14)
    query, w, v = rng.standard_normal((3, 4)), rng.standard_normal((4, 2)), rng.standard_normal(2)
    for i, center in enumerate(normalizers.predicted_center(*map(jnp.asarray, (query, w, v)), 7)):
        inner = [math.tanh(math.fsum(query[i, d] * w[d, a] for d in range(4))) for a in range(2)]
        score = math.fsum(v[a] * inner[a] for a in range(2))
        assert abs(float(center) - 7 / (1 + math.exp(-score))) < 1e-14
    narrow = normalizers.predicted_center(*(jnp.asarray(x, "bfloat16") for x in (query, w, v)), jnp.int32(7))
    assert narrow.dtype == "float32"
    check_grads(
        jax.jit(lambda *x: normalizers.predicted_center(*x, 7)), tuple(map(jnp.asarray, (query, w, v))), **TIGHT
    )

"""Scores beyond the conformance suite, in particular the accuracy and cost of the additive score."""

import doctest

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import oracle_scores as book
import pytest
from jax.test_util import check_grads
from jax.tree_util import Partial
from tolerances import assert_close

from attnlab.functional import scores
from attnlab.functional.attention import attention
from attnlab.functional.parts import per_head
from attnlab.functional.scores import distances, feed_forward, products

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
T, S, A = 5, 7, 19
"""More hidden units than one pass adds, and no multiple of it."""


def drawn(*shapes, seed=0, dtype="float32"):
    rng = np.random.default_rng(seed)
    return [jnp.asarray(rng.standard_normal(shape), dtype) for shape in shapes]


def table(score, query, key, **params):
    wide = {name: np.asarray(x, np.float64) for name, x in params.items()}
    rows, columns = np.asarray(query, np.float64), np.asarray(key, np.float64)
    return np.array([[score(q, k, **wide) for k in columns] for q in rows])


def ready(query, key, v):
    """Compute the additive score of projected queries and keys."""
    return scores.additive(query, key, w_query=None, w_key=None, v=v)


def both(score, *arguments):
    """Return the logits of a score and the cotangents of its inputs; the last argument is the logits' cotangent."""
    *inputs, ct = arguments
    logits, pull = jax.vjp(score, *inputs)
    return logits, pull(ct)


def slopes_by_the_book(query, key, v, ct):
    """Compute the cotangents of the additive logits from tanh' = 1 / cosh², one number at a time."""
    query, key, v, ct = (np.asarray(x, np.float64) for x in (query, key, v, ct))
    by_query, by_key, by_v = np.zeros_like(query), np.zeros_like(key), np.zeros_like(v)
    for i, j, a in np.ndindex(len(query), len(key), len(v)):
        x = query[i, a] + key[j, a]
        slope = ct[i, j] * v[a] / np.cosh(min(abs(x), 300.0)) ** 2
        by_query[i, a] += slope
        by_key[j, a] += slope
        by_v[a] += ct[i, j] * np.tanh(x)
    return by_query, by_key, by_v


def extreme(scale, dtype="float32"):
    """Return pre-activations of this magnitude with mixed signs, some of which cancel or nearly cancel."""
    query, key, v, ct, near = drawn((T, A), (S, A), (A,), (T, S), (A,), dtype="float64")
    query, key = np.asarray(query) * scale, np.asarray(key) * scale
    key[:3] = -query[0], near - query[1], query[2]
    query[3], query[4], key[3], key[4] = scale, -scale, -scale, scale
    return [jnp.asarray(x, dtype) for x in (query, key, v, ct)]


SCALES = [1e-3, 1.0, 30.0, 100.0, 170.0, 180.0, 1e3, 1e8]


@pytest.fixture(scope="module")
def value_and_slopes():
    """Compiled once for each dtype."""
    return jax.jit(lambda *x: both(ready, *x))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", SCALES)
def test_additive_is_right_at_any_size(scale, dtype, value_and_slopes, x64):
    query, key, v, ct = extreme(scale, dtype)
    logits, result = value_and_slopes(query, key, v, ct)
    bound = {"float32": 1e-5, "float64": 1e-12}[dtype]
    np.testing.assert_allclose(logits, table(oracle.additive, query, key, v=v), rtol=0, atol=bound)
    for by, expected in zip(result, slopes_by_the_book(query, key, v, ct), strict=True):
        assert by.dtype == dtype
        np.testing.assert_allclose(by, expected, rtol=0, atol=bound)


def test_additive_at_infinity_and_nan(value_and_slopes, x64):
    query, key, v, ct = extreme(1.0)
    logits, result = value_and_slopes(query.at[0].set(jnp.inf).at[1].set(-jnp.inf), key, v, ct)
    np.testing.assert_allclose(logits[0], jnp.full(S, v.sum()), atol=1e-5)
    np.testing.assert_allclose(logits[1], jnp.full(S, -v.sum()), atol=1e-5)
    chex.assert_tree_all_finite(result)
    logits, _ = value_and_slopes(query.at[2].set(jnp.nan), key, v, ct)
    np.testing.assert_array_equal(jnp.isnan(logits), jnp.arange(T)[:, None] == jnp.full((1, S), 2))


@pytest.mark.parametrize("spoiled", [1.0, 1e3])
def test_additive_under_vmap_equals_the_loop_even_where_one_example_overflows(spoiled):
    query, key, v, ct = drawn((3, T, A), (3, S, A), (A,), (3, T, S))
    query = query.at[1].multiply(spoiled)
    result = jax.jit(jax.vmap(lambda *x: both(ready, *x), in_axes=(0, 0, None, 0)))(query, key, v, ct)
    single = jax.jit(lambda *x: both(ready, *x))
    loop = [single(query[n], key[n], v, ct[n]) for n in range(3)]
    chex.assert_trees_all_close(result, jax.tree.map(lambda *x: jnp.stack(x), *loop), atol=1e-5, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(3, 4, 2), (17, 3, 18)], ids=["one_pass", "several_passes"])
def test_additive_differentiates_twice(size, x64):
    queries, keys, units = size
    inputs = drawn((queries, units), (keys, units), (units,), dtype="float64")
    check_grads(jax.jit(lambda *x: jnp.sin(ready(*x))), inputs, order=2, eps=1e-5, rtol=1e-6, atol=1e-6)


def test_forward_mode_is_the_transpose_of_reverse_mode(x64):
    query, key, v, ct = drawn((18, A), (S, A), (A,), (18, S), dtype="float64")
    change = drawn((18, A), (S, A), (A,), seed=1, dtype="float64")
    tangent = jax.jit(lambda x, t: jax.jvp(ready, tuple(x), tuple(t))[1])((query, key, v), change)
    pulled = jax.jit(lambda x, ct: jax.vjp(ready, *x)[1](ct))((query, key, v), ct)
    np.testing.assert_allclose(jnp.vdot(ct, tangent), sum(map(jnp.vdot, change, pulled)), rtol=1e-12)


def temporary_bytes(fn, *arguments):
    return jax.jit(fn).lower(*arguments).compile().memory_analysis().temp_size_in_bytes


def test_additive_never_stores_queries_by_keys_by_hidden_units():
    queries, keys, units = 256, 256, 64
    query, key, v, ct = drawn((queries, units), (keys, units), (units,), (queries, keys))
    hidden = 4 * queries * keys * units
    assert temporary_bytes(ready, query, key, v) < hidden / 8
    assert temporary_bytes(lambda *x: jax.vjp(ready, *x[:3])[1](x[3]), query, key, v, ct) < hidden / 8
    forward = temporary_bytes(lambda *x: jax.jvp(ready, x, x), query, key, v)
    assert forward < hidden / 2, "16 rows at a time, of 256"
    weighed = temporary_bytes(
        lambda q, k, v: jax.grad(lambda *x: (attention(*x, score=Partial(ready, v=v)) ** 2).sum(), (0, 1, 2))(q, k, k),
        query[:, None, :], key[:, None, :], v,
    )  # fmt: skip
    assert weighed < hidden / 4, "and so in attention, forward and reverse"


def test_additive_at_1024_by_1024_runs_within_80_megabytes():
    query, key, v, ct = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((1024, 256), (1024, 256), (256,), (1024, 1024))]
    assert temporary_bytes(lambda *x: jax.vjp(ready, *x[:3])[1](x[3]), query, key, v, ct) < 80e6


def test_concat_equals_the_network_on_the_pair_put_together(x64):
    query, key, w, v = drawn((T, 3), (S, 2), (5, A), (A,), dtype="float64")

    def literal(query, key, w, v):
        tall = jnp.broadcast_to(query[:, None, :], (T, S, 3)), jnp.broadcast_to(key[None, :, :], (T, S, 2))
        return jnp.tanh(jnp.concatenate(tall, axis=-1) @ w) @ v

    ct = drawn((T, S), seed=1, dtype="float64")[0]
    whole = jax.jit(lambda *x: both(lambda q, k, w, v: scores.concat(q, k, w=w, v=v), *x))
    result, slopes = whole(query, key, w, v, ct)
    expected, literal_slopes = jax.jit(lambda *x: both(literal, *x))(query, key, w, v, ct)
    assert_close(result, expected, "float64")
    for by, by_literal in zip(slopes, literal_slopes, strict=True):
        np.testing.assert_allclose(by, by_literal, rtol=0, atol=1e-12)
    factored = jax.jit(lambda q, k, w, v: scores.additive(q, k, w_query=w[:3], w_key=w[3:], v=v))(query, key, w, v)
    assert_close(result, factored, "float64")


def test_cosine_of_a_zero_vector_is_zero_with_gradient_zero():
    query, key = drawn((3, 4), (5, 4))
    query, key = query.at[1].set(0.0), key.at[2].set(0.0)
    whole = jax.jit(lambda *x: both(scores.cosine, *x))
    logits, (by_query, by_key) = jax.tree.map(np.asarray, whole(query, key, jnp.ones((3, 5))))
    assert not logits[1].any()
    assert not logits[:, 2].any()
    assert not by_query[1].any()
    assert not by_key[2].any()
    chex.assert_tree_all_finite((by_query, by_key))
    hessian = jax.jit(jax.hessian(lambda q: scores.cosine(q, key).sum()))(query)
    chex.assert_tree_all_finite(hessian)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_cosine_does_not_depend_on_lengths(size):
    query, key = drawn((3, 4), (5, 4))
    np.testing.assert_allclose(scores.cosine(query * size, key), scores.cosine(query, key), atol=1e-6)
    slope = jax.jit(jax.grad(lambda q: jnp.sin(scores.cosine(q, key)).sum()))
    np.testing.assert_allclose(slope(query * size) * size, slope(query), rtol=1e-5, atol=1e-6)


def test_a_far_origin_costs_the_distance_nothing(x64):
    query, key = drawn((3, 4), (5, 4))
    near, far = table(book.negative_squared_distance, query, key), [jnp.round(x * 64) / 64 + 4096 for x in (query, key)]
    np.testing.assert_allclose(scores.negative_squared_distance(query, key), near, atol=1e-5)
    expected = table(book.negative_squared_distance, *far)
    np.testing.assert_allclose(scores.negative_squared_distance(*far), expected, atol=1e-5)


def test_distances_have_no_gradient_by_a_common_shift_and_the_right_one_apart(x64):
    query, key, ct = drawn((3, 4), (5, 4), (3, 5), dtype="float64")
    _, slopes = jax.jit(lambda *x: both(scores.negative_squared_distance, *x))(query, key, ct)
    query, key, ct, by_query, by_key = map(np.asarray, (query, key, ct, *slopes))
    apart = query[:, None, :] - key[None, :, :]
    np.testing.assert_allclose(by_query, -2 * (ct[:, :, None] * apart).sum(1), atol=1e-12)
    np.testing.assert_allclose(by_key, 2 * (ct[:, :, None] * apart).sum(0), atol=1e-12)
    np.testing.assert_allclose(by_query.sum(0) + by_key.sum(0), np.zeros(4), atol=1e-12)


def test_the_default_scale_is_one_over_root_d():
    query, key = drawn((3, 4), (5, 4))
    np.testing.assert_array_equal(scores.scaled_dot(query, key), scores.dot(query, key) / 2)
    np.testing.assert_array_equal(scores.scaled_dot(query, key, scale=2.0), scores.dot(query, key) * 2)


def test_a_score_of_the_user_with_parameters_of_each_head():
    query, key, w = drawn((5, 2, 3), (6, 2, 3), (2, 3))

    def weighted(query, key, *, w):
        return (query * w[None, :]) @ key.T

    call = jax.jit(lambda query, key, score: attention(query, key, key, score=score))
    together = call(query, key, per_head(Partial(weighted, w=w)))
    separate = [call(query[:, [n]], key[:, [n]], Partial(weighted, w=w[n])) for n in range(2)]
    np.testing.assert_allclose(together, np.concatenate(separate, axis=1), atol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda q, k: ready(q, k[:, :2], jnp.ones(3)), "hidden widths of queries 3, keys 2 and v 3"),
        (lambda q, k: scores.concat(q, k, w=jnp.ones((5, 2)), v=jnp.ones(2)), r"5 rows.*3 \+ 3"),
    ],
)
def test_widths_that_do_not_fit_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call(*drawn((2, 3), (4, 3)))


@pytest.mark.parametrize("module", [distances, feed_forward, products], ids=lambda module: module.__name__)
def test_examples_run(module):
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.attempted
    assert not result.failed

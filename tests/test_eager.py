"""Eager calls: compiled once for equal parts and shapes, and again after a value has changed."""

import functools
import random
import time
from dataclasses import InitVar, dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from attnlab.functional import extras, masks, mods, normalizers, scores
from attnlab.functional.attention import attention
from attnlab.functional.backends import eager
from attnlab.functional.backends.fingerprint import NoFingerprint, of_structure

X = jax.random.normal(jax.random.key(0), (2, 6, 2, 4))
BLOCKS = {"implementation": "streaming", "block_size": (2, 3)}
SLOPE = 1.0


def tilt(logits, positions):
    return logits + SLOPE * positions.columns


def compilations(call) -> int:
    """Return how many programs were compiled while the call was made."""
    events = []
    count = lambda name, _, **__: events.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(count)
    try:
        jax.block_until_ready(call())
    finally:
        jax.monitoring.unregister_event_duration_listener(count)
    return sum(name == "/jax/core/compile/backend_compile_duration" for name in events)


LOOPS = {"score": Partial(scores.additive, w_query=jnp.ones((4, 5)), w_key=jnp.eye(4, 5), v=jnp.ones(5))}
CALLS = {
    "parts made anew": lambda x: attention(x, x, x, mask=masks.causal(), mods=(mods.alibi(2),), **BLOCKS),
    "all logits at once": lambda x: attention(x, x, x, mask=masks.causal(), mods=(mods.alibi(2),)),
    "a mask with arrays": lambda x: attention(x, x, x, mask=masks.lengths(jnp.array([3, 6])), **BLOCKS),
    "a lambda made anew": lambda x: attention(x, x, x, mask=masks.from_fn(lambda q, k, h: q >= k), **BLOCKS),
    "whole rows": lambda x: attention(x, x, x, normalizer=normalizers.sparsemax, **BLOCKS),
    "chosen weights": lambda x: attention(x, x, x, returns=(extras.weights(rows=[1]),)),
    "gradient": lambda x: jax.grad(lambda x: attention(x, x, x, **BLOCKS).sum())(x),
    "written out, parts with loops": lambda x: jax.grad(
        lambda x: attention(x, x, x, **LOOPS, normalizer=normalizers.entmax(1.3), implementation="dense").sum()
    )(x),
    "vmap": lambda x: jax.vmap(lambda x: attention(x, x, x, mask=masks.causal(), **BLOCKS))(x),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_compiles_nothing(name):
    first, same = CALLS[name](X), X + 0.0
    assert compilations(lambda: CALLS[name](same)) == 0
    for mine, again in zip(*map(jax.tree.leaves, (first, CALLS[name](X))), strict=True):
        np.testing.assert_array_equal(mine, again)


def test_what_a_function_reads_is_read_again(monkeypatch):
    call = lambda: attention(X, X, X, mods=(tilt,), **BLOCKS)  # noqa: E731
    before = call()
    monkeypatch.setitem(globals(), "SLOPE", -1.0)
    after = call()
    expected = jax.jit(lambda: attention(X, X, X, mods=(tilt,), implementation="dense"))()
    np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(before, after)


def test_closures_bound_methods_and_functions_inside_are_read_again():
    slope, changing = 1.0, {"slope": 1.0}

    class Tilt:
        slope = 1.0

        def mod(self, logits, positions):
            return logits + self.slope * positions.columns

    own = Tilt()
    variants = {
        "closure": lambda logits, positions: logits + slope * positions.columns,
        "dictionary": lambda logits, positions: logits + changing["slope"] * positions.columns,
        "method": own.mod,
        "calls another": lambda logits, positions: (lambda: tilt_by(changing)(logits, positions))(),
    }
    before = {name: attention(X, X, X, mods=(mod,), **BLOCKS) for name, mod in variants.items()}
    slope = changing["slope"] = own.slope = -3.0
    for name, mod in variants.items():
        after = attention(X, X, X, mods=(mod,), **BLOCKS)
        expected = jax.jit(lambda mod=mod: attention(X, X, X, mods=(mod,), implementation="dense"))()
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-6)
        assert not np.allclose(before[name], after), name


def tilt_by(table):
    return lambda logits, positions: logits + table["slope"] * positions.columns


def structure(function):
    return jax.tree.structure(Partial(function))


def test_different_functions_have_different_fingerprints():
    make = lambda number: lambda x: x + number  # noqa: E731
    same = [of_structure(structure(make(0.0))) for _ in range(2)]
    assert same[0] == same[1]
    others = [make(-0.0), make(1.0), make(0), make(False), make(np.zeros(2)), make(np.ones(2)), lambda x: x - 0.0, abs]
    assert len({same[0], *(of_structure(structure(other)) for other in others)}) == 9


def noisy(logits, positions):
    return logits + np.random.normal(size=logits.shape)  # noqa: NPY002


@pytest.mark.parametrize(
    "function",
    [
        noisy,
        lambda x: x + random.random(),
        lambda x: x + time.time(),
        lambda x: x + len(open("/dev/null").read()),  # noqa: SIM115
    ],
    ids=["numpy.random", "random", "time", "open"],
)
def test_what_differs_in_every_call_is_not_kept(function):
    with pytest.raises(NoFingerprint):
        of_structure(structure(function))


def test_noise_is_drawn_in_every_call():
    first, second = (attention(X, X, X, mods=(noisy,)) for _ in range(2))
    assert not np.allclose(first, second)


@pytest.mark.parametrize("held", [np.zeros(2**17), jnp.zeros(2**17), object()], ids=["NumPy", "JAX", "object"])
def test_what_is_large_or_may_change_unseen_is_not_kept(held):
    with pytest.raises(NoFingerprint):
        of_structure(structure(lambda x: x + held))


def test_large_arrays_and_old_programs_are_let_go(monkeypatch):
    monkeypatch.setattr(eager, "_compiled", functools.lru_cache(2)(eager._compiled.__wrapped__))
    held = jnp.zeros((512, 512))
    attention(
        X,
        X,
        X,
        mods=(lambda logits, positions: logits + held[:6, :6][positions.query[:, None], positions.key],),
        **BLOCKS,
    )
    assert eager._compiled.cache_info().currsize == 0
    for length in (3, 4, 5):
        attention(X[:, :length], X, X, **BLOCKS)
    assert eager._compiled.cache_info().currsize == 2


def test_nothing_is_kept_of_a_call_under_jit_and_outputs_are_the_same(monkeypatch):
    monkeypatch.setattr(eager, "_compiled", functools.lru_cache(2)(eager._compiled.__wrapped__))
    call = lambda x: attention(x, x, x, mask=masks.causal(), **BLOCKS)  # noqa: E731
    expected = jax.jit(call)(X)
    jax.jit(jax.grad(lambda x: jax.vmap(call)(x[None]).sum()))(X)
    jax.eval_shape(call, X)
    assert eager._compiled.cache_info().currsize == 0
    np.testing.assert_array_equal(call(X), expected)
    assert eager._compiled.cache_info().currsize == 1


def test_precision_is_that_of_the_call():
    with jax.enable_x64(True):
        wide = attention(*[X.astype(jnp.float64)] * 3, **BLOCKS)
    assert (wide.dtype, attention(X, X, X, **BLOCKS).dtype) == (jnp.float64, jnp.float32)


def test_second_derivatives_of_eager_calls():
    def curvature(how):
        slope = jax.grad(lambda x: jnp.sin(attention(x, x, x, mask=masks.causal(), **how)).sum())
        return jax.grad(lambda x: jnp.sin(slope(x)).sum())(X)

    np.testing.assert_allclose(curvature(BLOCKS), curvature({"implementation": "dense"}), rtol=2e-4, atol=2e-5)


def test_masks_are_compared_and_hashed_by_value():
    made = lambda last: masks.causal() & ~masks.lengths(jnp.array([1, last])) | masks.array(jnp.eye(3, dtype=bool))  # noqa: E731
    assert made(2) == made(2)
    assert hash(made(2)) == hash(made(2))
    assert made(2) != made(3)
    assert masks.causal(1) != masks.causal(2) != masks.sliding_window(1, 0)
    assert masks.segments(jnp.array([0, 1])) != masks.segments(jnp.array([0, 1], jnp.int16))
    assert masks.causal() != "causal"
    near = lambda q, k, h: abs(q - k) < 2  # noqa: E731
    assert masks.from_fn(near) == masks.from_fn(near)
    assert masks.from_fn(near) != masks.from_fn(lambda q, k, h: abs(q - k) < 2)
    bound = lambda width: masks.from_fn(Partial(lambda q, k, h, width: q - k < width, width=width))  # noqa: E731
    assert len({bound(jnp.array(1)): 0, made(2): 1, made(2): 2, made(3): 3}) == 3


def test_objects_are_read_again_whatever_of_them_changes(monkeypatch):
    """Attributes that are not fields, of functions and containers; names that a function looks up."""

    @dataclass
    class Scale:
        by: InitVar[float]

        def __post_init__(self, by):
            self.factor = by

        def __call__(self, query, key):
            return self.factor * scores.dot(query, key)

    class Settings(dict):
        factor = 0.1

    def attribute(query, key):
        return attribute.factor * scores.dot(query, key)

    def by_globals(query, key):
        return globals()["SLOPE"] * scores.dot(query, key)

    settings = Settings()

    def by_settings(query, key):
        return settings.factor * scores.dot(query, key)

    def set_all(number: float) -> list:
        attribute.factor = settings.factor = number
        monkeypatch.setitem(globals(), "SLOPE", number)
        return [jax.tree_util.Partial(Scale(number)), attribute, by_globals, by_settings]

    for number in (0.1, 1.0):
        expected = attention(X, X, X, score=lambda query, key, n=number: n * scores.dot(query, key), **BLOCKS)
        for score in set_all(number):
            np.testing.assert_allclose(attention(X, X, X, score=score, **BLOCKS), expected, rtol=1e-5, atol=1e-6)

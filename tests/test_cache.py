"""Decoding with a cache: the rows equal those of attention over the whole sequence, for any division into steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tolerances import assert_close

from attnlab.functional import cache, masks, mods, scores
from attnlab.functional.attention import attention
from attnlab.functional.rotary import rotary

pytestmark = pytest.mark.optimized

TOKENS, CAPACITY = 7, 9


def draw(*shape: int, seed: int = 0, dtype: str = "float64") -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def sequence(batch: tuple[int, ...] = (2,), dtype: str = "float64"):
    """Four query heads share two key heads; values are wider than keys."""
    query = draw(*batch, TOKENS, 4, 6, dtype=dtype)
    return query, draw(*batch, TOKENS, 2, 6, seed=1, dtype=dtype), draw(*batch, TOKENS, 2, 8, seed=2, dtype=dtype)


def cut(arrays, start: int, stop: int):
    return tuple(jax.lax.slice_in_dim(x, start, stop, axis=x.ndim - 3) for x in arrays)


def decoded(arrays, prompt: int, step, **options) -> tuple[jax.Array, cache.Cache]:
    """Decode `prompt` tokens at once and the others one at a time."""
    state, outputs = cache.init(arrays[1], arrays[2], CAPACITY), []
    at = 0
    while at < TOKENS:
        size = prompt if at == 0 else 1
        output, state = step(state, *cut(arrays, at, at + size))
        outputs.append(output)
        at += size
    return jnp.concatenate(outputs, axis=-3), state


def at_once(query, key, value, mask=masks.causal(), **options) -> jax.Array:  # noqa: B008
    return jax.jit(lambda *arrays: attention(*arrays, mask=mask, **options))(query, key, value)


OPTIONS = {
    "plain": {},
    "alibi": {"mods": (mods.alibi(4),)},
    "window": {"mask": masks.sliding_window(2, 0)},
    "sink": {"mask": masks.from_fn(lambda i, j, head: (j < 1) | (i - j < 3)), "score": scores.cosine},
}


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("prompt", [1, 3, TOKENS])
@pytest.mark.quick("1-plain", "3-alibi", "3-window", "1-sink")
def test_equals_the_whole_sequence(x64, options, prompt):
    arrays, own = sequence(), OPTIONS[options]
    mask = masks.causal() & own["mask"] if "mask" in own else masks.causal()
    expected = at_once(*arrays, **{**own, "mask": mask})
    output, state = decoded(arrays, prompt, jax.jit(functools.partial(cache.attend, **own)))
    assert_close(output, expected, "float64")
    assert int(state.length) == TOKENS
    assert not cache.overflowed(state)


@pytest.mark.parametrize("prompt", [1, 3, TOKENS])
@pytest.mark.quick("3")
def test_equals_the_whole_sequence_with_rotary_positions(x64, prompt):
    query, key, value = sequence()
    everywhere = jnp.arange(TOKENS)
    expected = at_once(rotary(query, everywhere), rotary(key, everywhere), value)

    @jax.jit
    def step(state, query, key, value):
        now = cache.positions(state, query.shape[-3])
        return cache.attend(state, rotary(query, now), rotary(key, now), value)

    assert_close(decoded((query, key, value), prompt, step)[0], expected, "float64")


@pytest.mark.parametrize("implementation", ["dense", "streaming", "block_sparse"])
def test_every_implementation_decodes(x64, implementation):
    arrays = sequence()
    step = jax.jit(functools.partial(cache.attend, implementation=implementation))
    assert_close(decoded(arrays, 3, step)[0], at_once(*arrays), "float64")


def test_steps_compile_once():
    arrays, count = sequence(dtype="float32"), 0

    @jax.jit
    def step(*args):
        nonlocal count
        count += 1
        return cache.attend(*args)

    decoded(arrays, 1, step)
    assert count == 1


def test_the_loop_runs_inside_scan(x64):
    arrays = sequence(batch=())

    def step(state, now):
        output, state = cache.attend(state, *(x[None] for x in now))
        return state, output[0]

    _, outputs = jax.lax.scan(step, cache.init(arrays[1], arrays[2], CAPACITY), arrays)
    assert_close(outputs, at_once(*arrays), "float64")


def test_examples_of_different_lengths_by_vmap(x64):
    query, key, value = sequence(batch=(2,))
    states = [cache.of(key[b, :size], value[b, :size], CAPACITY) for b, size in ((0, 2), (1, 5))]
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *states)
    new = [jnp.stack([x[0, 2:3], x[1, 5:6]]) for x in (query, key, value)]
    output, state = jax.jit(jax.vmap(cache.attend))(stacked, *new)
    whole = np.asarray(at_once(query, key, value))
    assert_close(output[:, 0], np.stack([whole[0, 2], whole[1, 5]]), "float64")
    assert state.length.tolist() == [3, 6]


def test_gradients_reach_every_token(x64):
    arrays = sequence()

    def by_steps(arrays):
        return jnp.sum(jnp.sin(decoded(arrays, 3, cache.attend)[0]))

    expected = jax.jit(jax.grad(lambda arrays: jnp.sum(jnp.sin(attention(*arrays, mask=masks.causal())))))(arrays)
    for result, gradient in zip(jax.jit(jax.grad(by_steps))(arrays), expected, strict=True):
        assert_close(result, gradient, "float64")


def test_strict_types_and_extras(strict):
    arrays = sequence(dtype="bfloat16")
    attend = jax.jit(functools.partial(cache.attend, returns=("weights", "lse")))
    result, _ = attend(cache.init(*arrays[1:], CAPACITY), *arrays)
    assert result.output.dtype == jnp.bfloat16
    assert result.weights.shape == (2, 4, TOKENS, CAPACITY)
    assert not result.weights[..., TOKENS:].any()


def test_an_overflow_stores_nothing_and_gives_nan():
    query, key, value = sequence(dtype="float32")
    full = cache.of(key, value, TOKENS + 1)
    step = jax.jit(cache.attend)
    output, state = step(full, *cut((query, key, value), 0, 1))
    assert jnp.isfinite(output).all()
    assert not cache.overflowed(state)
    output, over = step(state, *cut((query, key, value), 0, 1))
    assert jnp.isnan(output).all()
    assert cache.overflowed(over)
    np.testing.assert_array_equal(over.key, state.key)
    output, still = step(over, *cut((query, key, value), 0, 1))
    assert jnp.isnan(output).all()
    assert cache.overflowed(still)


QUERY, KEY, VALUE = sequence(dtype="float32")
EMPTY = cache.init(KEY, VALUE, CAPACITY)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: cache.init(KEY, VALUE, 0), "capacity .* 0"),
        (lambda: cache.of(KEY, VALUE, 3), "7 tokens .*capacity of 3"),
        (lambda: cache.append(EMPTY, KEY[:1], VALUE[:1]), r"key \(1, 7.*buffer"),
        (lambda: cache.append(EMPTY, KEY.astype("bfloat16"), VALUE), "key .*bfloat16.*float32"),
        (lambda: cache.attend(EMPTY, QUERY[:, :2], KEY, VALUE), "queries and keys.*2 and 7"),
        (lambda: cache.attend(EMPTY, QUERY, KEY, VALUE, query_positions=jnp.arange(7)), "query_positions"),
    ],
)
def test_wrong_arguments_raise(call, message):
    with pytest.raises(ValueError, match=message):
        call()

"""The tuning of another kind of device, tested on a CPU that claims to be one."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from samples import COVER, Sample
from test_conformance import ACCURATE, assert_equals_the_oracle_and_the_slopes_of_dense, evaluate

from attnlab.functional import masks
from attnlab.functional.attention import attention, plan
from attnlab.functional.backends.block_schedule import KEY_ALIGNMENT
from attnlab.functional.backends.devices import device_kind
from attnlab.functional.backends.tuning import TUNING

pytestmark = pytest.mark.optimized

BLOCKWISE = ("streaming", "block_sparse")


def pretend(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """Make `attention` use the tuning of this kind of device."""
    monkeypatch.setattr(importlib.import_module("attnlab.functional.attention"), "device_kind", lambda: kind)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """All heads at once, in the blocks of a GPU."""
    pretend(monkeypatch, "gpu")


@pytest.mark.parametrize(
    ("number", "sample"),
    [pytest.param(n, s, marks=[] if n in (2, 5) else pytest.mark.slow) for n, s in enumerate(COVER)],
    ids=str,
)
def test_all_heads_at_once_equal_the_oracle(number: int, sample: Sample, gpu, strict, x64):
    for implementation in BLOCKWISE if number % 4 == 0 else BLOCKWISE[number % 2 :][:1]:
        assert_equals_the_oracle_and_the_slopes_of_dense(sample, implementation)


@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.quick("streaming")
def test_second_derivatives_of_all_heads_at_once(implementation, gpu, x64):
    rng = np.random.default_rng(0)
    query, key, value, change = (jnp.asarray(rng.standard_normal((2, 5, 2, 3))) for _ in range(4))

    def curvature(implementation, block_size=None):
        def number(query):
            how = {"mask": masks.causal(), "implementation": implementation, "block_size": block_size}
            return jnp.sin(attention(query, key, value, **how)).sum()

        return jax.jit(lambda query: jax.jvp(jax.grad(number), (query,), (change,))[1])(query)

    np.testing.assert_allclose(curvature(implementation, (2, 3)), curvature("dense"), rtol=ACCURATE, atol=ACCURATE)


@pytest.mark.parametrize("on", ["cpu", "gpu"])
@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.quick("streaming-cpu", "block_sparse-gpu")
def test_nan_in_one_head_spoils_no_other_head(implementation, on, monkeypatch):
    pretend(monkeypatch, on)
    rng = np.random.default_rng(0)
    query, key, value = (jnp.asarray(rng.standard_normal((2, 6, 2, 3)), jnp.float32) for _ in range(3))
    bad = key.at[1, 3, 1].set(jnp.nan)

    @jax.jit
    def both(key):
        def number(query):
            how = {"mask": masks.causal(), "implementation": implementation, "block_size": (2, 3)}
            found = attention(query, key, value, **how)
            return jnp.where(jnp.isnan(found), 0.0, found).sum(), found

        slope, found = jax.grad(number, has_aux=True)(query)
        return found, slope

    (right, right_slope), (found, slope) = both(key), both(bad)
    seen = np.zeros(found.shape, bool)
    seen[1, 3:, 1] = True
    np.testing.assert_array_equal(np.isnan(found), seen)
    np.testing.assert_array_equal(np.where(seen, 0.0, found), np.where(seen, 0.0, right))
    assert np.isfinite(slope).all()
    np.testing.assert_array_equal(np.where(seen, 0.0, slope), np.where(seen, 0.0, right_slope))


def test_a_search_for_nan_is_made_only_where_there_is_one(gpu):
    """Under `vmap` a conditional becomes a selection, and both of its sides are computed; a loop stays a loop."""
    asked: list[int] = []

    def may(i, j, head):
        jax.debug.callback(lambda: asked.append(1))
        return i >= j

    def count(key):
        query = jnp.ones((1, 4, 2, 3))
        asked.clear()
        how = {"mask": masks.from_fn(may), "implementation": "streaming", "block_size": (4, 4)}
        jax.block_until_ready(jax.jit(lambda key: attention(query, key, query, **how))(key))
        jax.effects_barrier()
        return len(asked)

    key = jnp.ones((1, 4, 2, 3))
    count(key)  # a custom predicate is tried once
    assert 0 < count(key) < count(key.at[0, 0, 0].set(jnp.nan))


def test_a_plan_is_that_of_the_device(gpu):
    small, long = (jax.ShapeDtypeStruct((1, n, 8, 64), jnp.float32) for n in (1024, 4096))
    assert plan(small, small, small).implementation == "dense"
    whole = plan(long, long, long)
    assert (whole.implementation, whole.block_size) == ("streaming", (2048, 1024))
    few = plan(long, long, long, mask=masks.sliding_window(255, 0))
    assert few.implementation == "block_sparse"
    assert few.block_size in TUNING["gpu"].block_times


def test_a_kind_of_device_that_is_not_known_is_taken_for_a_gpu(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert device_kind() == "gpu"


def test_block_sizes_of_every_kind_are_aligned():
    for tuning in TUNING.values():
        blocks = (*tuning.block_times, *tuning.sharded_block_times)
        assert all(keys % KEY_ALIGNMENT == 0 for _, keys in blocks)


def test_a_sample_is_the_same_both_ways(monkeypatch, x64):
    """What the two kinds of devices compute differs by rounding alone."""
    sample = COVER[4]
    one = evaluate(sample, "streaming", slopes=False)[0].output
    pretend(monkeypatch, "gpu")
    other = evaluate(sample, "streaming", slopes=False)[0].output
    np.testing.assert_allclose(one, other, rtol=ACCURATE, atol=ACCURATE)

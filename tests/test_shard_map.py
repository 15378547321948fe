"""Attention inside a caller's `jax.shard_map`, with the types of its default `check_vma=True`: values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P
from jax.tree_util import Partial
from tolerances import assert_close

from attnlab.functional import masks, mods, normalizers, scores
from attnlab.functional.attention import attention

pytestmark = [
    pytest.mark.skipif(len(jax.devices()) < 2, reason="one device cannot divide anything"),
    pytest.mark.optimized,
]

SHAPE = (2, 5, 2, 3)
CASES = {
    "softmax": {},
    "mask": {"mask": masks.causal() & masks.lengths(jnp.array(4))},
    "whole rows": {"mask": masks.sliding_window(2, 0), "normalizer": normalizers.sparsemax},
    "parts with loops": {"normalizer": normalizers.entmax(1.3), "score": "additive"},
    "no array varies but the query": {"mods": (mods.alibi(2),), "mask": masks.array(jnp.eye(5, dtype=bool) | True)},
}


def mesh(axis: str = "device"):
    return jax.make_mesh((2,), (axis,), axis_types=(jax.sharding.AxisType.Auto,))


def problem(name: str, implementation: str):
    """Return attention as a function of query, key, value, and a shared matrix and bias."""
    options = dict(CASES[name])
    own = options.pop("mods", ())
    block_size = None if implementation == "dense" else (2, 3)

    def call(query, key, value, w, bias):
        additive = Partial(scores.additive, w_query=w, w_key=w, v=w[0])
        score = {"score": additive if options.get("score") == "additive" else Partial(scores.general, w=w)}
        parts = {"mods": (mods.bias(bias, "h q k"), *own)} | options | score
        return attention(query, key, value, **parts, implementation=implementation, block_size=block_size)

    draw = iter(jax.random.split(jax.random.key(0), 5))
    shapes = (SHAPE, SHAPE, SHAPE, (3, 3), (2, 5, 5))
    return call, [jax.random.normal(next(draw), shape) for shape in shapes]


def total(output):
    return jnp.sin(output).sum()


PAIRS = [
    ("softmax", "streaming"),
    ("mask", "dense"),
    ("mask", "block_sparse"),
    ("whole rows", "block_sparse"),
    ("parts with loops", "dense"),
    ("no array varies but the query", "streaming"),
]


@pytest.mark.parametrize(("name", "implementation"), PAIRS)
@pytest.mark.quick("softmax-streaming", "mask-dense", "mask-block_sparse")
def test_values_and_gradients_are_those_of_one_device(name, implementation):
    call, arrays = problem(name, implementation)
    keys = P() if name == "no array varies but the query" else P("device")
    specs = P("device"), keys, keys, P(), P()
    if keys == P():  # both examples attend to the keys of the first
        arrays = [arrays[0], arrays[1][:1], arrays[2][:1], *arrays[3:]]
        alone = lambda query, key, value, *shared: call(  # noqa: E731
            query, *(jnp.concatenate([x, x]) for x in (key, value)), *shared
        )
    else:
        alone = call
    divided = jax.shard_map(call, mesh=mesh(), in_specs=specs, out_specs=P("device"))
    learned = tuple(range(5))
    result, expected = (
        jax.jit(jax.value_and_grad(lambda *x, f=f: total(f(*x)), learned))(*arrays) for f in (divided, alone)
    )
    for mine, true in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(mine, true, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_second_derivatives_and_forward_mode():
    call, arrays = problem("mask", "block_sparse")
    divided = jax.shard_map(call, mesh=mesh(), in_specs=(*[P("device")] * 3, P(), P()), out_specs=P("device"))

    def curvature(f, query):
        slope = jax.grad(lambda query: total(f(query, *arrays[1:])))
        return jax.jvp(slope, (query,), (jnp.cos(query),))[1], jax.grad(lambda query: total(slope(query)))(query)

    result, expected = (jax.jit(lambda query, f=f: curvature(f, query))(arrays[0]) for f in (divided, call))
    for mine, true in zip(result, expected, strict=True):
        np.testing.assert_allclose(mine, true, rtol=2e-4, atol=1e-5)


def test_gradients_taken_inside_and_extras():
    implementation = "streaming"
    call, arrays = problem("mask", implementation)

    def inside(query, key, value):
        slope = jax.grad(lambda query: total(call(query, key, value, *arrays[3:])))(query)
        options = {"mask": masks.causal(), "implementation": implementation, "block_size": (2, 3)}
        drop = {"dropout_rate": 0.5, "rng": jax.random.key(0)}
        return slope, attention(query, key, value, **options, **drop, returns=("lse", "key_mass", "top_k"))

    divided = jax.shard_map(inside, mesh=mesh(), in_specs=P("device"), out_specs=P("device"))
    # What is dropped depends on the number of the example, which each device counts from 0.
    halves = [jax.jit(inside)(*(x[n : n + 1] for x in arrays[:3])) for n in range(2)]
    expected = jax.tree.map(lambda *x: jnp.concatenate(x), *halves)
    for mine, true in zip(*map(jax.tree.leaves, (jax.jit(divided)(*arrays[:3]), expected)), strict=True):
        assert_close(mine, true, "float32")

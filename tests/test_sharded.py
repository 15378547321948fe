"""`mesh` divides a call among devices without changing the result."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from tolerances import assert_close

from attnlab.functional import extras, masks, mods
from attnlab.functional.attention import attention, attention_weights
from attnlab.functional.parts import map_over

SPLITS = {"key_heads": (1, 5, 2, 4), "examples": (2, 5, 1, 1), "query_heads": (1, 5, 1, 2), "queries": (1, 6, 1, 1)}
"""Examples, queries, key heads, query heads."""

pytestmark = [
    pytest.mark.skipif(len(jax.devices()) < 2, reason="one device cannot divide anything"),
    pytest.mark.optimized,
]


def mesh():
    return Mesh(np.array(jax.devices()[:2]), ("device",))


def call(split: str, implementation: str, mesh: Mesh | None):
    examples, queries, key_heads, heads = SPLITS[split]
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape))  # noqa: E731
    query, key = draw(examples, queries, heads, 3), draw(examples, 7, key_heads, 3)
    value, bias = draw(examples, 7, key_heads, 2), draw(heads, queries, 7)
    mask = masks.causal(1) & masks.lengths(jnp.arange(examples) + 4)
    drop = {"dropout_rate": 0.3, "rng": jax.random.key(1)}
    returns = ("lse", "key_mass", extras.top_k(2), "weights")

    def number(learned):
        query, key, value, bias = learned
        parts = {"mods": (mods.bias(bias, "h q k"), mods.alibi(heads)), "mask": mask}
        how = {"implementation": implementation, "block_size": (2, 3), "mesh": mesh}
        result = attention(query, key, value, **parts, **how, **drop, returns=returns)
        return jnp.sin(result.output).sum() + jnp.sin(result.key_mass).sum(), result

    slopes, result = jax.jit(jax.grad(number, has_aux=True))((query, key, value, bias))
    return result, slopes


PAIRS = [
    ("key_heads", "block_sparse"),
    ("examples", "dense"),
    ("query_heads", "streaming"),
    ("queries", "streaming"),
    *(pytest.param(*pair, marks=pytest.mark.slow) for pair in (("queries", "block_sparse"), ("queries", "dense"))),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize(("split", "implementation"), PAIRS)
@pytest.mark.quick("key_heads-block_sparse", "examples-dense", "queries-streaming")
def test_division_changes_nothing(split, implementation):
    result, expected = call(split, implementation, mesh()), call(split, "dense", None)
    for mine, true in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
        assert_close(mine, true, "float64")


def test_what_cannot_be_divided_is_refused():
    query = jnp.ones((1, 5, 1, 3))
    with pytest.raises(ValueError, match=r"1 key heads, 1 examples, 1 query heads .*, 5 queries .* 2 devices"):
        attention(query, query, query, mesh=mesh())


def test_a_part_of_its_own_for_each_head_is_divided_with_the_heads():
    query, bias = jnp.ones((1, 2, 2, 3)), jnp.arange(4.0).reshape(2, 2)
    tilt = jax.tree_util.Partial(lambda logits, positions, bias: logits + bias[None, :], bias=map_over(bias, "h"))
    value = jnp.arange(4.0).reshape(1, 2, 2, 1)
    call = lambda mesh=None: jax.jit(lambda *x: attention(*x, mods=(tilt,), mesh=mesh))(query, query, value)  # noqa: E731
    np.testing.assert_allclose(call(mesh()), call(), rtol=1e-6)


SHARDINGS = {"examples": ("device",), "queries and keys": (None, "device"), "features": (None, None, None, "device")}
EXPLICIT = [
    ("examples", "dense"),
    ("examples", "block_sparse"),
    ("queries and keys", "streaming"),
    ("features", "dense"),
]


@pytest.mark.parametrize("with_context", [True, False], ids=["set_mesh", "no context"])
@pytest.mark.parametrize(("sharding", "implementation"), EXPLICIT)
@pytest.mark.quick(
    "examples-dense-set_mesh", "examples-block_sparse-no context", "queries and keys-streaming-no context"
)
def test_inputs_of_an_explicit_mesh_are_divided_by_the_compiler(sharding, implementation, with_context):
    explicit = jax.make_mesh((2,), ("device",), axis_types=(AxisType.Explicit,), devices=jax.devices()[:2])
    spec = PartitionSpec(*SHARDINGS[sharding])
    whole = jax.random.normal(jax.random.key(0), (2, 6, 2, 4))
    bias = mods.bias(jnp.arange(36.0).reshape(6, 6) / 9, "q k")
    block_size = None if implementation == "dense" else (2, 3)
    how = {"implementation": implementation, "block_size": block_size}

    def number(query):
        parts = {"mods": (bias,), "mask": masks.causal() & masks.lengths(jnp.array(5))}
        result = attention(query, query, query, **parts, **how, returns=("weights", "key_mass", "top_k"))
        return jnp.sin(result.output).sum(), result

    call = jax.jit(jax.grad(number, has_aux=True))
    with jax.set_mesh(explicit) if with_context else contextlib.nullcontext():
        slope, result = call(jax.device_put(whole, NamedSharding(explicit, spec)))
    assert jax.typeof(result.output).sharding.spec == PartitionSpec(*spec, *[None] * (4 - len(spec)))
    assert jax.typeof(slope).sharding.spec == jax.typeof(result.output).sharding.spec
    expected = call(whole)
    for mine, true in zip(*map(jax.tree.leaves, ((slope, result), expected)), strict=True):
        np.testing.assert_allclose(mine, true, rtol=2e-5, atol=2e-6)


def test_queries_and_heads_keep_their_devices_and_an_axis_serves_once():
    explicit = jax.make_mesh((2, 1), ("one", "two"), axis_types=(AxisType.Explicit,) * 2, devices=jax.devices()[:2])
    whole = jax.random.normal(jax.random.key(0), (6, 2, 4))
    shard = lambda *spec: jax.device_put(whole, NamedSharding(explicit, PartitionSpec(*spec)))  # noqa: E731
    query, key = shard("one", "two"), shard("one")
    rows = (extras.weights(rows=[3], heads=[1]),)
    result = jax.jit(lambda q, k: (attention_weights(q, k), attention(q, k, k, returns=rows).weights))(query, key)
    assert [jax.typeof(x).sharding.spec for x in result] == [
        PartitionSpec("two", "one", None),
        PartitionSpec(*[None] * 3),
    ]
    for mine, true in zip(result, (attention_weights(whole, whole), np.asarray(result[0])[1:2, 3:4]), strict=True):
        np.testing.assert_allclose(mine, true, rtol=1e-5)

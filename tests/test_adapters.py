"""Adapters: `attention` in the attention modules of Flax, Linen and NNX."""

import doctest
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx
from flax_inputs import INPUTS, KEY, QUERY, VALUE, assert_same, draw

from attnlab.functional import masks, normalizers, scores
from attnlab.functional.attention import attention_weights
from attnlab.layers import adapters, jax_nn
from attnlab.layers.adapters import linen_attention_fn, nnx_attention_fn

TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
LENGTHS = jnp.array([4, 6])
MASKS = {
    "none": None,
    "padding": (jnp.arange(6) < LENGTHS[:, None])[:, None, None, :],
    "whole": (draw(2, 4, 5, 6, seed=3) > -0.5).at[..., 0].set(True),
    "of_floats": linen.make_attention_mask(jnp.ones((2, 5)), (jnp.arange(6) < LENGTHS[:, None]).astype(jnp.float32)),
}


def with_gradients(apply, params, *inputs):
    def loss(params, *inputs):
        output = apply(params, *inputs)
        return jnp.sum(jnp.sin(output)), output

    return jax.jit(jax.value_and_grad(loss, argnums=(0, *range(1, 1 + len(inputs))), has_aux=True))(params, *inputs)


# Linen


@pytest.mark.parametrize(("dtype", "mask"), [("float32", "of_floats"), ("float64", "none"), ("float64", "whole")])
def test_linen_module_is_the_same(x64, dtype, mask):
    options = {"num_heads": 4, "param_dtype": jnp.dtype(dtype)}
    query, source = (x.astype(dtype) for x in INPUTS.values())
    theirs = linen.MultiHeadDotProductAttention(**options)
    ours = linen.MultiHeadDotProductAttention(**options, attention_fn=linen_attention_fn())
    params = jax.jit(theirs.init)(jax.random.key(5), query, source)
    result, expected = (
        with_gradients(lambda p, q, s, m=m: m.apply(p, q, s, mask=MASKS[mask]), params, query, source)
        for m in (ours, theirs)
    )
    assert_same(result, expected, TOLERANCE[dtype])
    assert result[0][1].dtype == expected[0][1].dtype == dtype


def test_linen_sows_the_weights():
    query, source = INPUTS.values()
    theirs = linen.MultiHeadDotProductAttention(4)
    ours = linen.MultiHeadDotProductAttention(4, attention_fn=linen_attention_fn())
    params = jax.jit(theirs.init)(jax.random.key(5), query, source)
    (out, result), (expected_out, expected) = (
        jax.jit(
            lambda p, m=m: m.apply(p, query, source, mask=MASKS["padding"], sow_weights=True, mutable="intermediates")
        )(params)
        for m in (ours, theirs)
    )
    assert_same((out, result), (expected_out, expected), 1e-5)


def test_linen_decodes_with_its_cache():
    """One token at a time: Flax's cache passes keys that are not written yet, with a mask that hides them."""
    tokens = draw(2, 5, 8)
    theirs = linen.MultiHeadDotProductAttention(4, decode=True)
    ours = linen.MultiHeadDotProductAttention(4, decode=True, attention_fn=linen_attention_fn())
    variables = jax.jit(theirs.init)(jax.random.key(5), tokens)
    for module in (ours, theirs):
        state, outputs = {**variables}, []
        step = jax.jit(lambda state, token, m=module: m.apply(state, token, mutable="cache"))
        for at in range(5):
            output, new = step(state, tokens[:, at : at + 1])
            state, outputs = {**state, **new}, [*outputs, output]
        if module is ours:
            result = outputs
    assert_same(result, outputs, 1e-5)


def test_bfloat16_is_at_least_as_good():
    query, source = INPUTS.values()
    exact = linen.MultiHeadDotProductAttention(4)
    params = jax.jit(exact.init)(jax.random.key(5), query, source)
    theirs = linen.MultiHeadDotProductAttention(4, dtype=jnp.bfloat16)
    ours = linen.MultiHeadDotProductAttention(4, dtype=jnp.bfloat16, attention_fn=linen_attention_fn())
    expected, result, rival = (jax.jit(m.apply)(params, query, source) for m in (exact, ours, theirs))
    error, limit = (np.abs(np.asarray(x, np.float32) - expected).max() for x in (result, rival))
    assert result.dtype == jnp.bfloat16
    assert error <= 2 * limit


def test_parts_are_taken():
    query = INPUTS["self"]
    fn = linen_attention_fn(mask=masks.causal(), score=scores.dot, normalizer=normalizers.sparsemax)
    module = linen.MultiHeadDotProductAttention(4, attention_fn=fn)
    params = jax.jit(module.init)(jax.random.key(5), query)
    apply = jax.jit(functools.partial(module.apply, sow_weights=True, mutable="intermediates"))
    _, result = apply(params, query)
    weights = np.asarray(result["intermediates"]["attention_weights"][0])
    assert not np.triu(weights, 1).any()
    assert (weights == 0.0).sum() > np.triu(np.ones((5, 5)), 1).sum() * 8


# NNX


@pytest.mark.parametrize(("dtype", "mask", "key_heads"), [("float32", "of_floats", 4), ("float64", "padding", 2)])
def test_nnx_module_is_the_same(x64, dtype, mask, key_heads):
    query, source = (x.astype(dtype) for x in INPUTS.values())

    def module(**more):
        options = {"num_heads": 4, "in_features": 8, "num_kv_heads": key_heads, "decode": False}
        return nnx.MultiHeadAttention(**options, param_dtype=jnp.dtype(dtype), rngs=nnx.Rngs(3), **more)

    results = []
    for more in ({"attention_fn": nnx_attention_fn()}, {}):
        graph, params = nnx.split(module(**more))
        results.append(
            with_gradients(lambda p, q, s, g=graph: nnx.merge(g, p)(q, s, mask=MASKS[mask]), params, query, source)
        )
    assert_same(
        jax.tree.leaves(results[0]), jax.tree.leaves(results[1]), TOLERANCE["float32"]
    )  # theirs: softmax in f32
    assert results[0][0][1].dtype == dtype


def nnx_pair(**options):
    options = {"num_heads": 4, "in_features": 8, "decode": False, **options}
    return tuple(
        nnx.MultiHeadAttention(**options, rngs=nnx.Rngs(3), **more)
        for more in ({"attention_fn": nnx_attention_fn()}, {})
    )


@pytest.mark.parametrize("mask", [None, jnp.arange(5)[None, None, None, :] < jnp.array([3, 5])[:, None, None, None]])
def test_nnx_causal(mask):
    mask = None if mask is None else jnp.broadcast_to(mask, (2, 4, 5, 5))
    ours, theirs = nnx_pair()
    query = INPUTS["self"]
    result, expected = (nnx.jit(lambda m: m(query, mask=mask, is_causal=True))(module) for module in (ours, theirs))
    assert_same(result, expected, 1e-5)


def test_nnx_sows_the_weights():
    result, expected = (
        nnx.capture(lambda m: m(INPUTS["self"], sow_weights=True, is_causal=True), nnx.Intermediate)(module)
        for module in nnx_pair()
    )
    assert_same(jax.tree.leaves(result), jax.tree.leaves(expected), 1e-5)


def test_nnx_decodes_with_its_cache():
    tokens, outputs = draw(2, 5, 8), []
    for module in nnx_pair():
        module.init_cache((2, 5, 8))
        step = nnx.jit(lambda m, token: m(token, decode=True))
        outputs.append([step(module, tokens[:, at : at + 1]) for at in range(5)])
    assert_same(*outputs, 1e-5)


def test_the_weights_of_a_module_are_those_of_the_library():
    fn = nnx_attention_fn()
    seen = {}

    class Holder:
        def sow(self, kind, name, value):
            seen[name] = value

    fn(QUERY, KEY, VALUE, module=Holder())
    assert_same(seen["attention_weights"], attention_weights(QUERY, KEY), 1e-6)


@pytest.mark.parametrize("module", [adapters, jax_nn])
def test_examples_run(module):
    results = doctest.testmod(module)
    assert results.attempted >= 1
    assert results.failed == 0

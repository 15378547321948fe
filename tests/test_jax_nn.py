"""`jax_nn_dot_product_attention` in the place of `jax.nn.dot_product_attention`."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax_inputs import KEY, QUERY, VALUE, assert_same, draw

from attnlab.layers.jax_nn import jax_nn_dot_product_attention


def test_jax_nn_lengths_past_the_end_are_all():
    """As in jax.nn; `masks.lengths` refuses them."""
    options = {"key_value_seq_lengths": jnp.array([9, 3], jnp.int32), "query_seq_lengths": jnp.array([5, 7], jnp.int32)}
    result, expected = (
        f(QUERY, KEY, VALUE, **options) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    assert_same(result, expected, 1e-5)


def test_the_signature_is_that_of_jax_nn():
    result, expected = (
        inspect.signature(f).parameters for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    extra = [name for name in expected if name not in result]
    if jax.__version__.startswith("0.10."):
        assert not extra
    assert list(result) == [name for name in expected if name in result]
    for name in result:
        assert result[name].default == expected[name].default, f"the default of {name} changed; new arguments: {extra}"
        assert result[name].kind == expected[name].kind


LAST = jnp.array([6, 3], jnp.int32)
CASES = {
    "plain": {},
    "scale": {"scale": 0.3},
    "bias": {"bias": draw(1, 4, 5, 6, seed=3)},
    "bias_of_rank_2": {"bias": draw(5, 6, seed=3)},
    "mask": {"mask": (draw(2, 1, 5, 6, seed=4) > -0.5).at[..., 0].set(True)},
    "causal": {"is_causal": True},
    "causal_and_mask": {"is_causal": True, "mask": (draw(2, 4, 5, 6, seed=4) > -0.5).at[..., 0].set(True)},
    "lengths": {"key_value_seq_lengths": LAST},
    "window": {"local_window_size": 2},
    "window_left": {"local_window_size": (3, 0), "is_causal": True},
    "window_right": {"local_window_size": (1, 2), "scale": 1.0, "bias": draw(2, 1, 5, 6, seed=3)},
}


@pytest.mark.parametrize(("case", "key_heads"), [*((case, 2) for case in CASES), ("window_right", 1), ("bias", 4)])
@pytest.mark.quick("bias-2", "causal_and_mask-2", "lengths-2", "window_right-1")
def test_jax_nn_is_the_same(case, key_heads):
    inputs = QUERY, KEY[:, :, :key_heads], VALUE[:, :, :key_heads]

    def run(function):
        def loss(*inputs):
            output, residual = function(*inputs, **CASES[case], return_residual=True)
            return jnp.sum(jnp.sin(output)) + jnp.sum(residual), (output, residual)

        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))(*inputs)

    assert_same(run(jax_nn_dot_product_attention), run(jax.nn.dot_product_attention), 1e-5)


def test_jax_nn_without_batch():
    for options in ({}, {"key_value_seq_lengths": LAST[1:], "query_seq_lengths": LAST[1:]}):
        result, expected = (
            jax.jit(functools.partial(f, **options, return_residual=True))(QUERY[0], KEY[0], VALUE[0])
            for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
        )
        assert_same(result[0], expected[0], 1e-5)
        real = slice(None) if not options else slice(0, 3)
        assert_same(result[1][real], expected[1][real], 1e-5)


def test_jax_nn_query_lengths_give_zero():
    options = {"query_seq_lengths": jnp.array([5, 2], jnp.int32), "key_value_seq_lengths": LAST}
    result, expected = (
        f(QUERY, KEY, VALUE, **options) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention)
    )
    assert_same(result, expected, 1e-5)
    assert not result[1, 2:].any()


def test_jax_nn_differs_on_purpose_in_a_row_without_keys():
    options = {"mask": jnp.zeros((1, 1, 5, 6), bool), "return_residual": True}
    output, residual = jax_nn_dot_product_attention(QUERY, KEY, VALUE, **options)
    theirs, _ = jax.nn.dot_product_attention(QUERY, KEY, VALUE, **options)
    assert not output.any()
    assert (residual == -jnp.inf).all()
    assert_same(theirs, jnp.broadcast_to(VALUE.mean(axis=1, keepdims=True), QUERY.shape), 1e-5)


def test_jax_nn_differs_on_purpose_in_float64(x64):
    query, key, value = (draw(1, 9, 1, 4, seed=seed, dtype="float64") for seed in (0, 1, 2))
    result, theirs = (f(query, key, value) for f in (jax_nn_dot_product_attention, jax.nn.dot_product_attention))
    logits = np.einsum("btnd,bsnd->bnts", query, key) / 2.0
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    exact = np.einsum("bnts,bsnv->btnv", weights, value)
    assert_same(result, exact, 1e-12)
    assert np.abs(theirs - exact).max() > 1e-10

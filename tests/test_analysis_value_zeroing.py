"""Value zeroing against a loop over the model."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
from attention_blocks import alti, block_norms, cosine_distance, random_block, rollout, value_zeroing
from compiled import compiled


def test_cosine_distance():
    x = jnp.array([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]])
    y = jnp.array([[-3.0, 0.0], [0.0, 2.0], [1.0, 0.0], [0.0, 0.0], [7.0, 0.0]])
    np.testing.assert_allclose(cosine_distance(x, y), [2, 1 - 0.5**0.5, 0.5, 0, 0], rtol=1e-6)
    # 1 − cos of a small angle is angle²/2, which float32 loses in 1 − cos
    np.testing.assert_allclose(cosine_distance(jnp.array([[1.0, 1e-5]]), jnp.array([[1.0, 0.0]])), [5e-11], rtol=1e-4)


def test_value_zeroing_is_a_loop():
    block = random_block(6, 4, 4, norm=False)

    def layer(zeroed):
        values = jnp.where(zeroed[:, None, None], 0, block.values)
        attended = jnp.einsum("hqk,khv,hvd->qd", block.weights, values, block.output_kernel)
        return jnp.tanh(block.residual + attended)

    one = compiled(layer)
    expected, whole = np.zeros((4, 4)), one(np.zeros(4, bool)).astype("float64")
    for i, k in itertools.product(range(4), repeat=2):
        without = one(np.arange(4) == k).astype("float64")[i]
        expected[i, k] = 1 - without @ whole[i] / np.linalg.norm(without) / np.linalg.norm(whole[i])
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(value_zeroing(layer, 4), expected, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(value_zeroing(layer, 4, internal_batch_size=3), expected, rtol=1e-3, atol=1e-5)
    layers = np.stack([value_zeroing(layer, 4)] * 2)
    np.testing.assert_allclose(rollout(layers), expected @ expected, rtol=1e-3, atol=1e-5)


def test_value_zeroing_of_keys_without_influence():
    # key 0 has no part in the output, so key 1 has all of it; query 1 depends on no key
    def layer(zeroed):
        return jnp.array([[1.0, 0.0], [0.0, 1.0]]) + jnp.where(zeroed[1], 0, 1) * jnp.array([[0.0, 1.0], [0.0, 0.0]])

    result = value_zeroing(layer, 2)
    np.testing.assert_allclose(result, [[0, 1], [0, 0]], rtol=1e-6)
    valid = jnp.array([True, False])
    assert value_zeroing(layer, 2, key_valid=valid).tolist() == [[0, 0], [0, 0]]
    np.testing.assert_allclose(value_zeroing(layer, 2, query_valid=valid), [[0, 1], [0, 0]], rtol=1e-6)
    assert value_zeroing(lambda zeroed: jnp.ones((3, 2)), 0).shape == (3, 0)
    with pytest.raises(ValueError, match=r"value_zeroing: layer must return \[queries, features\]"):
        value_zeroing(lambda zeroed: jnp.ones(3), 2)


def test_value_zeroing_in_bfloat16_sees_small_changes():
    # Each key moves one feature of the output by 1/8 and 1/4, distances of about 0.008 and 0.03.
    def layer(zeroed, dtype="bfloat16"):
        moves = jnp.where(zeroed, 0.0, jnp.array([0.125, 0.25])).astype(dtype)
        return jnp.concatenate([jnp.ones(1, dtype), moves])[None]

    result = value_zeroing(layer, 2)
    assert result.dtype == "bfloat16"
    exact = value_zeroing(lambda zeroed: layer(zeroed, "float32"), 2)
    np.testing.assert_allclose(result.astype("float32"), exact, rtol=1e-2)
    assert 0.1 < float(result[0, 0]) < 0.3


def test_masks_of_another_length_are_refused():
    block = random_block(9, 3, 3)
    for method in (lambda valid: alti([block], valid=valid), lambda valid: block_norms(block, valid=valid)):
        with pytest.raises(ValueError, match=r"query_valid must be booleans \[3\]"):
            method(np.ones(2, bool))

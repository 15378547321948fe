"""Recurrent layers against loops in NumPy float64; padding leaves the state unchanged."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.layers.recurrent import Bidirectional, gru, lstm

RNG = np.random.default_rng(0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_gru_is_its_equations():
    x, h, w, b = (RNG.normal(size=s) for s in [(2, 9), (2, 3), (3, 9), (9,)])
    u = h @ w + b
    r, z = sigmoid(x[:, :3] + u[:, :3]), sigmoid(x[:, 3:6] + u[:, 3:6])
    n = np.tanh(x[:, 6:] + r * u[:, 6:])
    (result,) = gru(*(jnp.asarray(x, jnp.float32),), (jnp.asarray(h, jnp.float32),), jnp.float32(w), jnp.float32(b))
    np.testing.assert_allclose(result, (1 - z) * n + z * h, atol=1e-6)


def test_lstm_is_its_equations():
    x, h, c, w, b = (RNG.normal(size=s) for s in [(2, 12), (2, 3), (2, 3), (3, 12), (12,)])
    i, f, g, o = np.split(x + h @ w + b, 4, axis=-1)
    memory = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(g)
    state = (jnp.float32(h), jnp.float32(c))
    result = lstm(jnp.float32(x), state, jnp.float32(w), jnp.float32(b))
    np.testing.assert_allclose(result[1], memory, atol=1e-6)
    np.testing.assert_allclose(result[0], sigmoid(o) * np.tanh(memory), atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_padding_changes_nothing(kind):
    module = Bidirectional(kind, 4)
    short = jnp.asarray(RNG.normal(size=(1, 3, 5)), jnp.float32)
    padded = jnp.concatenate([short, jnp.full((1, 4, 5), 7.0)], axis=1)
    variables = module.init(jax.random.key(0), short, jnp.ones((1, 3), bool))
    outputs, last = module.apply(variables, short, jnp.ones((1, 3), bool))
    outputs_padded, last_padded = module.apply(variables, padded, jnp.arange(7)[None] < 3)
    np.testing.assert_allclose(outputs_padded[:, :3], outputs, atol=1e-6)
    np.testing.assert_allclose(last_padded, last, atol=1e-6)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_the_backward_half_is_the_forward_half_of_the_reversed_sentence(kind):
    module = Bidirectional(kind, 4)
    inputs, valid = jnp.asarray(RNG.normal(size=(2, 6, 5)), jnp.float32), jnp.ones((2, 6), bool)
    params = module.init(jax.random.key(0), inputs, valid)["params"]
    swapped = {"forward": params["backward"], "backward": params["forward"]}
    outputs, last = module.apply({"params": params}, inputs, valid)
    mirrored, last_mirrored = module.apply({"params": swapped}, inputs[:, ::-1], valid)
    np.testing.assert_allclose(jnp.roll(mirrored[:, ::-1], 4, axis=-1), outputs, atol=1e-6)
    np.testing.assert_allclose(jnp.roll(last_mirrored, 4, axis=-1), last, atol=1e-6)

"""Inputs of attention modules of Flax, and a comparison of what two of them return."""

import jax
import numpy as np


def draw(*shape: int, seed: int = 0, dtype="float32") -> jax.Array:
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def assert_same(result, expected, tolerance: float) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), result, expected)


INPUTS = {"self": draw(2, 5, 8), "source": draw(2, 6, 8, seed=1)}
QUERY, KEY, VALUE = draw(2, 5, 4, 8), draw(2, 6, 4, 8, seed=1), draw(2, 6, 4, 8, seed=2)

"""The faithfulness violation test and input invariance, by hand and on a small network."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.attribution import aggregate_features, input_x_gradient, integrated_gradients, saliency
from attnlab.analysis.faithfulness import faithfulness_violation, input_invariance

CONTRIBUTIONS = jnp.array([0.5, -0.75, 0.25])


def additive(removed):
    return jnp.where(removed, 0.0, CONTRIBUTIONS).sum(axis=1)


@pytest.mark.parametrize(
    ("attributions", "removable", "expected"),
    [
        ([0.1, 0.8, 0.1], None, 1.0),  # the largest speaks against the target
        ([0.1, -0.8, 0.1], None, 0.0),
        ([0.8, 0.1, 0.1], None, 0.0),
        ([-0.8, 0.1, 0.1], None, 1.0),
        ([0.1, 0.8, 0.1], [True, False, True], 0.0),
        ([0.0, 0.0, 0.0], None, 0.0),
        ([0.1, 0.8, 0.1], [False, False, False], np.nan),
        ([0.1, np.nan, 0.1], None, np.nan),
        ([0.1, np.nan, 0.1], [True, False, True], 0.0),
    ],
)
def test_violations_by_hand(attributions, removable, expected):
    mask = None if removable is None else jnp.array(removable)
    found = jax.jit(lambda a: faithfulness_violation(additive, a, mask))(jnp.array(attributions))
    np.testing.assert_equal(float(found), expected)


def test_the_ratio_is_a_mean_over_texts():
    attributions = jnp.array([[0.1, 0.8, 0.1], [0.8, 0.1, 0.1], [0.2, 0.3, -0.5], [0.2, -0.3, 0.1]])
    assert float(jax.vmap(lambda a: faithfulness_violation(additive, a))(attributions).mean()) == 0.5


@pytest.fixture(scope="module")
def network():
    first, second = jax.random.split(jax.random.key(0))
    weights, out = jax.random.normal(first, (4, 8)), jax.random.normal(second, (8,))
    return lambda embedded: jnp.tanh(embedded @ weights).mean(axis=0) @ out


def test_saliency_is_invariant_and_gradient_times_input_is_not(network):
    embedded, shift = jax.random.normal(jax.random.key(2), (5, 4)), jnp.array([1.0, -2.0, 0.5, 3.0])
    by_token = lambda result: aggregate_features(result.attributions)  # noqa: E731
    assert float(input_invariance(saliency, network, embedded, shift)) < 1e-5
    assert float(input_invariance(input_x_gradient, network, embedded, shift)) > 0.5
    zero = lambda score, x: by_token(integrated_gradients(score, x, baseline=jnp.zeros(4)))  # noqa: E731
    assert float(input_invariance(zero, network, embedded, shift)) > 0.5
    mean = lambda score, x: by_token(integrated_gradients(score, x, baseline=x.mean(axis=0)))  # noqa: E731
    assert float(input_invariance(mean, network, embedded, shift)) < 1e-4
    with pytest.raises(ValueError, match=r"shift must be \[4\], not \[3\]"):
        input_invariance(saliency, network, embedded, jnp.zeros(3))

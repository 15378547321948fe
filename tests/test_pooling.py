"""Pooling: each kind against its formula, independent of padding, and finite for a text of length 0."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from pydantic import TypeAdapter
from weights import drawn

from attnlab.config.models.classifier import Pooling as Config
from attnlab.layers.pooling import Pooled, Pooling, redundancy

STATES = jax.random.normal(jax.random.key(0), (3, 6, 4))
LENGTHS = jnp.array([6, 4, 1])
LAST = jax.random.normal(jax.random.key(1), (3, 4))
WAYS = [
    {"kind": "mean"}, {"kind": "max"}, {"kind": "last"}, {"kind": "first"},
    {"kind": "structured", "hops": 3, "hidden": 5, "penalty": 0.5},
    {"kind": "attention", "hops": 2, "attention": {"score": {"kind": "additive", "hidden": 5}}},
    {"kind": "attention", "attention": {"score": {"kind": "general"}, "normalizer": {"kind": "sparsemax"}}},
    {"kind": "attention", "attention": {"score": {"kind": "dot"}, "normalizer": {"kind": "gumbel_softmax"}}},
    {"kind": "attention", "attention": {"score": {"kind": "cosine"}, "normalizer": {"kind": "sigmoid"}}},
]  # fmt: skip
STRUCTURED, ADDITIVE = WAYS[4:6]
NAMES = [str([*way.values()]) for way in WAYS]


def module(way: dict) -> Pooling:
    return Pooling(TypeAdapter(Config).validate_python(way))


def pooled(way: dict, states: jax.Array = STATES, lengths: jax.Array = LENGTHS) -> tuple[Pooled, dict]:
    last = jnp.tile(LAST, (len(states) // len(LAST), 1))
    variables = drawn(partial(module(way).init, train=False), states, lengths, last)
    result = jax.jit(partial(module(way).apply, train=False))(variables, states, lengths, last)
    assert isinstance(result, Pooled)
    return result, variables.get("params", {})


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_padding_and_fillers_change_nothing(way: dict):
    hops = way.get("hops", 1)
    real = (jnp.arange(6)[None, :] < LENGTHS[:, None])[..., None]
    both = jnp.concatenate([STATES, jnp.where(real, STATES, 99.0)])
    longer = jnp.pad(both, ((0, 0), (0, 3), (0, 0)), constant_values=7.0)
    result, _ = pooled(way, longer, jnp.tile(LENGTHS, 2))
    chex.assert_shape(result.weights, (6, hops, 9))
    chex.assert_shape(result.vector, (6, 4 * hops))
    clean, dirty = (jax.tree.map(lambda a, half=half: a[half], result) for half in (slice(0, 3), slice(3, 6)))
    chex.assert_trees_all_equal(clean, dirty)
    beyond = np.arange(9)[None, None, :] >= np.array([6, 4, 1])[:, None, None]
    assert not np.asarray(clean.weights)[np.broadcast_to(beyond, (3, hops, 9))].any()


@pytest.mark.parametrize("way", WAYS, ids=NAMES)
def test_a_text_without_tokens_is_finite_with_its_gradient(way: dict):
    variables = drawn(partial(module(way).init, train=False), STATES, LENGTHS, LAST)

    def total(variables: dict, states: jax.Array) -> jax.Array:
        rngs = {"dropout": jax.random.key(3)}
        result = module(way).apply(variables, states, jnp.array([0, 4, 0]), LAST, train=True, rngs=rngs)
        assert isinstance(result, Pooled)
        return jnp.sum(result.vector) + jnp.sum(result.weights**2) + jnp.sum(result.penalty)

    value, gradients = jax.jit(jax.value_and_grad(total, argnums=(0, 1)))(variables, STATES)
    chex.assert_tree_all_finite((value, gradients))
    if way["kind"] not in ("first", "last"):
        assert not np.asarray(gradients[1][0]).any()


def test_mean_is_the_mean_and_max_the_largest():
    states = np.asarray(STATES)
    for way, expected in (("mean", [states[i, :n].mean(0) for i, n in enumerate((6, 4, 1))]),
                          ("max", [states[i, :n].max(0) for i, n in enumerate((6, 4, 1))])):  # fmt: skip
        result, _ = pooled({"kind": way})
        np.testing.assert_allclose(result.vector, expected, rtol=1e-5)
        np.testing.assert_allclose(result.weights.sum(axis=2), 1.0, rtol=1e-6)


def test_structured_is_the_paper_s_formula():
    result, params = pooled(STRUCTURED)
    w_1, w_2 = np.asarray(params["w_1"]["kernel"]).T, np.asarray(params["queries"])
    for row, length in enumerate((6, 4, 1)):
        states = np.asarray(STATES[row, :length])
        powers = np.exp(w_2 @ np.tanh(w_1 @ states.T))
        a = powers / powers.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(result.weights[row, :, :length], a, rtol=1e-5)
        np.testing.assert_allclose(result.vector[row], (a @ states).ravel(), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(result.penalty[row], 0.5 * ((a @ a.T - np.eye(3)) ** 2).sum(), rtol=1e-5)


def test_additive_is_the_formula_with_a_learned_query():
    result, params = pooled(ADDITIVE)
    score = jax.tree.map(np.asarray, params["attend"]["score"])
    query = np.asarray(params["queries"]) @ score["w_query"][0]
    states = np.asarray(STATES[0])
    hidden = np.tanh(query[:, None] + (states @ score["w_key"][0])[None])
    powers = np.exp(hidden @ score["v"])
    np.testing.assert_allclose(result.weights[0], powers / powers.sum(axis=1, keepdims=True), rtol=1e-4)


def test_hops_that_look_elsewhere_have_no_penalty():
    apart = jnp.array([[[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]]])
    alike = jnp.array([[[0.5, 0.5, 0.0], [0.5, 0.5, 0.0]]])
    assert float(redundancy(apart)[0]) == 0.0
    assert float(redundancy(alike)[0]) == pytest.approx(2 * 0.5**2 + 2 * 0.5**2)

"""Interventions: the weights that they return, on a record of a layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from attnlab.analysis import interventions
from attnlab.layers.capture import Pooled, layer_attention

NAME = "decoder/layer_1/cross_attention"
WHERE = jnp.array([[True, True, True, False], [True, True, False, False]])[:, None, None, :]


def layer(weights: jax.Array, where: jax.Array = WHERE, kind: str = "cross"):
    return layer_attention(kind, "decoder", 1, weights, pooled=Pooled(where, weights, None))  # type: ignore[arg-type]


@pytest.fixture
def weights() -> jax.Array:
    """Two examples, two heads, three queries, four keys; rows sum to 1."""
    drawn = jnp.where(WHERE, jax.random.uniform(jax.random.key(0), (2, 2, 3, 4), minval=0.1), 0.0)
    return drawn / drawn.sum(axis=-1, keepdims=True)


def test_uniform_weights_are_equal_where_a_query_may_attend(weights):
    np.testing.assert_allclose(interventions.uniform(layer(weights), 0)[0, 1], [[1 / 3, 1 / 3, 1 / 3, 0]] * 3)
    np.testing.assert_allclose(interventions.uniform(layer(weights), 0)[1, 0], [[0.5, 0.5, 0, 0]] * 3)


def test_uniform_weights_of_a_fully_masked_query_are_0(weights):
    assert not np.any(interventions.uniform(layer(weights, jnp.zeros((2, 1, 1, 4), bool)), 0))


def test_permuted_weights_have_the_same_values_where_a_query_may_attend(weights):
    permute = jax.jit(lambda rng: interventions.permuted(layer(weights), 0, rng=rng))
    orders = [np.asarray(permute(jax.random.key(seed))) for seed in range(40)]
    for permuted in orders:
        np.testing.assert_array_equal(np.sort(permuted, axis=-1), np.sort(weights, axis=-1))
        assert not np.any(permuted[~np.broadcast_to(WHERE, permuted.shape)])
    of_one_row = {tuple(np.argsort(permuted[0, 0, 0, :3])) for permuted in orders}
    assert len(of_one_row) == 6, "every order of three keys is drawn"
    ranks = np.stack([np.argsort(permuted[0, :, :, :3], axis=-1) for permuted in orders])
    assert not np.array_equal(ranks[:, 0], ranks[:, 1]), "heads draw on their own"
    assert not np.array_equal(ranks[:, :, 0], ranks[:, :, 1]), "queries draw on their own"


def test_a_decoder_that_computes_one_query_at_a_time_draws_an_order_for_each(weights):
    same = jnp.broadcast_to(weights[:, :, :1], weights.shape)
    rows = [
        interventions.permuted(layer(same[:, :, :1]), start, rng=jax.random.key(1))[0, 0, 0, :3] for start in range(12)
    ]
    assert len({tuple(np.argsort(row)) for row in rows}) > 1


def test_given_weights_are_taken_by_name_and_query(weights):
    own, other = layer(weights[:, :, :1]), jnp.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4)
    chosen = interventions.given(own, 2, weights={NAME: other})
    np.testing.assert_array_equal(chosen, other[:, :, 2:])
    np.testing.assert_array_equal(interventions.given(own, 0, weights={"encoder": other}), own.weights)


@pytest.mark.parametrize("shape", [(2, 2, 3, 5), (2, 1, 3, 4), (1, 2, 3, 4), (2, 2, 2, 4), (2, 2, 4)])
def test_given_weights_that_do_not_fit_are_refused(weights, shape):
    with pytest.raises(ValueError, match=f"{NAME}.*2, 2, 3, 4"):
        interventions.given(layer(weights), 0, weights={NAME: jnp.zeros(shape)})


def test_shifted_weights_have_the_gradient_with_respect_to_the_weights(weights):
    def total(by):
        return jnp.sum(interventions.shifted(layer(weights), 0, by={NAME: by}) ** 2)

    np.testing.assert_allclose(jax.grad(total)(jnp.zeros_like(weights)), 2 * weights, rtol=1e-6)


def test_gates_switch_heads_off(weights):
    gated = interventions.gated(layer(weights), 0, gates={NAME: jnp.array([0.0, 0.5])})
    assert not np.any(gated[:, 0])
    np.testing.assert_allclose(gated[:, 1], 0.5 * weights[:, 1])


def test_an_averaged_head_has_its_mean_output_for_all_queries(weights):
    value = jax.random.normal(jax.random.key(2), (2, 4, 5))
    averaged = interventions.averaged(layer(weights), 0, heads={NAME: jnp.array([True, False])})
    outputs = jnp.einsum("bhqk,bkv->bhqv", averaged, value)
    before = jnp.einsum("bhqk,bkv->bhqv", weights, value)
    np.testing.assert_allclose(
        outputs[:, 0], jnp.broadcast_to(before[:, 0].mean(1, keepdims=True), (2, 3, 5)), atol=1e-6
    )
    np.testing.assert_array_equal(outputs[:, 1], before[:, 1])


def test_the_mean_leaves_out_queries_that_attend_to_nothing(weights):
    where = jnp.broadcast_to(WHERE, (2, 1, 3, 4)).at[:, :, 2].set(False)
    averaged = interventions.averaged(
        layer(jnp.where(where, weights, 0.0), where), 0, heads={NAME: jnp.array([True, True])}
    )
    np.testing.assert_allclose(averaged[:, :, 0], weights[:, :, :2].mean(axis=2), rtol=1e-6)
    assert not np.any(averaged[:, :, 2])


def test_a_recurrent_decoder_knows_no_mean(weights):
    record = layer(weights, kind="decoder")
    with pytest.raises(ValueError, match="gated"):
        interventions.averaged(record, 0, heads={record.name: jnp.array([True, True])})


def test_an_intervention_can_be_restricted_to_layers(weights):
    restricted = jax.jit(lambda intervene, weights: intervene(layer(weights), 0))
    np.testing.assert_array_equal(restricted(interventions.only(interventions.uniform, ["encoder"]), weights), weights)
    permute = Partial(interventions.permuted, rng=jax.random.key(0))
    expected = interventions.permuted(layer(weights), 0, rng=jax.random.key(0))
    np.testing.assert_array_equal(restricted(interventions.only(permute, [NAME]), weights), expected)


def test_masked_keys_have_no_weight_and_rows_keep_their_sum(weights):
    removed = jnp.array([True, False, False, False])
    masked = interventions.masked(layer(weights), 0, removed={NAME: removed})
    assert not np.any(masked[..., 0])
    np.testing.assert_allclose(masked.sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(masked[0, 0, 0, 1:], weights[0, 0, 0, 1:] / weights[0, 0, 0, 1:].sum(), rtol=1e-6)
    np.testing.assert_array_equal(interventions.masked(layer(weights), 0, removed={"encoder": removed}), weights)
    assert not np.any(interventions.masked(layer(weights), 0, removed={NAME: jnp.ones(4, bool)}))

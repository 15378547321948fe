"""Interventions: the weights that they return, on a record of a layer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import interventions
from attnlab.layers.capture import Queries
from attnlab.layers.layer_attention import PoolingInputs, layer_attention

ALL = Queries(0, 3)
NAME = "decoder/layer_1/cross_attention"
WHERE = jnp.array([[True, True, True, False], [True, True, False, False]])[:, None, None, :]


def layer(weights: jax.Array, where: jax.Array = WHERE, kind: str = "cross"):
    return layer_attention(kind, "decoder", 1, weights, pooled=PoolingInputs(where, weights, None))  # type: ignore[arg-type]


@pytest.fixture
def weights() -> jax.Array:
    """Two examples, two heads, three queries, four keys; rows sum to 1."""
    drawn = jnp.where(WHERE, jax.random.uniform(jax.random.key(0), (2, 2, 3, 4), minval=0.1), 0.0)
    return drawn / drawn.sum(axis=-1, keepdims=True)


def test_uniform_weights_are_equal_where_a_query_may_attend(weights):
    np.testing.assert_allclose(interventions.uniform(layer(weights), ALL)[0, 1], [[1 / 3, 1 / 3, 1 / 3, 0]] * 3)
    np.testing.assert_allclose(interventions.uniform(layer(weights), ALL)[1, 0], [[0.5, 0.5, 0, 0]] * 3)


def test_uniform_weights_of_a_fully_masked_query_are_0(weights):
    assert not np.any(interventions.uniform(layer(weights, jnp.zeros((2, 1, 1, 4), bool)), ALL))


def test_permuted_weights_have_the_same_values_where_a_query_may_attend(weights):
    permute = jax.jit(lambda rng: interventions.permuted(layer(weights), ALL, rng=rng))
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
        interventions.permuted(layer(same[:, :, :1]), Queries(start, 12), rng=jax.random.key(1))[0, 0, 0, :3]
        for start in range(12)
    ]
    assert len({tuple(np.argsort(row)) for row in rows}) > 1


def test_given_weights_are_taken_by_query(weights):
    own, other = layer(weights[:, :, :1]), jnp.arange(2 * 2 * 3 * 4.0).reshape(2, 2, 3, 4)
    np.testing.assert_array_equal(interventions.given(own, Queries(2, 1), weights=other), other[:, :, 2:])
    assert np.isnan(interventions.given(own, Queries(3, 1), weights=other)).all()


@pytest.mark.parametrize("shape", [(2, 2, 3, 5), (2, 1, 3, 4), (1, 2, 3, 4), (2, 2, 2, 4)])
def test_arrays_that_do_not_fit_are_refused(weights, shape):
    with pytest.raises(ValueError, match=rf"weights of {NAME}.*\(2, 2, 3, 4\)"):
        interventions.given(layer(weights), ALL, weights=jnp.zeros(shape))
    with pytest.raises(ValueError, match=rf"by of {NAME}.*\(2, 2, 3, 4\)"):
        interventions.shifted(layer(weights), ALL, by=jnp.zeros(shape))
    with pytest.raises(ValueError, match=r"\(2, 2, 5, 4\)"):  # a decoder that will compute five queries, one at a time
        interventions.given(layer(weights[:, :, :1]), Queries(0, 5), weights=weights)


def test_shifted_weights_have_the_gradient_with_respect_to_the_weights(weights):
    def total(by):
        return jnp.sum(interventions.shifted(layer(weights), ALL, by=by) ** 2)

    np.testing.assert_allclose(jax.grad(total)(jnp.zeros_like(weights)), 2 * weights, rtol=1e-6)


def test_gates_switch_heads_off(weights):
    gated = interventions.gated(layer(weights), ALL, gates=jnp.array([0.0, 0.5]))
    assert not np.any(gated[:, 0])
    np.testing.assert_allclose(gated[:, 1], 0.5 * weights[:, 1])
    np.testing.assert_array_equal(interventions.gated(layer(weights), ALL, gates=jnp.ones(2)), weights)
    with pytest.raises(ValueError, match=r"gates.*each of 2 heads, not"):
        interventions.gated(layer(weights), ALL, gates=jnp.ones(3))


def test_a_replaced_head_has_the_mean_that_is_given(weights):
    # Two heads share one head of values.
    value = jax.random.normal(jax.random.key(2), (2, 4, 1, 5))
    record = layer_attention("cross", "decoder", 1, weights, pooled=PoolingInputs(WHERE, weights, value))
    mean = jnp.arange(10.0).reshape(2, 5)
    replaced = interventions.replaced_by_mean(record, ALL, gates=jnp.array([0.0, 1.0]), mean=mean)
    np.testing.assert_allclose(replaced.output[:, :, 0], jnp.broadcast_to(mean[0], (2, 3, 5)))
    np.testing.assert_array_equal(replaced.output[:, :, 1], interventions.head_outputs(record)[:, :, 1])
    half = interventions.replaced_by_mean(record, ALL, gates=jnp.array([0.25, 1.0]), mean=mean).output
    own = jnp.einsum("bqk,bkv->bqv", weights[:, 0], value[:, :, 0])
    np.testing.assert_allclose(half[:, :, 0], 0.25 * own + 0.75 * mean[0], rtol=1e-5)
    with pytest.raises(ValueError, match=r"mean.*\(2, 5\), not \(2, 4\)"):
        interventions.replaced_by_mean(record, ALL, gates=jnp.ones(2), mean=mean[:, :4])


def test_the_mask_of_a_record_leaves_out_queries_that_are_padding(weights):
    where = interventions.allowed(layer(weights), jnp.array([3, 1]))
    assert where.shape == weights.shape
    np.testing.assert_array_equal(where[0], np.broadcast_to(WHERE[0], (2, 3, 4)))
    np.testing.assert_array_equal(where[1, 0], [[True, True, False, False], [False] * 4, [False] * 4])
    with pytest.raises(ValueError, match="details=True"):
        interventions.allowed(layer_attention("cross", "decoder", 1, weights))


def test_masked_keys_have_no_weight_and_rows_keep_their_sum(weights):
    removed = jnp.array([True, False, False, False])
    masked = interventions.masked(layer(weights), ALL, removed=removed)
    assert not np.any(masked[..., 0])
    np.testing.assert_allclose(masked.sum(axis=-1), 1.0, rtol=1e-6)
    np.testing.assert_allclose(masked[0, 0, 0, 1:], weights[0, 0, 0, 1:] / weights[0, 0, 0, 1:].sum(), rtol=1e-6)
    assert not np.any(interventions.masked(layer(weights), ALL, removed=jnp.ones(4, bool)))

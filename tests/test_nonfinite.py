"""Masked keys and values have no influence: fully masked rows, NaN and Inf, weights, and alignment of causal masks."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import MASKS, NORMALIZERS, POSITIVE, SCORES, SMALL, Problem
from rows import problem as draw_problem
from samples import BY_NAME, solve

from attnlab.functional import masks
from attnlab.functional.attention import attention
from attnlab.functional.backends import BACKENDS

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
every_implementation = pytest.mark.parametrize("implementation", BACKENDS)


def gradient(this: Problem, mask, implementation, rows=slice(None)):
    """Return the compiled gradient of a number computed from the output and the finite extras of some queries."""

    def number(inputs, params):
        options = this.options() | {"score": this.bind(params), "mask": mask}
        result = attention(*inputs, **options, returns=("weights", "lse", "entropy"), implementation=implementation)
        lse = result.lse[..., rows]
        extras = [result.weights[..., rows, :] ** 2, result.entropy[..., rows], jnp.where(jnp.isfinite(lse), lse, 0.0)]
        total = jnp.sin(result.output[..., rows, :, :]).sum() + sum(extra.sum() for extra in extras)
        return total, result

    both = jax.jit(jax.grad(number, argnums=(0, 1), has_aux=True))
    return lambda inputs: both(inputs, this.params)


def same(score: str):
    """Return the comparison of results: of their bits, but for distances, whose origin is the median of all keys."""
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-6)
    return close if score == "distance" else np.testing.assert_array_equal


FEW = [("scaled_dot", "softmax"), ("additive", "entmax15")]
MANY = [(s.name, "softmax") for s in SCORES] + [("scaled_dot", n) for n in NORMALIZERS]
few_and_many = pytest.mark.parametrize(
    ("score", "normalizer"),
    [*FEW, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in MANY if pair not in FEW)],
)


@every_implementation
@few_and_many
@pytest.mark.quick("scaled_dot-softmax-dense", "additive-entmax15-streaming", "scaled_dot-softmax-block_sparse")
def test_an_empty_row_is_zero_with_finite_gradients(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], normalizer=normalizer)
    where = jnp.ones((SMALL.T, SMALL.S), bool).at[1].set(False)
    mask = masks.array(where) & masks.lengths(jnp.array([SMALL.S, 0, 2]))
    slopes, result = gradient(this, mask, implementation)(this.inputs)
    empty = {"output": result.output[:, 1], "weights": result.weights[:, :, 1], "entropy": result.entropy[:, :, 1]}
    empty |= {"all output": result.output[1], "all weights": result.weights[1]}
    assert all((x == 0.0).all() for x in empty.values())
    assert (result.lse[:, :, 1] == -jnp.inf).all()
    assert (result.lse[1] == -jnp.inf).all()
    if normalizer in POSITIVE:
        assert (result.weights[0, :, 0] > 0.0).all()
    chex.assert_tree_all_finite(slopes)
    by_query, by_key, by_value = slopes[0]
    for unseen in (by_query[:, 1], by_query[1], by_key[1], by_value[1]):
        assert not unseen.any()


@every_implementation
@few_and_many
@pytest.mark.quick("scaled_dot-softmax-dense", "additive-entmax15-streaming", "scaled_dot-softmax-block_sparse")
def test_nan_behind_the_mask_reaches_nothing(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], normalizer=normalizer)
    real = jnp.array([4, 0, SMALL.S])
    padding = (jnp.arange(SMALL.S)[None, :] >= real[:, None])[:, :, None, None]
    query, key, value = this.inputs
    call = gradient(this, masks.lengths(real), implementation)
    clean_slopes, clean = call(this.inputs)
    for poison in (np.nan, np.inf, -np.inf):
        bad_key, bad_value = jnp.where(padding, poison, key), jnp.where(padding, poison, value)
        for inputs in [(query, bad_key, value), (query, key, bad_value), (query, bad_key, bad_value)]:
            slopes, result = call(inputs)
            jax.tree.map(same(score), result, clean)
            chex.assert_tree_all_finite(slopes)
            chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
@few_and_many
@pytest.mark.quick("scaled_dot-softmax-dense", "additive-entmax15-streaming", "scaled_dot-softmax-block_sparse")
def test_nan_reaches_only_the_queries_that_may_attend_to_it(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], normalizer=normalizer)
    mask, first = masks.causal("upper_left"), 3
    query, key, value = this.inputs
    call = gradient(this, mask, implementation, slice(first))
    clean_slopes, clean = call(this.inputs)
    for place in ("value",) if score == "constant" else ("key", "value"):  # constant does not look at keys
        bad = {"key": key, "value": value}
        bad[place] = bad[place].at[:, first].set(jnp.nan)
        slopes, spoiled = call((query, bad["key"], bad["value"]))
        same(score)(spoiled.output[:, :first], clean.output[:, :first])
        assert jnp.isnan(spoiled.output[:, first:]).all()
        assert jnp.isnan(spoiled.weights[:, :, first:]).all() == (place == "key")
        chex.assert_tree_all_finite(slopes)
        chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
def test_a_nan_query_makes_only_its_own_row_nan_unless_it_is_fully_masked(implementation):
    this = draw_problem(BY_NAME["general"])
    mask = masks.lengths(SMALL.S, queries=jnp.array([2, 5, 5]))
    query, key, value = this.inputs
    call = gradient(this, mask, implementation, slice(3))
    clean_slopes, clean = call(this.inputs)
    slopes, result = call((query.at[0, 2:].set(jnp.nan), key, value))
    jax.tree.map(np.testing.assert_array_equal, result, clean)
    chex.assert_tree_all_finite(slopes)
    slopes, result = call((query.at[1, 4, 2].set(jnp.inf), key, value))
    assert jnp.isnan(result.output[1, 4, 2]).all()
    spoiled = jnp.isnan(result.output).any(axis=-1)
    assert spoiled.sum() == 1
    np.testing.assert_array_equal(result.output[~spoiled], clean.output[~spoiled])
    chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
@pytest.mark.parametrize(
    "mask", ["composed", *(pytest.param(m, marks=pytest.mark.slow) for m in MASKS if m != "composed")]
)
def test_a_masked_weight_is_exactly_zero(mask, implementation):
    this = draw_problem(BY_NAME["scaled_dot"], mask=mask)
    result = solve(this, implementation=implementation, block_size=(2, 3))
    np.testing.assert_array_equal(result.weights == 0.0, this.expected()["weights"] == 0.0)


@every_implementation
def test_causal_of_unequal_lengths_needs_an_alignment(implementation):
    this = draw_problem(BY_NAME["scaled_dot"])
    with pytest.raises(ValueError, match="5 queries and 6 keys need an alignment"):
        solve(this, mask=masks.causal(), implementation=implementation)

"""The laws of attention, each checked on every part (rows.py) against the oracle (oracle.py, tolerances.py)."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from absl.testing import parameterized
from jax.test_util import check_grads
from rows import MASKS, MODS, NORMALIZERS, NOT_A_DERIVATIVE, POSITIVE, SCORES, SIZES, SMALL, Problem, problem
from tolerances import assert_close

from attnlab.functional import masks
from attnlab.functional.attention import FIELDS, IMPLEMENTATIONS, attention, attention_weights, pool
from attnlab.functional.parts import as_part

pytestmark = pytest.mark.usefixtures("strict")
every_score = pytest.mark.parametrize("score", SCORES, ids=str)
every_size = pytest.mark.parametrize("size", SIZES, ids=str)
every_mask = pytest.mark.parametrize("mask", MASKS)
every_normalizer = pytest.mark.parametrize("normalizer", NORMALIZERS)
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
scaled_dot = SCORES[1]
additive = SCORES[3]
general = SCORES[2]


def solver(drawn: Problem, returns=FIELDS, **changes):
    """`attention` of this problem's parts as a compiled function of its inputs."""
    return jax.jit(lambda inputs: attention(*inputs, **drawn.options() | changes, returns=returns))


def solve(drawn: Problem, inputs=None, returns=FIELDS, **changes):
    return solver(drawn, returns, **changes)(drawn.inputs if inputs is None else inputs)


def assert_is_oracle(drawn: Problem, implementation: str, dtype: str) -> None:
    found, expected = solve(drawn, implementation=implementation), drawn.expected()
    assert found.output.dtype == dtype
    for name in ("output", *FIELDS):
        assert_close(getattr(found, name), expected[name], dtype)


# The values are right


@every_implementation
@pytest.mark.parametrize("size", [SMALL, SIZES[4]], ids=str)
@every_score
def test_equals_the_oracle(score, size, implementation):
    assert_is_oracle(problem(score, size, dtype="float32"), implementation, "float32")


@every_implementation
@every_size
@every_score
def test_equals_the_oracle_in_float64(score, size, implementation, x64):
    assert_is_oracle(problem(score, size, dtype="float64"), implementation, "float64")


@every_implementation
@pytest.mark.parametrize("size", [*SIZES[:4:3], SIZES[1]], ids=str)
@every_mask
def test_every_mask_equals_the_oracle(mask, size, implementation, x64):
    assert_is_oracle(problem(scaled_dot, size, mask, dtype="float64"), implementation, "float64")


@every_implementation
@pytest.mark.parametrize("size", [SMALL, SIZES[4]], ids=str)
@every_normalizer
def test_every_normalizer_equals_the_oracle(normalizer, size, implementation, x64):
    drawn = problem(scaled_dot, size, "array_b_h_q_k", normalizer=normalizer, dtype="float64")
    assert_is_oracle(drawn, implementation, "float64")


@every_implementation
@pytest.mark.parametrize("mods", MODS)
@every_score
def test_mods_come_after_the_score_from_left_to_right(score, mods, implementation, x64):
    assert_is_oracle(problem(score, mods=mods, dtype="float64"), implementation, "float64")


@every_implementation
@every_score
def test_each_head_may_have_its_own_parameters(score, implementation, x64):
    assert_is_oracle(problem(score, dtype="float64", each_head=True), implementation, "float64")


@every_implementation
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@every_score
def test_low_precision_is_accumulated_in_float32(score, dtype, implementation):
    drawn = problem(score, dtype=dtype)
    found, expected = solve(drawn, implementation=implementation), drawn.expected()
    assert_close(found.output, expected["output"], dtype)
    assert found.output.dtype == dtype
    for name in FIELDS:
        assert getattr(found, name).dtype == jnp.float32
        assert_close(getattr(found, name), expected[name], "float32")


# One call is as good as another


class TestVariants(chex.TestCase):
    """Compiled or not, from the host's arrays or the device's: the same numbers."""

    @chex.variants(with_jit=True, without_jit=True, with_device=True)
    @parameterized.product(score=[scaled_dot, additive], implementation=list(IMPLEMENTATIONS))
    def test_every_variant_equals_the_oracle(self, score, implementation):
        drawn = problem(score)
        call = self.variant(lambda q, k, v: attention(q, k, v, **drawn.options(), implementation=implementation))
        assert_close(call(*drawn.inputs), drawn.expected()["output"], "float32")


@every_implementation
@every_score
def test_vmap_equals_the_batched_call_and_the_loop(score, implementation, x64):
    drawn = problem(score, mask="lengths", dtype="float64")

    @jax.jit
    def one(query, key, value, mask):
        return attention(query, key, value, **drawn.options() | {"mask": mask}, implementation=implementation)

    together = one(*drawn.inputs, drawn.mask)
    mapped = jax.jit(jax.vmap(one))(*drawn.inputs, drawn.mask)
    loop = [one(*(x[b] for x in drawn.inputs), jax.tree.map(lambda x: x[b], drawn.mask)) for b in range(3)]  # noqa: B023
    assert_close(mapped, together, "float64")
    assert_close(jnp.stack(loop), together, "float64")


@every_implementation
@every_score
def test_returns_change_no_bit_of_the_output(score, implementation):
    drawn = problem(score, SIZES[4], "lengths")
    plain = solve(drawn, returns=(), implementation=implementation)
    for names in [("weights",), ("lse", "entropy"), FIELDS]:
        extra = solve(drawn, returns=names, implementation=implementation)
        np.testing.assert_array_equal(plain, extra.output)
        assert {name for name in FIELDS if getattr(extra, name) is not None} == set(names)


@every_score
def test_pool_of_weights_is_attention(score, x64):
    drawn = problem(score, dtype="float64")
    query, key, value = drawn.inputs
    weights = attention_weights(query, key, **drawn.options())
    assert_close(pool(weights, value), solve(drawn, returns=()), "float64")


@every_implementation
@every_score
def test_the_order_of_keys_does_not_matter(score, implementation, x64):
    drawn = problem(score, mask="array_b_h_q_k", dtype="float64")
    order = np.random.default_rng(0).permutation(SMALL.S)
    query, key, value = drawn.inputs
    mask = masks.array(drawn.mask.where[..., order], "b h q k")
    shuffled = solve(drawn, (query, key[:, order], value[:, order]), mask=mask, implementation=implementation)
    straight = solve(drawn, implementation=implementation)
    assert_close(shuffled.output, straight.output, "float64")
    assert_close(shuffled.weights, straight.weights[..., order], "float64")
    assert_close(shuffled.lse, straight.lse, "float64")


@every_implementation
@every_score
def test_parts_of_the_keys_merge_by_their_lse(score, implementation, x64):
    drawn = problem(score, mask="array_b_k", dtype="float64")
    query, key, value = drawn.inputs
    whole = solve(drawn, implementation=implementation)
    parts = []
    for keys in (slice(0, 2), slice(2, None)):
        mask = masks.array(drawn.mask.where[:, keys], "b k")
        parts.append(solve(drawn, (query, key[:, keys], value[:, keys]), mask=mask, implementation=implementation))
    lse = jnp.logaddexp(parts[0].lse, parts[1].lse)
    shares = [jnp.where(lse == -jnp.inf, 0.0, jnp.exp(part.lse - lse)) for part in parts]
    merged = sum(jnp.moveaxis(share, 1, 2)[..., None] * part.output for share, part in zip(shares, parts, strict=True))
    assert_close(lse, whole.lse, "float64")
    assert_close(merged, whole.output, "float64")


@every_implementation
def test_new_lengths_compile_nothing_anew(implementation):
    drawn = problem(additive)
    jax.clear_caches()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def call(inputs, mask):
        return attention(*inputs, **drawn.options() | {"mask": mask}, implementation=implementation)

    outputs = [call(drawn.inputs, masks.lengths(jnp.array([n, 2, 3]))) for n in range(3)]
    assert not np.array_equal(outputs[1], outputs[2])


# What is masked is not there


def gradient(drawn: Problem, mask, implementation, rows=slice(None)):
    """Of a number made of the output and the finite extras of these queries: a compiled function of the inputs."""

    def number(inputs, params):
        options = drawn.options() | {"score": drawn.bind(params), "mask": mask}
        found = attention(*inputs, **options, returns=("weights", "lse", "entropy"), implementation=implementation)
        lse = found.lse[..., rows]
        extras = [found.weights[..., rows, :] ** 2, found.entropy[..., rows], jnp.where(jnp.isfinite(lse), lse, 0.0)]
        return jnp.sin(found.output[..., rows, :, :]).sum() + sum(extra.sum() for extra in extras)

    by_inputs_and_params = jax.jit(jax.grad(number, argnums=(0, 1)))
    return lambda inputs: by_inputs_and_params(inputs, drawn.params)


@every_implementation
@pytest.mark.parametrize(
    ("score", "normalizer"), [(s, "softmax") for s in SCORES] + [(scaled_dot, n) for n in NORMALIZERS], ids=str
)
def test_an_empty_row_is_zero_with_finite_gradients(score, normalizer, implementation):
    drawn = problem(score, normalizer=normalizer)
    where = jnp.ones((SMALL.T, SMALL.S), bool).at[1].set(False)
    mask = masks.array(where) & masks.lengths(jnp.array([SMALL.S, 0, 2]))
    found = solve(drawn, mask=mask, implementation=implementation)
    empty = {"output": found.output[:, 1], "weights": found.weights[:, :, 1], "entropy": found.entropy[:, :, 1]}
    empty |= {"all output": found.output[1], "all weights": found.weights[1]}
    assert all((x == 0.0).all() for x in empty.values())
    assert (found.lse[:, :, 1] == -jnp.inf).all()
    assert (found.lse[1] == -jnp.inf).all()
    if normalizer in POSITIVE:
        assert (found.weights[0, :, 0] > 0.0).all()
    found_gradients = gradient(drawn, mask, implementation)(drawn.inputs)
    chex.assert_tree_all_finite(found_gradients)
    by_query, by_key, by_value = found_gradients[0]
    for unseen in (by_query[:, 1], by_query[1], by_key[1], by_value[1]):
        assert not unseen.any()


@every_implementation
@every_mask
def test_a_masked_weight_is_exactly_zero(mask, implementation):
    drawn = problem(scaled_dot, mask=mask)
    found, expected = solve(drawn, implementation=implementation), drawn.expected()
    np.testing.assert_array_equal(found.weights == 0.0, expected["weights"] == 0.0)


@every_implementation
@every_score
def test_nan_behind_the_mask_reaches_nothing(score, implementation):
    drawn = problem(score)
    real = jnp.array([4, 0, SMALL.S])
    padding = (jnp.arange(SMALL.S)[None, :] >= real[:, None])[:, :, None, None]
    query, key, value = drawn.inputs
    call = solver(drawn, mask=masks.lengths(real), implementation=implementation)
    slope = gradient(drawn, masks.lengths(real), implementation)
    clean, clean_slope = call(drawn.inputs), slope(drawn.inputs)
    for poison in (np.nan, np.inf, -np.inf):
        bad_key, bad_value = jnp.where(padding, poison, key), jnp.where(padding, poison, value)
        for inputs in [(query, bad_key, value), (query, key, bad_value), (query, bad_key, bad_value)]:
            jax.tree.map(np.testing.assert_array_equal, call(inputs), clean)
            chex.assert_tree_all_finite(slope(inputs))
            chex.assert_trees_all_close(slope(inputs), clean_slope, rtol=1e-5, atol=1e-6)


@every_implementation
@every_score
def test_nan_reaches_the_queries_that_may_see_it_and_no_other(score, implementation):
    drawn = problem(score)
    mask, first = masks.causal("upper_left"), 3
    query, key, value = drawn.inputs
    call = solver(drawn, mask=mask, implementation=implementation)
    slope = gradient(drawn, mask, implementation, slice(first))
    clean, clean_slope = call(drawn.inputs), slope(drawn.inputs)
    for place in ("key", "value"):
        bad = {"key": key, "value": value}
        bad[place] = bad[place].at[:, first].set(jnp.nan)
        inputs = (query, bad["key"], bad["value"])
        spoiled = call(inputs)
        np.testing.assert_array_equal(spoiled.output[:, :first], clean.output[:, :first])
        assert jnp.isnan(spoiled.output[:, first:]).all()
        assert jnp.isnan(spoiled.weights[:, :, first:]).all() == (place == "key")
        chex.assert_tree_all_finite(slope(inputs))
        chex.assert_trees_all_close(slope(inputs), clean_slope, rtol=1e-5, atol=1e-6)


@every_implementation
def test_a_query_that_sees_nothing_may_be_nan(implementation):
    drawn = problem(general)
    mask = masks.lengths(SMALL.S, queries=jnp.array([2, 5, 5]))
    query, key, value = drawn.inputs
    bad = (query.at[0, 2:].set(jnp.nan), key, value)
    call = solver(drawn, mask=mask, implementation=implementation)
    np.testing.assert_array_equal(call(bad).output, call(drawn.inputs).output)
    chex.assert_tree_all_finite(gradient(drawn, mask, implementation)(bad))


# It differentiates


FINITE_DIFFERENCES = {"order": 2, "modes": ("fwd", "rev"), "eps": 1e-5, "rtol": 1e-6, "atol": 1e-6}


@every_implementation
@every_score
def test_differentiates_twice_forward_and_reverse(score, implementation, x64):
    drawn = problem(score, SIZES[1], dtype="float64")

    @jax.jit
    def number(inputs, params):
        options = drawn.options() | {"score": drawn.bind(params)}
        found = attention(*inputs, **options, returns=FIELDS, implementation=implementation)
        return sum(jnp.sum(jnp.sin(jnp.where(jnp.isfinite(x), x, 0.0))) for x in found)

    check_grads(number, (drawn.inputs, drawn.params), **FINITE_DIFFERENCES)


@every_implementation
@pytest.mark.parametrize(
    ("mods", "normalizer"),
    [(m, "softmax") for m in MODS] + [("no_mods", n) for n in NORMALIZERS if n not in (*NOT_A_DERIVATIVE, "softmax")],
)
def test_mods_and_normalizers_differentiate(mods, normalizer, implementation, x64):
    drawn = problem(scaled_dot, SIZES[3], mods=mods, normalizer=normalizer, dtype="float64")

    @jax.jit
    def number(inputs, mods):
        found = attention(*inputs, **drawn.options() | {"mods": mods}, implementation=implementation)
        return jnp.sum(jnp.sin(found))

    learned = tuple(as_part(mod) for mod in drawn.mods)
    check_grads(number, (drawn.inputs, learned), **FINITE_DIFFERENCES)

"""Linear attention: every rule and form against the oracle, and the laws that all of them keep."""

from functools import partial
from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import oracle_linear as oracle
import pytest
from jax.test_util import check_grads
from jax.tree_util import Partial
from tolerances import assert_close

from attnlab import linear, linear_attention
from attnlab.functional.linear import forms
from attnlab.functional.parts import map_over

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
TOKENS, FEATURES, WIDTH = 7, 3, 2
RULES = {
    "sum_rule": linear.sum_rule,
    "not normalized": partial(linear.sum_rule, normalized=False),
    "retention": linear.retention,
    "gated": linear.gated,
    "gated by feature": linear.gated,
    "normalized gated": partial(linear.gated, normalized=True),
    "delta_rule": linear.delta_rule,
    "gated_delta_rule": linear.gated_delta_rule,
    "gated_delta_rule by feature": linear.gated_delta_rule,
}
NORMALIZED = ("sum_rule", "normalized gated")
ORDERED = [name for name in RULES if name not in ("sum_rule", "not normalized")]
FORMS = {
    "recurrent": forms.recurrent,
    "parallel": forms.parallel,
    "chunked": partial(forms.chunked, chunk=3),
}
as_jax = partial(jax.tree.map, jnp.asarray)
QUICK = pytest.mark.quick("gated_delta_rule")


def gates_of(rule, draw, tokens=TOKENS, front=()):
    """Draw the arrays of a rule, by name: beta in [0, 1], decays in [0.2, 1]."""
    shape = (tokens, *front)
    by_feature = (*shape, FEATURES) if "by feature" in rule else shape
    gates = {"beta": draw.random(shape)} if "delta" in rule else {}
    if "gated" in rule:
        gates["log_decay"] = np.log(draw.uniform(0.2, 1.0, by_feature))
    if rule == "retention":
        gates["decay"] = draw.uniform(0.5, 1.0, front)
    return gates


def problem(rule, tokens=TOKENS, seed=0):
    """Draw the arrays of one head: positive features for a normalized rule, keys of norm 1 for the others."""
    draw = np.random.default_rng(seed)
    query, key = draw.standard_normal((2, tokens, FEATURES))
    value = draw.standard_normal((tokens, WIDTH))
    key = np.abs(key) if rule in NORMALIZED else key / np.linalg.norm(key, axis=1, keepdims=True)
    query = np.abs(query) if rule in NORMALIZED else query
    state = np.abs(draw.standard_normal((FEATURES, WIDTH + (rule in NORMALIZED))))
    where = draw.random(tokens) < 0.75
    return {"state": state, "query": query, "key": key, "value": value}, gates_of(rule, draw, tokens), where


def expected_of(rule, arrays, gates, where):
    tokens = len(where)
    gates = {name: np.broadcast_to(gate, (tokens,)) if name == "decay" else gate for name, gate in gates.items()}
    inputs = [arrays[name] for name in ("query", "key", "value")]
    return oracle.linear_attention(rule, *inputs, gates, where, arrays["state"], rule in NORMALIZED)


def assert_equal(results, expected, tolerance=1e-10):
    for a, b in zip(jax.tree.leaves(results), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)


@pytest.mark.usefixtures("x64")
class TestForms:
    @pytest.mark.parametrize("rule", RULES)
    @QUICK
    def test_all_forms_equal_the_oracle(self, rule):
        arrays, gates, where = problem(rule)

        @jax.jit
        def compute(arrays, gates, where):
            return {name: form(RULES[rule](**gates), **arrays, where=where) for name, form in FORMS.items()}

        expected = expected_of(rule, arrays, gates, where)
        for result in compute(arrays, gates, where).values():
            assert_close(result[0], expected[0], "float64")
            assert_close(result[1], expected[1], "float64")

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_all_forms_have_the_same_gradients(self, rule):
        arrays, gates, where = as_jax(problem(rule))
        draw = np.random.default_rng(5)
        weights = as_jax((draw.standard_normal(arrays["state"].shape), draw.standard_normal((TOKENS, WIDTH))))

        @jax.jit
        def slopes(arrays, gates):
            def total(arrays, gates, form):
                state, output = form(RULES[rule](**gates), **arrays, where=where)
                return jnp.vdot(weights[0], state) + jnp.vdot(weights[1], output)

            return {name: jax.grad(total, (0, 1))(arrays, gates, form) for name, form in FORMS.items()}

        slopes = slopes(arrays, gates)
        for name in FORMS:
            assert_equal(slopes[name], slopes["recurrent"])

    @pytest.mark.slow
    @pytest.mark.parametrize("form", ["recurrent", "chunked"])  # whose gradients the other has
    @pytest.mark.parametrize("rule", RULES)
    def test_derivatives_forward_and_reverse(self, rule, form):
        arrays, gates, where = as_jax(problem(rule))

        @jax.jit
        def compute(arrays, gates):
            return FORMS[form](RULES[rule](**gates), **arrays, where=where)

        order = 2 if form == "chunked" else 1
        check_grads(compute, (arrays, gates), order=order, modes=("fwd", "rev"), rtol=1e-5, atol=1e-5)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_any_length(self, rule):
        for tokens in (0, 1, 2, 3, 4, 6):
            arrays, gates, _ = as_jax(problem(rule, tokens))
            made = RULES[rule](**gates)
            state, output = forms.recurrent(made, **arrays)
            assert output.shape == (tokens, WIDTH)
            for form in FORMS.values():
                assert_equal(form(made, **arrays), (state, output))
            if not tokens:
                assert_equal(state, arrays["state"], 0.0)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_padding_is_as_if_it_were_not_there(self, rule):
        arrays, gates, where = problem(rule)
        keep = lambda x: x[where] if np.ndim(x) and len(x) == TOKENS else x  # noqa: E731
        shorter = as_jax({name: x if name == "state" else keep(x) for name, x in arrays.items()})
        expected = forms.recurrent(RULES[rule](**as_jax(jax.tree.map(keep, gates))), **shorter)
        arrays, gates = as_jax((arrays, gates))
        for form in FORMS.values():
            state, output = form(RULES[rule](**gates), **arrays, where=jnp.asarray(where))
            assert_equal((state, output[where]), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", [name for name in RULES if "gated" in name])
    def test_a_decay_of_zero_empties_the_state(self, rule):
        arrays, gates, _ = problem(rule)
        gates["log_decay"][4] = -np.inf
        arrays, gates = as_jax((arrays, gates))
        made = RULES[rule](**gates)
        tail = {name: x if name == "state" else x[4:] for name, x in arrays.items()}
        tail["state"] = jnp.zeros_like(tail["state"])
        expected = forms.recurrent(RULES[rule](**{name: gate[4:] for name, gate in gates.items()}), **tail)
        for form in FORMS.values():
            state, output = form(made, **arrays)
            assert_equal((state, output[4:]), expected)
            slope = jax.grad(lambda gates, form=form: form(RULES[rule](**gates), **arrays)[1].sum())(gates)
            assert all(np.isfinite(x).all() for x in jax.tree.leaves(slope))

    @pytest.mark.parametrize("rule", [linear.sum_rule(), linear.sum_rule(normalized=False)], ids=str)
    @pytest.mark.slow
    def test_without_a_causal_mask_every_query_reads_all_keys(self, rule):
        draw = np.random.default_rng(0)
        query, key, value = draw.random((2, FEATURES)), draw.random((5, FEATURES)), draw.standard_normal((5, WIDTH))
        where = np.array([True, False, True, True, False])
        state = np.zeros((FEATURES, WIDTH + rule.normalized))
        result = forms.bidirectional(rule, *as_jax((state, query, key, value, where)))
        weights = np.array([[np.dot(a, b) * w for b, w in zip(key, where, strict=True)] for a in query])
        weights = weights / weights.sum(axis=1, keepdims=True) if rule.normalized else weights
        assert_close(result[1], weights @ value, "float64")


@pytest.mark.slow
def test_a_weak_decay_after_a_strong_one_keeps_its_digits():
    """In float32, differences of cumulative sums would be wrong by e^(2000 · 2⁻²⁴)."""
    log_decay = jnp.array([-2e3, -1e-3, -2e3, -1e-3, -1e-3], jnp.float32)
    ones = jnp.ones((5, 1), jnp.float32)
    rule = linear.gated(log_decay)
    expected = [1.0, 1.0 + np.exp(-1e-3), 1.0, 1.0 + np.exp(-1e-3), 1.0 + np.exp(-1e-3) + np.exp(-2e-3)]
    for form in FORMS.values():
        assert_close(form(rule, jnp.zeros((1, 1)), ones, ones, ones)[1].ravel(), expected, "float32")


@pytest.mark.slow
def test_gradients_with_a_small_sum_of_weights_keep_their_digits():
    """The square of this sum, about 1e-27, is 0 in float32; weights scaled by a constant have the same output."""
    draw = np.random.default_rng(0)
    query, key = draw.uniform(0.5, 2.0, (2, TOKENS, FEATURES))
    value = draw.standard_normal((TOKENS, WIDTH))
    inputs = tuple(jnp.asarray(x, jnp.float32) for x in (query, key, value))

    @jax.jit
    def slopes(inputs, factor):
        def total(query, key, value):
            state = jnp.zeros((FEATURES, WIDTH + 1), jnp.float32)
            return jnp.sin(forms.parallel(linear.sum_rule(), state, factor * query, factor * key, value)[1]).sum()

        return jax.grad(total, (0, 1, 2))(*inputs)

    for found, expected in zip(slopes(inputs, 3e-14), slopes(inputs, 1.0), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


HEADS, KEY_HEADS, BATCH = 4, 2, 2


def arrays_of_heads(rule, tokens=TOKENS, dtype=np.float64):
    """Draw the arguments of `linear_attention`, with two query heads for each key head."""
    draw = np.random.default_rng(1)
    shapes = (BATCH, tokens, HEADS, FEATURES), (BATCH, tokens, KEY_HEADS, FEATURES), (BATCH, tokens, KEY_HEADS, WIDTH)
    inputs = tuple(jnp.asarray(draw.standard_normal(shape), dtype) for shape in shapes)
    gates = gates_of(rule, draw, tokens, (KEY_HEADS,))
    gates = {name: x if name == "decay" else np.stack([x, x[::-1]]) for name, x in gates.items()}
    where = jnp.asarray(draw.random((BATCH, tokens)) < 0.75)
    return inputs, jax.tree.map(lambda x: jnp.asarray(x, dtype), gates), where


def call(rule, inputs, gates, where, **options):
    return linear_attention(*inputs, rule=RULES[rule](**gates), causal=True, where=where, **options)


@pytest.mark.usefixtures("x64")
class TestEntry:
    @pytest.mark.parametrize("rule", RULES)
    @pytest.mark.quick("sum_rule")
    def test_all_heads_and_examples_equal_the_oracle(self, rule):
        (query, key, value), gates, where = arrays_of_heads(rule)
        results = jax.jit(partial(call, rule, chunk=3))((query, key, value), gates, where)
        (query, key, value), gates, where, (output, state) = jax.tree.map(
            np.asarray, ((query, key, value), gates, where, results)
        )
        maps = {"sum_rule": oracle.elu_plus_one, "not normalized": oracle.elu_plus_one}
        phi = maps.get(rule, oracle.silu_unit if "delta" in rule else lambda x: x)
        assert int(state.length) == TOKENS
        for example in range(BATCH):
            for head in range(HEADS):
                at = head // (HEADS // KEY_HEADS)
                of_head = {
                    name: np.broadcast_to(x[at], (TOKENS,)) if name == "decay" else x[example, :, at]
                    for name, x in gates.items()
                }
                empty = np.zeros((FEATURES, WIDTH + (rule in NORMALIZED)))
                features = phi(query[example, :, head]), phi(key[example, :, at])
                arguments = (value[example, :, at], of_head, where[example], empty)
                expected = oracle.linear_attention(rule, *features, *arguments, rule in NORMALIZED)
                assert_close(output[example, :, head], expected[1], "float64")
                assert_close(state.memory[example, at], expected[0], "float64")

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_a_sequence_in_parts_equals_the_unbroken_one(self, rule):
        inputs, gates, where = arrays_of_heads(rule)
        expected = call(rule, inputs, gates, where, chunk=4)
        for cuts in ((0, 3, 7), (0, 1, 1, 5, 7), range(8)):
            state, outputs = None, []
            for start, end in pairwise(cuts):
                part = lambda x: x[:, start:end]  # noqa: B023, E731
                of_part = gates if rule == "retention" else jax.tree.map(part, gates)
                output, state = call(rule, map(part, inputs), of_part, part(where), chunk=2, state=state)
                outputs.append(output)
            assert_equal((jnp.concatenate(outputs, axis=1), state), expected)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_jit_equals_eager(self, rule):
        inputs, gates, where = arrays_of_heads(rule)
        compiled = jax.jit(partial(call, rule, chunk=3))(inputs, gates, where)
        assert_equal(compiled, call(rule, inputs, gates, where, chunk=3), 1e-14)
        with jax.disable_jit():
            assert_equal(compiled, call(rule, inputs, gates, where, chunk=3), 1e-14)

    @pytest.mark.slow
    @pytest.mark.parametrize("rule", RULES)
    def test_nothing_of_padding_reaches_output_or_gradients(self, rule):
        inputs, gates, _ = arrays_of_heads(rule)
        where = jnp.ones((BATCH, TOKENS), bool).at[:, jnp.array([2, 5])].set(False)
        spoil = lambda x: x if x.ndim == 1 else x.at[:, jnp.array([2, 5])].set(jnp.nan)  # noqa: E731

        def compute(spoiled, inputs, gates):
            query, key, value = inputs
            if spoiled:
                key, value, gates = spoil(key), spoil(value), jax.tree.map(spoil, gates)
            output, state = call(rule, (query, key, value), gates, where, chunk=3)
            return jnp.sin(output).sum() + jnp.sin(state.memory).sum()

        expected, spoiled = (
            jax.jit(jax.value_and_grad(partial(compute, spoiled), (0, 1)))(inputs, gates) for spoiled in (False, True)
        )
        assert_equal(spoiled, expected, 1e-14)

    @pytest.mark.slow
    def test_a_query_without_a_key_gets_zero(self):
        inputs, _, _ = arrays_of_heads("sum_rule")
        where = jnp.zeros((BATCH, TOKENS), bool).at[:, 3].set(True)

        def total(inputs):
            output, _ = call("sum_rule", inputs, {}, where)
            return output.sum(), output

        slopes, output = jax.grad(total, has_aux=True)(inputs)
        assert not output[:, :3].any()
        assert output[:, 3:].all()
        assert all(jnp.isfinite(x).all() for x in slopes)

    @pytest.mark.slow
    def test_axes_in_front(self):
        (query, key, value), _, _ = arrays_of_heads("sum_rule")
        expected, state = linear_attention(query, key, value, causal=True)
        alone, memory = linear_attention(query[0], key[0], value[0], causal=True)
        assert_equal((alone, memory.memory), (expected[0], state.memory[0]), 1e-14)
        twice, _ = linear_attention(query[None], key[None], value[None], causal=True)
        assert_equal(twice, expected[None], 1e-14)
        mapped, _ = jax.vmap(partial(linear_attention, causal=True))(query, key, value)
        assert_equal(mapped, expected, 1e-14)

    @pytest.mark.slow
    def test_cross_attention_in_two_calls(self):
        (query, key, value), _, where = arrays_of_heads("sum_rule")
        query = query[:, :2]
        expected, _ = linear_attention(query, key, value, where=where)
        _, state = linear_attention(query[:, :0], key[:, :4], value[:, :4], where=where[:, :4])
        output, state = linear_attention(query, key[:, 4:], value[:, 4:], where=where[:, 4:], state=state)
        assert_equal(output, expected, 1e-12)
        assert int(state.length) == TOKENS

    @pytest.mark.slow
    def test_positions_go_on_with_the_state(self):
        (query, key, value), _, _ = arrays_of_heads("sum_rule")
        options = {"feature_map": linear.cosformer(16), "causal": True}
        expected, _ = linear_attention(query, key, value, **options)
        first, state = linear_attention(query[:, :4], key[:, :4], value[:, :4], **options)
        second, _ = linear_attention(query[:, 4:], key[:, 4:], value[:, 4:], **options, state=state)
        assert_equal(jnp.concatenate([first, second], axis=1), expected, 1e-12)

    @pytest.mark.slow
    def test_a_feature_map_for_each_head_of_queries_and_of_keys(self):
        (query, key, value), _, _ = arrays_of_heads("sum_rule")
        draw = np.random.default_rng(2)
        of_query, of_key = (jnp.asarray(draw.standard_normal((heads, FEATURES, 2))) for heads in (HEADS, KEY_HEADS))
        maps = tuple(Partial(linear.hedgehog, w=map_over(w, "h")) for w in (of_query, of_key))
        output, _ = linear_attention(query, key, value, feature_map=maps)
        for head in range(HEADS):
            at = head // 2
            one = tuple(Partial(linear.hedgehog, w=w) for w in (of_query[head], of_key[at]))
            heads = slice(head, head + 1), slice(at, at + 1)
            inputs = query[:, :, heads[0]], key[:, :, heads[1]], value[:, :, heads[1]]
            assert_equal(output[:, :, heads[0]], linear_attention(*inputs, feature_map=one)[0], 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
@pytest.mark.parametrize("rule", RULES)
def test_low_precision_is_computed_in_float32(rule, dtype):
    inputs, gates, where = arrays_of_heads(rule, dtype=np.float32)
    inputs = tuple(x.astype(dtype) for x in inputs)
    output, state = call(rule, inputs, gates, where)
    wide, expected = call(rule, tuple(x.astype(jnp.float32) for x in inputs), gates, where)
    assert output.dtype == dtype
    assert state.memory.dtype == jnp.float32
    np.testing.assert_array_equal(output, wide.astype(dtype))
    np.testing.assert_array_equal(state.memory, expected.memory)

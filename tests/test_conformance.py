"""The laws of attention, each checked on every part (rows.py) against the oracle (oracle.py, tolerances.py).

The product score × mod × mask × normalizer × returns × block size × size is sampled: every list is gone through in
turn, as many times as the longest needs, so that every row occurs with others beside it; `slow` draws more.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from rows import EDGES, MASKS, MODS, NORMALIZERS, NOT_A_DERIVATIVE, POSITIVE, SCORES, SIZES, SMALL, Problem, Size
from rows import problem as draw_problem
from tolerances import assert_close

from attnlab.functional import extras, masks
from attnlab.functional.attention import IMPLEMENTATIONS, AttentionOutput, attention, attention_weights, pool
from attnlab.functional.parts import as_part, floats

pytestmark = pytest.mark.usefixtures("strict")
every_implementation = pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
BLOCKWISE = [name for name in IMPLEMENTATIONS if name != "dense"]
Arrays = list[jax.Array]
BY_NAME = {row.name: row for row in SCORES}
ACCURATE = 1e-10
"""What float64 is held to where blocks add up in another order: forward and gradients."""
OPTIMIZED = {"xla_backend_optimization_level": 3} | (
    {"xla_cpu_use_fusion_emitters": True} if "fusion_emitters" in os.environ["XLA_FLAGS"] else {}
)
"""Where bits are compared the compiler optimizes, as it does for users (see conftest.py)."""


@dataclass(frozen=True)
class Sample:
    """One point of the product."""

    score: str
    mods: str
    mask: str
    normalizer: str
    size: Size
    group: int = 0
    block_size: tuple[int, int] | None = None

    def __str__(self) -> str:
        block = "" if self.block_size is None else "-{}x{}".format(*self.block_size)
        return f"{self.score}-{self.mods}-{self.mask}-{self.normalizer}-{self.size}{block}"

    def problem(self, dtype: str = "float64") -> Problem:
        return draw_problem(BY_NAME[self.score], self.size, self.mask, self.mods, self.normalizer, dtype)

    def returns(self) -> tuple[str | extras.Extra, ...]:
        """Every extra in one of three."""
        some = extras.weights(rows=(self.size.T - 1, 0), heads=(self.size.N - 1,))
        groups = ("weights", "logits", extras.top_k(min(3, self.size.S))), ("lse", "max", "distance")
        return (*groups, ("entropy", "key_mass", some))[self.group]


LENGTHS = [*SIZES[2:4], *EDGES]
BLOCKS = [None, (2, 3), (1, 1), (64, 33), (3, 128)]
GROUPS = [0, 1, 2, 1, 2, 0, 2]


def in_turn(number: int) -> Sample:
    """The sample of this number: each list a step further."""
    pick = lambda rows: list(rows)[number % len(rows)]  # noqa: E731
    lists = (BY_NAME, MODS, MASKS, NORMALIZERS, LENGTHS, GROUPS, BLOCKS)
    return Sample(*(pick(rows) for rows in lists))


def drawn(number: int) -> Sample:
    """A sample at random, the same for the same number."""
    rng = np.random.default_rng(number)
    lists = (BY_NAME, MODS, MASKS, NORMALIZERS, LENGTHS, GROUPS, BLOCKS)
    return Sample(*(list(rows)[rng.integers(len(rows))] for rows in lists))


COVER = [in_turn(number) for number in range(max(map(len, (SCORES, MODS, MASKS, NORMALIZERS, LENGTHS))))]
REST = [drawn(number) for number in range(150)]


def learnable(this: Problem):
    """The floating-point arrays of a problem, what is not to be learned, and what puts them together."""
    learned, constant, together = floats(
        (this.inputs, this.params, tuple(map(as_part, this.mods)), as_part(this.normalizer))
    )
    return [x.astype("float64") for x in learned], constant, together


def evaluate(sample: Sample, implementation: str, slopes: bool = True) -> tuple[AttentionOutput, list[jax.Array]]:
    """Attend, and differentiate a number made of all results by every learnable array (or do not)."""
    this = sample.problem()
    learned, constant, together = learnable(this)

    def number(learned):
        inputs, params, mods, normalizer = together(learned, constant)
        parts = {"score": this.bind(params), "mods": mods, "mask": this.mask, "normalizer": normalizer}
        how = {"implementation": implementation, "block_size": sample.block_size, "returns": sample.returns()}
        found = attention(*inputs, **parts, **how)
        numbers = [x for x in jax.tree.leaves(found) if jnp.issubdtype(x.dtype, jnp.floating)]
        return sum(jnp.sin(jnp.where(jnp.isfinite(x), x, 0.0)).sum() for x in numbers), found

    if not slopes:
        return jax.jit(number)(learned)[1], []
    (_, found), by_learned = jax.jit(jax.value_and_grad(number, has_aux=True))(learned)
    return found, by_learned


@cache
def reference(sample: Sample) -> tuple[AttentionOutput, list[jax.Array]]:
    return evaluate(sample, "dense")


@cache
def by_the_book(sample: Sample) -> dict[str, np.ndarray]:
    return sample.problem().expected()


def assert_is_oracle(sample: Sample, found: AttentionOutput, tolerance: float) -> None:
    expected = by_the_book(replace(sample, group=0, block_size=None))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)  # noqa: E731
    close(found.output, expected["output"])
    assert found.output.dtype == jnp.float64
    for extra in extras.requested(sample.returns()):
        if extra.name == "top_k":
            weights, _ = oracle.top_keys(expected["weights"], extra.top)
            close(found.top_k.weights, weights)
            # By what they weigh: of two keys that weigh the same, either may come first.
            close(np.take_along_axis(expected["weights"], np.asarray(found.top_k.keys), axis=-1), weights)
        else:
            whole = expected[extra.name]
            whole = whole[..., extra.heads, :, :][..., extra.rows, :] if extra.chosen else whole
            close(getattr(found, extra.name), whole)


# The values and the gradients are right


def assert_equals_the_oracle_and_the_slopes_of_dense(sample: Sample, implementation: str) -> None:
    found, slopes = evaluate(sample, implementation)
    assert_is_oracle(sample, found, ACCURATE)
    chex.assert_tree_all_finite(slopes)
    for slope, expected in zip(slopes, reference(sample)[1], strict=True):
        np.testing.assert_allclose(slope, expected, rtol=ACCURATE, atol=ACCURATE)


@pytest.mark.parametrize(("number", "sample"), list(enumerate(COVER)), ids=str)
def test_all_equal_the_oracle_and_blocks_the_slopes_of_dense(number, sample, x64):
    """The slopes of one of the two in turn: they differ in which blocks they visit, which the values tell too."""
    found, slopes = reference(sample)
    assert_is_oracle(sample, found, 1e-12)
    chex.assert_tree_all_finite(slopes)
    both = BLOCKWISE if number % 2 else BLOCKWISE[::-1]
    assert_equals_the_oracle_and_the_slopes_of_dense(sample, both[0])
    assert_is_oracle(sample, evaluate(sample, both[1], slopes=False)[0], ACCURATE)


@pytest.mark.slow
@every_implementation
@pytest.mark.parametrize("sample", COVER, ids=str)
def test_both_have_the_slopes_of_dense(sample, implementation, x64):
    assert_equals_the_oracle_and_the_slopes_of_dense(sample, implementation)


@pytest.mark.slow
@every_implementation
@pytest.mark.parametrize("sample", REST, ids=str)
def test_more_of_the_product(sample, implementation, x64):
    assert_equals_the_oracle_and_the_slopes_of_dense(sample, implementation)


def test_the_samples_cover_every_row():
    for field, rows in {"score": BY_NAME, "mods": MODS, "mask": MASKS, "normalizer": NORMALIZERS}.items():
        assert {getattr(sample, field) for sample in COVER} == set(rows), field
    lengths = {length for sample in COVER for length in (sample.size.T, sample.size.S)}
    assert lengths >= {1, 2, 3, 7, 128, 129}
    names = {extra.name for sample in COVER for extra in extras.requested(sample.returns())}
    assert names == set(extras.NAMES)


def solver(this: Problem, returns=("weights", "lse", "entropy"), compiled=None, **changes):
    """`attention` of this problem's parts as a compiled function of its inputs."""
    call = lambda inputs: attention(*inputs, **this.options() | changes, returns=returns)  # noqa: E731
    return jax.jit(call, compiler_options=compiled)


def solve(this: Problem, inputs=None, returns=("weights", "lse", "entropy"), **changes):
    return solver(this, returns, **changes)(this.inputs if inputs is None else inputs)


@every_implementation
@pytest.mark.parametrize(
    "score", ["additive", *(pytest.param(n, marks=pytest.mark.slow) for n in BY_NAME if n != "additive")]
)
def test_each_head_may_have_its_own_parameters(score, implementation, x64):
    this = draw_problem(BY_NAME[score], dtype="float64", each_head=True)
    found = solve(this, implementation=implementation)
    for name in ("output", "weights", "lse", "entropy"):
        assert_close(getattr(found, name), this.expected()[name], "float64")


# One call is as good as another


@every_implementation
def test_every_way_to_call_is_the_same(implementation):
    """Compiled or not, from the host's arrays or the device's."""
    this = draw_problem(BY_NAME["scaled_dot"], SIZES[1])
    call = lambda *inputs: attention(*inputs, **this.options(), implementation=implementation)  # noqa: E731
    expected = this.expected()["output"]
    for variant in (call, jax.jit(call)):
        assert_close(variant(*this.inputs), expected, "float32")
        assert_close(variant(*map(jnp.asarray, map(np.asarray, this.inputs))), expected, "float32")
    assert_close(variant(*map(np.asarray, this.inputs)), expected, "float32")


@every_implementation
@pytest.mark.parametrize(("score", "normalizer"), [("scaled_dot", "softmax"), ("general", "entmax15")])
def test_returns_change_no_bit_of_the_output(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], SIZES[4], "lengths", normalizer=normalizer)
    names = tuple(name for name in extras.NAMES if name != "top_k")
    everything = (*names, extras.top_k(5))
    plain = solve(this, returns=(), implementation=implementation, compiled=OPTIMIZED)
    extra = solve(this, returns=everything, implementation=implementation, compiled=OPTIMIZED)
    np.testing.assert_array_equal(plain, extra.output)
    few = solve(this, returns=("lse",), implementation=implementation, compiled=OPTIMIZED)
    np.testing.assert_array_equal(plain, few.output)
    assert {name for name in AttentionOutput._fields if getattr(few, name) is not None} == {"output", "lse"}
    assert all(x is not None for x in extra)


@every_implementation
def test_chosen_weights_are_those_of_all(implementation):
    this = draw_problem(BY_NAME["additive"], mask="array_b_h_q_k")
    rows, heads = [4, 0, 1], [3, 1]
    whole = solve(this, returns=("weights",), implementation=implementation)
    some = solve(this, returns=(extras.weights(rows, heads),), implementation=implementation)
    assert_close(some.weights, whole.weights[:, jnp.array(heads)][:, :, jnp.array(rows)], "float32")
    np.testing.assert_array_equal(some.output, whole.output)


def test_pool_of_weights_is_attention(x64):
    for score in ("additive", "scaled_dot"):
        this = draw_problem(BY_NAME[score], dtype="float64")
        query, key, value = this.inputs
        weights = jax.jit(lambda q, k, this=this: attention_weights(q, k, **this.options()))(query, key)
        assert_close(pool(weights, value), solve(this, returns=()), "float64")


@every_implementation
def test_the_order_of_keys_does_not_matter(implementation, x64):
    this = draw_problem(BY_NAME["additive"], mask="array_b_h_q_k", dtype="float64")
    order = np.random.default_rng(0).permutation(SMALL.S)
    query, key, value = this.inputs
    mask = masks.array(this.mask.where[..., order], "b h q k")
    how = {"implementation": implementation, "block_size": (2, 4)}
    shuffled = solve(this, (query, key[:, order], value[:, order]), mask=mask, **how)
    straight = solve(this, **how)
    assert_close(shuffled.output, straight.output, "float64")
    assert_close(shuffled.weights, straight.weights[..., order], "float64")
    assert_close(shuffled.lse, straight.lse, "float64")


@every_implementation
def test_parts_of_the_keys_merge_by_their_lse(implementation, x64):
    this = draw_problem(BY_NAME["general"], mask="array_b_k", dtype="float64")
    query, key, value = this.inputs
    whole = solve(this, implementation=implementation)
    parts = []
    for keys in (slice(0, 2), slice(2, None)):
        mask = masks.array(this.mask.where[:, keys], "b k")
        parts.append(solve(this, (query, key[:, keys], value[:, keys]), mask=mask, implementation=implementation))
    lse = jnp.logaddexp(parts[0].lse, parts[1].lse)
    shares = [jnp.where(lse == -jnp.inf, 0.0, jnp.exp(part.lse - lse)) for part in parts]
    merged = sum(jnp.moveaxis(share, 1, 2)[..., None] * part.output for share, part in zip(shares, parts, strict=True))
    assert_close(lse, whole.lse, "float64")
    assert_close(merged, whole.output, "float64")


@every_implementation
def test_new_lengths_and_documents_compile_nothing_anew(implementation):
    this = draw_problem(BY_NAME["scaled_dot"])

    @jax.jit
    @chex.assert_max_traces(n=1)
    def call(inputs, mask):
        how = {"implementation": implementation, "block_size": (2, 3)}
        return attention(*inputs, **this.options() | {"mask": mask}, **how)

    chex.clear_trace_counter()
    ids = jnp.arange(SMALL.S, dtype=jnp.int32)
    outputs = [
        call(this.inputs, masks.lengths(jnp.array([n, 2, 3])) & masks.segments(ids[: SMALL.T] // n, ids // n))
        for n in (1, 2, 3)
    ]
    assert not np.array_equal(outputs[1], outputs[2])
    assert call._cache_size() == 1


# What is masked is not there


def gradient(this: Problem, mask, implementation, rows=slice(None)):
    """Of a number made of the output and the finite extras of these queries: a compiled function of the inputs."""

    def number(inputs, params):
        options = this.options() | {"score": this.bind(params), "mask": mask}
        found = attention(*inputs, **options, returns=("weights", "lse", "entropy"), implementation=implementation)
        lse = found.lse[..., rows]
        extras = [found.weights[..., rows, :] ** 2, found.entropy[..., rows], jnp.where(jnp.isfinite(lse), lse, 0.0)]
        total = jnp.sin(found.output[..., rows, :, :]).sum() + sum(extra.sum() for extra in extras)
        return total, found

    both = jax.jit(jax.grad(number, argnums=(0, 1), has_aux=True))
    return lambda inputs: both(inputs, this.params)


FEW = [("scaled_dot", "softmax"), ("additive", "entmax15")]
MANY = [(s.name, "softmax") for s in SCORES] + [("scaled_dot", n) for n in NORMALIZERS]
few_and_many = pytest.mark.parametrize(
    ("score", "normalizer"),
    [*FEW, *(pytest.param(*pair, marks=pytest.mark.slow) for pair in MANY if pair not in FEW)],
)


@every_implementation
@few_and_many
def test_an_empty_row_is_zero_with_finite_gradients(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], normalizer=normalizer)
    where = jnp.ones((SMALL.T, SMALL.S), bool).at[1].set(False)
    mask = masks.array(where) & masks.lengths(jnp.array([SMALL.S, 0, 2]))
    slopes, found = gradient(this, mask, implementation)(this.inputs)
    empty = {"output": found.output[:, 1], "weights": found.weights[:, :, 1], "entropy": found.entropy[:, :, 1]}
    empty |= {"all output": found.output[1], "all weights": found.weights[1]}
    assert all((x == 0.0).all() for x in empty.values())
    assert (found.lse[:, :, 1] == -jnp.inf).all()
    assert (found.lse[1] == -jnp.inf).all()
    if normalizer in POSITIVE:
        assert (found.weights[0, :, 0] > 0.0).all()
    chex.assert_tree_all_finite(slopes)
    by_query, by_key, by_value = slopes[0]
    for unseen in (by_query[:, 1], by_query[1], by_key[1], by_value[1]):
        assert not unseen.any()


@every_implementation
@few_and_many
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
            slopes, found = call(inputs)
            jax.tree.map(np.testing.assert_array_equal, found, clean)
            chex.assert_tree_all_finite(slopes)
            chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
@few_and_many
def test_nan_reaches_the_queries_that_may_see_it_and_no_other(score, normalizer, implementation):
    this = draw_problem(BY_NAME[score], normalizer=normalizer)
    mask, first = masks.causal("upper_left"), 3
    query, key, value = this.inputs
    call = gradient(this, mask, implementation, slice(first))
    clean_slopes, clean = call(this.inputs)
    for place in ("key", "value"):
        bad = {"key": key, "value": value}
        bad[place] = bad[place].at[:, first].set(jnp.nan)
        slopes, spoiled = call((query, bad["key"], bad["value"]))
        np.testing.assert_array_equal(spoiled.output[:, :first], clean.output[:, :first])
        assert jnp.isnan(spoiled.output[:, first:]).all()
        assert jnp.isnan(spoiled.weights[:, :, first:]).all() == (place == "key")
        chex.assert_tree_all_finite(slopes)
        chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
def test_a_query_that_is_nan_spoils_itself_alone_and_only_if_it_sees_something(implementation):
    this = draw_problem(BY_NAME["general"])
    mask = masks.lengths(SMALL.S, queries=jnp.array([2, 5, 5]))
    query, key, value = this.inputs
    call = gradient(this, mask, implementation, slice(3))
    clean_slopes, clean = call(this.inputs)
    slopes, found = call((query.at[0, 2:].set(jnp.nan), key, value))
    jax.tree.map(np.testing.assert_array_equal, found, clean)
    chex.assert_tree_all_finite(slopes)
    slopes, found = call((query.at[1, 4, 2].set(jnp.inf), key, value))
    assert jnp.isnan(found.output[1, 4, 2]).all()
    spoiled = jnp.isnan(found.output).any(axis=-1)
    assert spoiled.sum() == 1
    np.testing.assert_array_equal(found.output[~spoiled], clean.output[~spoiled])
    chex.assert_trees_all_close(slopes, clean_slopes, rtol=1e-5, atol=1e-6)


@every_implementation
@pytest.mark.parametrize(
    "mask", ["composed", *(pytest.param(m, marks=pytest.mark.slow) for m in MASKS if m != "composed")]
)
def test_a_masked_weight_is_exactly_zero(mask, implementation):
    this = draw_problem(BY_NAME["scaled_dot"], mask=mask)
    found = solve(this, implementation=implementation, block_size=(2, 3))
    np.testing.assert_array_equal(found.weights == 0.0, this.expected()["weights"] == 0.0)


@every_implementation
def test_causal_of_unequal_lengths_needs_an_alignment(implementation):
    this = draw_problem(BY_NAME["scaled_dot"])
    with pytest.raises(ValueError, match="5 queries and 6 keys need an alignment"):
        solve(this, mask=masks.causal(), implementation=implementation)


# Numbers of any width, sequences of any length


@every_implementation
def test_float64_stays_float64_and_narrower_numbers_are_computed_in_float32(implementation, x64):
    widths = {"float64": "float64", "float32": "float32", "bfloat16": "float32", "float16": "float32"}
    for dtype, inside in widths.items():
        this = draw_problem(BY_NAME["additive"], dtype=dtype)
        names = ("lse", "weights", "entropy", "max", "distance", "key_mass", "logits")
        call = solver(this, names, implementation=implementation)
        found = jax.eval_shape(call, this.inputs)
        assert found.output.dtype == dtype
        assert {getattr(found, name).dtype.name for name in names if name != "logits"} == {inside}, dtype


@every_implementation
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_low_precision_errs_at_most_twice_as_far_as_the_naive_computation(dtype, implementation):
    """The rule by which flash attention is tested: against float64, compared with all of it in low precision."""
    rng = np.random.default_rng(0)
    query, key, value, change = (jnp.asarray(rng.standard_normal((2, 70, 2, 16)), dtype) for _ in range(4))

    def naive(query, key, value):
        logits = jnp.einsum("btnd,bsnd->bnts", query, key) * jnp.asarray(0.25, query.dtype)
        logits = jnp.where(jnp.tri(70, dtype=bool)[None, None], logits, jnp.asarray(-jnp.inf, query.dtype))
        return jnp.einsum("bnts,bsnv->btnv", jax.nn.softmax(logits), value)

    def ours(query, key, value):
        return attention(query, key, value, mask=masks.causal(), implementation=implementation, block_size=(32, 24))

    def both(function, *inputs):
        output, pull = jax.vjp(function, *inputs)
        return [output, *pull(change.astype(output.dtype))]

    with jax.enable_x64(True):
        exact = jax.jit(lambda *inputs: both(naive, *inputs))(*(x.astype("float64") for x in (query, key, value)))
    rough = jax.jit(lambda *inputs: both(naive, *inputs))(query, key, value)
    found = jax.jit(lambda *inputs: both(ours, *inputs))(query, key, value)
    error = lambda x, y: np.abs(np.asarray(x, np.float64) - np.asarray(y)).max()  # noqa: E731
    for mine, theirs, true in zip(found, rough, exact, strict=True):
        assert mine.dtype == dtype
        assert error(mine, true) <= 2 * error(theirs, true)


@every_implementation
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 130), (33, 2)])
def test_any_lengths_will_do(queries, keys, implementation, x64):
    size = Size((), T=queries, S=keys, N=2, K=1, D=3, E=3, V=2, A=2)
    sample = Sample("scaled_dot", "no_mods", "no_mask", "softmax", size, group=1, block_size=(16, 32))
    found = solve(sample.problem(), returns=sample.returns(), implementation=implementation, block_size=(16, 32))
    assert_is_oracle(sample, found, ACCURATE)


@every_implementation
def test_lse_has_the_weights_for_gradient(implementation):
    def lse(logits):
        key = logits[:, None, None]  # against the query 1, its score is the logit itself
        how = {"implementation": implementation, "block_size": (1, 4)}
        found = attention(jnp.ones((1, 1, 1)), key, key, returns=("lse", "weights"), **how)
        return found.lse[0, 0], found.weights[0, 0]

    logits = jnp.asarray(np.random.default_rng(0).standard_normal(6), jnp.float32)
    slope, weights = jax.jit(jax.grad(lse, has_aux=True))(logits)
    assert_close(slope, weights, "float32")


@pytest.mark.parametrize("implementation", BLOCKWISE)
def test_dropout_does_not_depend_on_blocks(implementation):
    """The values are the unit vectors, so that the output is the weights that are left."""
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.standard_normal((2, n, 2, 4)), jnp.float32) for n in (9, 11))
    value = jnp.broadcast_to(jnp.eye(11)[None, :, None], (2, 11, 2, 11))

    def left(implementation, block_size=None):
        def number(query):
            how = {"implementation": implementation, "block_size": block_size, "mask": masks.causal(3)}
            found = attention(query, key, value, dropout_rate=0.4, rng=jax.random.key(7), **how)
            return jnp.sin(found).sum(), found

        slope, found = jax.jit(jax.grad(number, has_aux=True))(query)
        return found, slope

    expected, expected_slope = left("dense")
    for block_size in ((2, 3), (5, 16)):
        found, slope = left(implementation, block_size)
        np.testing.assert_array_equal(found == 0.0, expected == 0.0)
        assert_close(found, expected, "float32")
        assert_close(slope, expected_slope, "float32")


# It differentiates


SMOOTH = [name for name in NORMALIZERS if name not in NOT_A_DERIVATIVE]


def check_derivatives(sample: Sample, implementation: str, dropout_rate: float = 0.0) -> None:
    """Second order, forward and reverse, by every learnable array, against finite differences."""
    this = sample.problem()
    learned, constant, together = learnable(this)

    def number(learned):
        inputs, params, mods, normalizer = together(learned, constant)
        parts = {"score": this.bind(params), "mods": mods, "mask": this.mask, "normalizer": normalizer}
        how = {"implementation": implementation, "block_size": sample.block_size, "returns": ("lse", "entropy")}
        found = attention(*inputs, **parts, **how, dropout_rate=dropout_rate, rng=jax.random.key(3))
        lse = jnp.where(jnp.isfinite(found.lse), found.lse, 0.0)
        return sum(jnp.sin(x).sum() for x in (found.output, lse, found.entropy))

    assert_differentiates(number, learned)


def assert_differentiates(number: Callable[[Arrays], jax.Array], x: Arrays) -> None:
    """Hold first derivatives, and second ones made in the four ways, along random lines against differences.

    As `jax.test_util.check_grads` of order 2, in three compilations.
    """
    slope = jax.grad(number)
    along = lambda u: lambda x: jax.jvp(number, (x,), (u,))[1]  # noqa: E731
    dot = lambda a, b: sum(map(jnp.vdot, a, b))  # noqa: E731

    @jax.jit
    def first(x, u):
        return along(u)(x), dot(slope(x), u)

    @jax.jit
    def second(x, u, w):
        forward_of_reverse = dot(jax.jvp(slope, (x,), (u,))[1], w)
        reverse_of_reverse = dot(jax.grad(lambda x: dot(slope(x), w))(x), u)
        forward_of_forward = jax.jvp(along(w), (x,), (u,))[1]
        reverse_of_forward = dot(jax.grad(along(w))(x), u)
        return forward_of_reverse, reverse_of_reverse, forward_of_forward, reverse_of_forward

    @jax.jit
    def moved(step, u):
        return jax.value_and_grad(number)([a + step * b for a, b in zip(x, u, strict=True)])

    rng = np.random.default_rng(0)
    u, w = ([jnp.asarray(rng.standard_normal(a.shape)) for a in x] for _ in range(2))
    (after, slope_after), (before, slope_before) = moved(1e-5, u), moved(-1e-5, u)
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    for found in first(x, u):
        close(found, (after - before) / 2e-5)
    for found in second(x, u, w):
        close(found, (dot(slope_after, w) - dot(slope_before, w)) / 2e-5)


def smooth(number: int) -> Sample:
    """Each list a step further, of what is smooth, on a few numbers."""
    sample = in_turn(number)
    return replace(sample, normalizer=SMOOTH[number % len(SMOOTH)], size=SIZES[1 + 2 * (number % 2)])


SMOOTH_COVER = [smooth(number) for number in range(max(map(len, (SCORES, MODS, SMOOTH))))]


QUICKLY_TWICE = ("scaled_dot", "general", "cosine", "distance", "dot")
"""Scores whose second derivatives compile in a few seconds; the others are slow."""


@pytest.mark.parametrize(
    "sample",
    [pytest.param(s, marks=() if s.score in QUICKLY_TWICE else pytest.mark.slow, id=str(s)) for s in SMOOTH_COVER],
)
def test_dense_differentiates_twice_forward_and_reverse(sample, x64):
    check_derivatives(replace(sample, block_size=None), "dense")


@pytest.mark.parametrize(
    ("implementation", "score", "mods", "normalizer", "dropout_rate"),
    [
        pytest.param("streaming", "additive", "tilt_cap", "softmax_with_sink", 0.3, marks=pytest.mark.slow),
        pytest.param("streaming", "general", "cap_tilt", "softmax_with_sink", 0.3, marks=pytest.mark.slow),
        pytest.param("block_sparse", "general", "tables_each_head", "temperature", 0.0, marks=pytest.mark.slow),
        ("streaming", "scaled_dot_scale", "no_mods", "entmax15", 0.0),
    ],
)
def test_blocks_differentiate_twice_forward_and_reverse(implementation, score, mods, normalizer, dropout_rate, x64):
    sample = Sample(score, mods, "causal_lower_right", normalizer, SIZES[3], block_size=(2, 3))
    check_derivatives(sample, implementation, dropout_rate)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.parametrize("sample", SMOOTH_COVER, ids=str)
def test_blocks_of_every_part_differentiate_twice(sample, implementation, x64):
    check_derivatives(sample, implementation)

"""The properties of attention, each checked on every part (rows.py) against the oracle (oracle.py, tolerances.py).

The product score × mod × mask × normalizer × returns × block size × size is sampled: all lists are cycled until the
longest is used up, so that every row occurs in combination with others; `slow` samples more.
"""

from dataclasses import replace
from functools import cache

import chex
import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from rows import MASKS, MODS, NORMALIZERS, SIZES, SMALL, Size
from rows import problem as draw_problem
from samples import BLOCKWISE, BY_NAME, COVER, OPTIMIZED, REST, Sample, learnable, solve, solver
from tolerances import assert_close

from attnlab.functional import extras, masks
from attnlab.functional.attention import AttentionOutput, attention, attention_weights, pool
from attnlab.functional.backends import BACKENDS
from attnlab.functional.types import widen

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
on_gpu = pytest.mark.gpu
"""Laws that say something of their own of another device; `test_on_gpu.py` has its values and gradients."""
every_implementation = pytest.mark.parametrize("implementation", BACKENDS)
ACCURATE = 1e-10
"""What float64 is held to where blocks add up in another order: forward and gradients."""


def evaluate(
    sample: Sample, implementation: str, slopes: bool = True, drawn: str = "float64", dtype: str | None = "float64"
) -> tuple[AttentionOutput, list[jax.Array]]:
    """Call attention, and optionally differentiate a number computed from all results by every learnable array.

    The numbers are drawn in one dtype, and computed with in another (None: as they are drawn).
    """
    this = sample.problem(drawn)
    learned, constant, together = learnable(this, dtype)

    def number(learned):
        inputs, params, mods, normalizer = together(learned, constant)
        parts = {"score": this.bind(params), "mods": mods, "mask": this.mask, "normalizer": normalizer}
        how = {"implementation": implementation, "block_size": sample.block_size, "returns": sample.returns()}
        result = attention(*inputs, **parts, **how)
        numbers = [x for x in jax.tree.leaves(result) if jnp.issubdtype(x.dtype, jnp.floating)]
        numbers = [widen(x) for x in numbers]
        return sum(jnp.sin(jnp.where(jnp.isfinite(x), x, 0.0)).sum() for x in numbers), result

    if not slopes:
        return jax.jit(number)(learned)[1], []
    (_, result), by_learned = jax.jit(jax.value_and_grad(number, has_aux=True))(learned)
    return result, by_learned


@cache
def reference(sample: Sample) -> tuple[AttentionOutput, list[jax.Array]]:
    return evaluate(sample, "dense")


@cache
def by_the_book(sample: Sample) -> dict[str, np.ndarray]:
    return sample.problem().expected()


def assert_is_oracle(sample: Sample, result: AttentionOutput, tolerance: float) -> None:
    expected = by_the_book(replace(sample, group=0, block_size=None))
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)  # noqa: E731
    close(result.output, expected["output"])
    assert result.output.dtype == jnp.float64
    for extra in extras.requested(sample.returns()):
        if extra.name == "top_k":
            weights, _ = oracle.top_keys(expected["weights"], extra.top)
            close(result.top_k.weights, weights)
            # By what they weigh: of two keys that weigh the same, either may come first.
            close(np.take_along_axis(expected["weights"], np.asarray(result.top_k.keys), axis=-1), weights)
        else:
            whole = expected[extra.name]
            whole = whole[..., extra.heads, :, :][..., extra.rows, :] if extra.selects else whole
            close(getattr(result, extra.name), whole)


# The values and the gradients are right


def assert_equals_the_oracle_and_the_slopes_of_dense(sample: Sample, implementation: str) -> None:
    result, slopes = evaluate(sample, implementation)
    assert_is_oracle(sample, result, ACCURATE)
    assert_is_oracle(sample, reference(sample)[0], 1e-12)
    chex.assert_tree_all_finite(reference(sample)[1])
    chex.assert_tree_all_finite(slopes)
    for slope, expected in zip(slopes, reference(sample)[1], strict=True):
        np.testing.assert_allclose(slope, expected, rtol=ACCURATE, atol=ACCURATE)


@pytest.mark.parametrize(("number", "sample"), list(enumerate(COVER)), ids=str)
def test_all_equal_the_oracle_and_blocks_the_slopes_of_dense(number, sample, x64):
    """Check `dense` and one of the two others in turn: these differ only in the blocks that they visit.

    Every third sample is differentiated here, and all of them by the slow test below.
    """
    if number % 3 == 0:
        assert_equals_the_oracle_and_the_slopes_of_dense(sample, BLOCKWISE[number % 2])
        return
    for implementation, tolerance in (("dense", 1e-12), (BLOCKWISE[number % 2], ACCURATE)):
        assert_is_oracle(sample, evaluate(sample, implementation, slopes=False)[0], tolerance)


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


@every_implementation
@pytest.mark.parametrize(
    "score", ["additive", *(pytest.param(n, marks=pytest.mark.slow) for n in BY_NAME if n != "additive")]
)
def test_each_head_may_have_its_own_parameters(score, implementation, x64):
    this = draw_problem(BY_NAME[score], dtype="float64", per_head_params=True)
    result = solve(this, implementation=implementation)
    for name in ("output", "weights", "lse", "entropy"):
        assert_close(getattr(result, name), this.expected()[name], "float64")


# One call is as good as another


@on_gpu
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


@on_gpu
@every_implementation
@pytest.mark.parametrize(("score", "normalizer"), [("scaled_dot", "softmax"), ("general", "entmax15")])
@pytest.mark.quick("scaled_dot-softmax-dense", "general-entmax15-streaming", "scaled_dot-softmax-block_sparse")
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


@on_gpu
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


@on_gpu
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


# Numbers of any width, sequences of any length


@every_implementation
def test_float64_stays_float64_and_narrower_numbers_are_computed_in_float32(implementation, x64):
    widths = {"float64": "float64", "float32": "float32", "bfloat16": "float32", "float16": "float32"}
    for dtype, inside in widths.items():
        this = draw_problem(BY_NAME["additive"], dtype=dtype)
        names = ("lse", "weights", "entropy", "max", "distance", "key_mass", "scores", "logits")
        call = solver(this, names, implementation=implementation)
        result = jax.eval_shape(call, this.inputs)
        assert result.output.dtype == dtype
        assert {getattr(result, name).dtype.name for name in names if name != "logits"} == {inside}, dtype


@on_gpu
@every_implementation
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.quick("float16-dense", "bfloat16-streaming", "float16-block_sparse")
def test_low_precision_errs_at_most_twice_as_far_as_the_naive_computation(dtype, implementation):
    """As flash attention's authors test: the error against float64 is compared with that of low precision."""
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
    result = jax.jit(lambda *inputs: both(ours, *inputs))(query, key, value)
    error = lambda x, y: np.abs(np.asarray(x, np.float64) - np.asarray(y)).max()  # noqa: E731
    for mine, theirs, true in zip(result, rough, exact, strict=True):
        assert mine.dtype == dtype
        assert error(mine, true) <= 2 * error(theirs, true)


@every_implementation
@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (1, 130), (33, 2)])
def test_any_lengths_will_do(queries, keys, implementation, x64):
    size = Size((), T=queries, S=keys, N=2, K=1, D=3, E=3, V=2, A=2)
    sample = Sample("scaled_dot", "no_mods", "no_mask", "softmax", size, group=1, block_size=(16, 32))
    result = solve(sample.problem(), returns=sample.returns(), implementation=implementation, block_size=(16, 32))
    assert_is_oracle(sample, result, ACCURATE)


@on_gpu
@every_implementation
def test_lse_has_the_weights_for_gradient(implementation):
    def lse(logits):
        key = logits[:, None, None]  # against the query 1, its score is the logit itself
        how = {"implementation": implementation, "block_size": (1, 4)}
        result = attention(jnp.ones((1, 1, 1)), key, key, returns=("lse", "weights"), **how)
        return result.lse[0, 0], result.weights[0, 0]

    logits = jnp.asarray(np.random.default_rng(0).standard_normal(6), jnp.float32)
    slope, weights = jax.jit(jax.grad(lse, has_aux=True))(logits)
    assert_close(slope, weights, "float32")


@on_gpu
@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.parametrize("block_size", [(2, 3), (5, 16)], ids=str)
@pytest.mark.quick("(2, 3)-streaming", "(5, 16)-block_sparse")
def test_dropout_does_not_depend_on_blocks(implementation, block_size):
    """The values are unit vectors, so that the output is the weights after dropout."""
    rng = np.random.default_rng(0)
    query, key = (jnp.asarray(rng.standard_normal((2, n, 2, 4)), jnp.float32) for n in (9, 11))
    value = jnp.broadcast_to(jnp.eye(11)[None, :, None], (2, 11, 2, 11))

    def left(implementation, block_size=None):
        def number(query):
            how = {"implementation": implementation, "block_size": block_size, "mask": masks.causal(3)}
            result = attention(query, key, value, dropout_rate=0.4, rng=jax.random.key(7), **how)
            return jnp.sin(result).sum(), result

        slope, result = jax.jit(jax.grad(number, has_aux=True))(query)
        return result, slope

    expected, expected_slope = left("dense")
    result, slope = left(implementation, block_size)
    np.testing.assert_array_equal(result == 0.0, expected == 0.0)
    assert_close(result, expected, "float32")
    assert_close(slope, expected_slope, "float32")

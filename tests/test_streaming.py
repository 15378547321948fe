"""Properties specific to blocks: memory, transformations of the call, schedules of blocks, passed positions."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from tolerances import assert_close

from attnlab.functional import extras, masks, normalizers, scores
from attnlab.functional.attention import attention, plan
from attnlab.functional.backends import BACKENDS
from attnlab.functional.backends.block_schedule import BlockGrid, block_grid, unmasked_blocks
from attnlab.functional.backends.call import Head

pytestmark = pytest.mark.optimized

BLOCKWISE = [name for name in BACKENDS if name != "dense"]
HOW = {"block_size": (2, 3)}


# Memory


def temporary_bytes(length: int, backward: bool, **options) -> int:
    shape = jax.ShapeDtypeStruct((1, length, 8, 64), jnp.float32)
    function = lambda *inputs: attention(*inputs, **options)  # noqa: E731
    if backward:
        function = jax.grad(lambda *inputs: attention(*inputs, **options).sum(), argnums=(0, 1, 2))
    return jax.jit(function).lower(shape, shape, shape).compile().memory_analysis().temp_size_in_bytes


@pytest.mark.parametrize(("backward", "megabytes"), [(False, 40), (True, 80)])
def test_memory_is_linear_in_the_length_and_small(backward, megabytes):
    half, whole = (temporary_bytes(length, backward, implementation="streaming") for length in (2048, 4096))
    assert whole <= megabytes * 2**20
    assert whole <= 2 * half


@pytest.mark.slow
@pytest.mark.parametrize(("backward", "megabytes"), [(False, 40), (True, 80)])
@pytest.mark.parametrize("mask", [masks.causal(), masks.sliding_window(256, 0)], ids=["causal", "window"])
def test_memory_with_a_mask(mask, backward, megabytes):
    assert temporary_bytes(4096, backward, implementation="block_sparse", mask=mask) <= megabytes * 2**20


def test_statistics_store_no_row_of_every_query():
    """The 4096 × 4096 weights of 8 heads would need 512 MiB."""
    returns = ("lse", "max", "entropy", "distance", "key_mass", extras.top_k(4))
    assert temporary_bytes(4096, False, implementation="streaming", returns=returns) <= 64 * 2**20


@pytest.mark.parametrize("implementation", ["streaming", "block_sparse"])
@pytest.mark.parametrize("length", [1, 5, 7, 8])
@pytest.mark.quick("7-streaming", "5-block_sparse")
def test_rows_that_pad_a_block_count_in_no_statistic(length, implementation):
    """The last block repeats its last query, which must not count in the mass of the keys."""
    query, key, value = (jax.random.normal(jax.random.key(i), (length, 2, 4)) for i in range(3))
    options = {"implementation": implementation, "block_size": (4, 3), "returns": ("key_mass", "weights")}
    for normalizer in (normalizers.softmax, normalizers.entmax15):
        call = jax.jit(lambda *inputs, by=normalizer: attention(*inputs, normalizer=by, **options))
        result = jax.tree.map(np.asarray, call(query, key, value))
        np.testing.assert_allclose(result.key_mass, result.weights.sum(axis=-2), rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(result.key_mass.sum(axis=-1), length, rtol=1e-6)


# A call is transformed like any function


def problem():
    rng = np.random.default_rng(0)
    draw = lambda *shape: jnp.asarray(rng.standard_normal(shape))  # noqa: E731
    arrays = {"query": draw(3, 5, 4, 3), "key": draw(3, 7, 2, 3), "value": draw(3, 7, 2, 2)}
    return arrays | {"lengths": jnp.array([7, 0, 4]), "w": draw(3, 3, 3), "sink": draw(3)}


def slopes_of(implementation: str, **options):
    """Return the output and its derivatives by all learnable arrays, as a function of one example."""

    def number(learned, lengths):
        query, key, value, w, sink = learned
        mask = masks.lengths(lengths) & masks.causal("lower_right")
        score, normalizer = Partial(scores.general, w=w), normalizers.softmax_with_sink(sink)
        parts = {"score": score, "mask": mask, "normalizer": normalizer}
        result = attention(query, key, value, **parts, implementation=implementation, **HOW, **options)
        return jnp.sin(result).sum(), result

    def slopes(query, key, value, lengths, w, sink):
        return jax.grad(number, has_aux=True)((query, key, value, w, sink), lengths)

    return slopes


WHICH = {
    "everything": ("query", "key", "value", "lengths", "w", "sink"),
    "query": ("query",),
    "key_and_value": ("key", "value"),
    "mask": ("lengths",),
    "score": ("w",),
    "sink": ("sink",),
}
FAST = {("streaming", "everything"), ("block_sparse", "mask"), ("dense", "everything")}
MAPS = [
    pytest.param(implementation, which, marks=() if (implementation, which) in FAST else pytest.mark.slow)
    for implementation in BACKENDS
    for which in WHICH
]


@pytest.mark.usefixtures("x64")
class TestTransformations:
    @pytest.mark.parametrize(("implementation", "which"), MAPS)
    def test_vmap_over_any_argument_equals_the_loop(self, implementation, which):
        arrays, mapped = problem(), WHICH[which]
        fixed = {name: x if name in mapped else x[2] for name, x in arrays.items()}
        axes = tuple(0 if name in mapped else None for name in arrays)
        function = slopes_of(implementation)
        result = jax.jit(jax.vmap(function, in_axes=axes))(*fixed.values())
        dense = jax.jit(slopes_of("dense"))
        for number in range(3):
            expected = dense(*(x[number] if name in mapped else x for name, x in fixed.items()))
            for mine, true in zip(jax.tree.leaves(result), jax.tree.leaves(expected), strict=True):
                assert_close(mine[number], true, "float64")

    @pytest.mark.parametrize("implementation", BLOCKWISE)
    @pytest.mark.quick("block_sparse")
    def test_vmap_over_each_batch_axis(self, implementation):
        rng = np.random.default_rng(0)
        query, key, value = (jnp.asarray(rng.standard_normal((2, 3, n, 2, 3))) for n in (4, 5, 5))
        lengths = jnp.asarray(rng.integers(0, 6, (2, 3)))

        def call(query, key, value, lengths):
            return attention(query, key, value, mask=masks.lengths(lengths), implementation=implementation, **HOW)

        expected = jax.jit(call)(query, key, value, lengths)
        for axis in (0, 1):
            mapped = jax.jit(jax.vmap(call, in_axes=axis, out_axes=axis))
            assert_close(mapped(query, key, value, lengths), expected, "float64")

    @pytest.mark.slow
    @pytest.mark.parametrize("implementation", BLOCKWISE)
    def test_scan_with_remat_equals_the_loop(self, implementation):
        function = slopes_of(implementation)
        arrays = tuple(problem().values())
        learned, lengths = (*arrays[:3], *arrays[4:]), arrays[3]

        @jax.checkpoint
        def number(learned, lengths):
            query, key, value, w, sink = learned
            return function(query, key, value, lengths, w, sink)[1]

        def total(learned):
            step = lambda sum, xs: (sum + jnp.sin(number(*xs)).sum(), None)  # noqa: E731
            return jax.lax.scan(step, jnp.zeros(()), (learned, lengths))[0]

        result = jax.jit(jax.grad(total))(learned)
        dense = jax.jit(slopes_of("dense"))
        for number_of in range(3):
            expected = dense(*(x[number_of] for x in arrays))[0]
            for mine, true in zip(result, expected, strict=True):
                assert_close(mine[number_of], true, "float64")

    @pytest.mark.parametrize("implementation", BLOCKWISE)
    def test_masks_use_the_passed_positions(self, implementation):
        """A decoder that continues at position 4 has the rows of the whole sequence."""
        query, key, value = (x[0] for x in list(problem().values())[:3])
        mask = masks.causal(0) & masks.sliding_window(3, 0, 0)
        call = jax.jit(
            lambda query, at: attention(
                query, key, value, mask=mask, query_positions=at, implementation=implementation, **HOW
            )
        )
        whole = jax.jit(lambda query: attention(query, key, value, mask=mask, implementation="dense"))(query)
        assert_close(call(query[2:], jnp.arange(2, 5)), whole[2:], "float64")

    @pytest.mark.parametrize("implementation", BLOCKWISE)
    def test_an_empty_row_with_no_sink_at_all(self, implementation):
        query, key, value = (x[0] for x in list(problem().values())[:3])

        def call(sink):
            normalizer, mask = normalizers.softmax_with_sink(sink), masks.causal(-1)
            how = {"implementation": implementation, **HOW}
            result = attention(query, key, value, normalizer=normalizer, mask=mask, **how)
            return jnp.sin(result).sum(), result

        slope, result = jax.jit(jax.grad(call, has_aux=True))(jnp.asarray(-jnp.inf))
        assert (result[0] == 0.0).all()
        assert jnp.isfinite(result).all()
        assert slope == 0.0


# Blocks


@pytest.mark.parametrize(("length", "block"), [(1, 5), (5, 5), (6, 5), (300, 256), (129, 1)])
def test_a_grid_holds_everything_once(length, block):
    grid = block_grid(length, block)
    assert isinstance(grid, BlockGrid)
    assert grid.size <= block
    assert 0 <= grid.padding < grid.count
    rows = jnp.arange(length)
    np.testing.assert_array_equal(grid.join(grid.split(rows)), rows)
    assert set(grid.split_positions(np.arange(length)).ravel().tolist()) == set(range(length))


def test_unmasked_blocks_are_known_at_compile_time_under_vmap_too():
    """A mask without arrays is classified in NumPy for any mapped axes."""
    seen = []
    mask = masks.sliding_window(256, 0).fitted(4096, 4096, 1)

    def one(query):
        head = Head(query, query, query, *[None] * 3, mask, *[None] * 3, jnp.int32(0), jnp.int32(0))
        seen.append(unmasked_blocks(head, block_grid(4096, 512), block_grid(4096, 256)))
        return query

    jax.eval_shape(jax.vmap(one), jax.ShapeDtypeStruct((3, 4096, 64), jnp.float32))
    (indices,) = seen
    assert all(isinstance(x, np.ndarray) for x in indices)
    assert (indices.full_counts + indices.partial_counts).max() <= 3
    shape = jax.ShapeDtypeStruct((1, 4096, 8, 64), jnp.float32)
    computed = plan(shape, shape, shape, mask=masks.sliding_window(256, 0)).computed
    assert computed is not None
    assert computed < 0.25

"""Blocks of masks that are empty or full: what is classified so is, and what that saves."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_recipes import ATOMS, RECIPES, cook

from attnlab.functional import masks

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]


def blocks_of(positions: np.ndarray, size: int) -> np.ndarray:
    """Divide positions into blocks; the last is padded with its last position."""
    short = -len(positions) % size
    return np.concatenate([positions, np.repeat(positions[-1:], short)]).reshape(-1, size)


def truly(truth: np.ndarray, query_blocks: np.ndarray, key_blocks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each block, whether any pair may attend and whether all may."""
    pairs = [[truth[np.ix_(rows, columns)] for columns in key_blocks] for rows in query_blocks]
    return np.array([[p.any() for p in row] for row in pairs]), np.array([[p.all() for p in row] for row in pairs])


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    recipe=RECIPES,
    queries=st.sampled_from([1, 7]),
    keys=st.sampled_from([1, 9]),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    order=st.sampled_from(["straight", "shuffled", "some"]),
)
def test_blocks_classified_as_empty_or_full_are(recipe, queries, keys, sizes, order):
    mask, truth = cook(recipe, queries, keys)
    rng = np.random.default_rng(queries)
    rows, columns = np.arange(queries), np.arange(keys)
    if order != "straight":
        rows, columns = rng.permutation(rows), rng.permutation(columns)
    if order == "some":
        rows, columns = rows[: 1 + queries // 2], columns[: 1 + keys // 2]
    blocks = blocks_of(rows, sizes[0]), blocks_of(columns, sizes[1])
    some, every = truly(truth, *blocks)
    may_some, must_every = mask.classify(*blocks)
    assert may_some.shape == must_every.shape == some.shape
    assert not (some & ~np.asarray(may_some)).any()
    assert not (np.asarray(must_every) & ~every).any()
    assert mask.structured or np.all(may_some)
    if not jax.tree.leaves(mask):
        assert type(may_some) is type(must_every) is np.ndarray
    assert repr(mask)


def test_every_way_to_make_a_mask_is_in_the_recipes():
    made = {name for name in masks.__all__ if name[0].islower()}
    twins = {"first_tokens", "traced_offset", "traced_window", "window_of_one_side"}
    assert made - {"big_bird"} == ATOMS.keys() - twins


EXACT = {
    "causal": ("causal", (0,)),
    "causal_offset": ("causal", (-3,)),
    "sliding_window": ("sliding_window", (5, 2, 1)),
    "traced_offset": ("traced_offset", (-3,)),
    "traced_window": ("traced_window", (5, 2, 1, {0, 2})),
    "window_to_the_left": ("window_of_one_side", (3, False, 1, set())),
    "traced_window_to_the_right": ("window_of_one_side", (3, True, 1, {1})),
    "prefix": ("prefix", (7, False)),
    "traced_prefix": ("prefix", (7, True)),
    "lengths": ("lengths", (13, 6)),
    "block_layout": ("block_layout", (3, 4, 4, False)),
    "narrow_block_layout": ("block_layout", (3, 3, 2, True)),
    "array": ("array", (3,)),
    "global_tokens": ("global_tokens", ([2, 9], False, 0)),
    "strided": ("strided", (3, 0)),
    "fixed": ("fixed", (4, 1, 0)),
    "dilated": ("dilated", (4, 3, 0)),
    "segments": ("segments", (3, True)),
}


@pytest.mark.parametrize("name", EXACT)
def test_contiguous_blocks_are_classified_exactly(name):
    mask, truth = cook(EXACT[name], 16, 20)
    blocks = blocks_of(np.arange(16), 4), blocks_of(np.arange(20), 4)
    some, every = truly(truth, *blocks)
    found_some, found_every = mask.classify(*blocks)
    np.testing.assert_array_equal(found_some, some)
    exact_full = name not in ("strided", "fixed", "dilated")
    np.testing.assert_array_equal(found_every if exact_full else found_every & ~every, every if exact_full else False)


def test_caches_of_different_lengths_beside_an_array():
    """Two queries of each example continue 1 and 3 tokens; the array is of these queries, not of the whole text."""
    where = jnp.asarray(np.random.default_rng(0).random((2, 2, 6)) < 0.7)
    lengths, widths = np.array([1, 3]), np.array([1, 9])

    @jax.jit
    def call(lengths, widths):
        near = masks.sliding_window(widths, None, lengths)
        return (masks.causal(lengths) & near & masks.array(where, "b q k")).dense(2, 6)

    row, column = np.arange(2)[:, None] + lengths[:, None, None], np.arange(6)[None, :]
    expected = (column <= row) & (column >= row - widths[:, None, None]) & where
    np.testing.assert_array_equal(call(lengths, widths), expected)
    with pytest.raises(ValueError, match=r"batch axes \(3,\), .*the inputs have \(2,\)"):
        masks.causal(jnp.arange(3)).batch_axes((2,))


def test_a_window_leaves_few_blocks():
    blocks = blocks_of(np.arange(8192), 256)
    for mask, most in [(masks.sliding_window(256, 0), 2), (masks.sliding_window(128, 128), 3)]:
        some, _ = mask.fitted(8192, 8192).classify(blocks, blocks)
        assert some.sum(axis=1).max() == most
    assert masks.sliding_window(256, 0).sparsity(8192, 8192, 256) == 1 - (2 * 32 - 1) / 32**2
    assert masks.causal().sparsity(8192, 8192, (128, 256)) == 1 - (32 * 33) / (64 * 32)


def test_blocks_of_segments_are_classified_in_a_compiled_function():
    blocks = blocks_of(np.arange(8), 2)

    @jax.jit
    @chex.assert_max_traces(n=1)
    def classify(mask, blocks):
        return mask.classify(blocks, blocks, jnp.int32(0))

    for ids in ([0, 0, 1, 1, 1, 1, 2, 2], [0, 0, 0, 0, 5, 5, 5, 5]):
        ids = jnp.asarray(ids, jnp.int32)
        mask = masks.segments(ids) & masks.causal(0) & masks.lengths(jnp.int32(7))
        for place in (blocks, jnp.asarray(blocks, jnp.int32)):
            some, every = truly(np.asarray(mask.dense(8, 8)), blocks, blocks)
            found_some, found_every = classify(mask, jnp.asarray(place, jnp.int32))
            np.testing.assert_array_equal(found_some, some)
            np.testing.assert_array_equal(found_every, every)


@pytest.mark.parametrize(
    ("make", "structured", "by_head"),
    [
        (lambda fn, c: c, True, False),
        (lambda fn, c: fn, False, True),
        (lambda fn, c: c & fn, True, True),
        (lambda fn, c: c | fn, False, True),
        (lambda fn, c: ~(c & fn), False, True),
        (lambda fn, c: ~(c | fn), True, True),
        (lambda fn, c: ~c | c, True, False),
        (lambda fn, c: masks.array(jnp.ones((2, 2, 2), bool), "h q k"), True, True),
        (lambda fn, c: masks.array(jnp.ones((2, 2), bool)), True, False),
        (lambda fn, c: masks.block_layout(np.ones((2, 2, 2), bool), 3, "h q k") & c, True, True),
        (lambda fn, c: masks.big_bird(3, seed=0, heads=2), True, True),
        (lambda fn, c: masks.big_bird(3, seed=0), True, False),
    ],
)
def test_what_a_planner_may_ask(make, structured, by_head):
    mask = make(masks.from_fn(lambda i, j, head: i > j), masks.causal())
    assert (mask.structured, mask.by_head) == (structured, by_head)


@pytest.mark.parametrize("traced", [True, False])
def test_each_head_has_its_own_blocks(traced):
    layout = np.array([[[True, False], [True, True]], [[False, False], [False, True]]])
    mask = masks.block_layout(jnp.asarray(layout) if traced else layout, 2, "h q k")
    blocks = blocks_of(np.arange(4), 2)
    for head in range(2):
        for number in (head, jnp.int32(head)):
            some, every = mask.classify(blocks, blocks, number)
            np.testing.assert_array_equal(some, layout[head])
            np.testing.assert_array_equal(every, layout[head])
        np.testing.assert_array_equal(mask.dense(4, 4, head), layout[head].repeat(2, 0).repeat(2, 1))


def test_new_documents_compile_nothing_anew():
    jax.clear_caches()

    @jax.jit
    @chex.assert_max_traces(n=1)
    def count(mask):
        return mask.dense(4, 4).sum()

    def packed(ids, length, seen):
        return (masks.segments(ids) & masks.causal() & masks.lengths(length)) | masks.prefix(seen)

    counts = [int(count(packed(jnp.array(ids), jnp.int32(3), jnp.int32(0)))) for ids in ([0, 0, 1, 1], [0, 0, 0, 1])]
    assert counts == [5, 6]
    assert int(count(packed(jnp.array([0, 1, 2, 3]), jnp.int32(4), jnp.int32(1)))) == 4 + 3


def test_a_custom_mask_is_classified_conservatively():
    @jax.tree_util.register_static
    class Diagonal(masks.Mask):
        def __call__(self, positions):
            return positions.rows == positions.columns

    mask = Diagonal()
    blocks = blocks_of(np.arange(4), 2)
    assert mask.classify(blocks, blocks)[0].all()
    assert not mask.classify(blocks, blocks)[1].any()
    assert (mask.structured, mask.by_head) == (False, True)
    assert repr(mask & masks.prefix(1)).startswith("Diagonal() & prefix(1)")
    np.testing.assert_array_equal((mask & masks.prefix(1)).dense(2, 2), [[True, False], [False, False]])

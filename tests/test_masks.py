"""Masks: their algebra against truth values, their alignment, and their errors."""

import jax
import jax.numpy as jnp
import numpy as np
import oracle_masks as book
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.tree_util import Partial
from mask_recipes import RECIPES, cook, table
from rows import MASKS, SIZES, Size

from attnlab.functional import masks
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]


def test_big_bird_sees_its_window_the_global_blocks_and_some_at_random():
    mask = masks.big_bird(2, window=3, global_blocks=2, random=2, seed=0, heads=2)
    result = np.stack([mask.dense(20, 20, head) for head in range(2)])
    layout = result[:, ::2, ::2]
    np.testing.assert_array_equal(result, layout.repeat(2, 1).repeat(2, 2))
    a, b = np.indices((10, 10))
    error = (abs(a - b) <= 1) | np.isin(a, [0, 9]) | np.isin(b, [0, 9])
    assert layout[:, error].all()
    assert ((layout & ~error).sum(-1)[:, 1:-1] == 2).all()
    assert (layout[0] != layout[1]).any()
    np.testing.assert_array_equal(result[0], masks.big_bird(2, window=3, random=2, seed=0).dense(20, 20))


def test_random_blocks_are_the_same_for_the_same_seed():
    drawn = [masks.random_blocks(3, 2, seed=seed).dense(17, 14) for seed in (0, 0, 1)]
    assert (np.asarray(drawn[0])[::3, ::3].sum(1) == 2).all()
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(recipe=RECIPES, queries=st.sampled_from([1, 3]), keys=st.sampled_from([1, 4]))
def test_algebra_is_that_of_truth_values(recipe, queries, keys):
    mask, truth = cook(recipe, queries, keys)
    np.testing.assert_array_equal(mask.dense(queries, keys), truth)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
@pytest.mark.parametrize(
    "size", [pytest.param(size, marks=() if size in SIZES[1:3] else pytest.mark.slow) for size in SIZES], ids=str
)
def test_dense_equals_the_predicate(name, size: Size):
    mask, may = MASKS[name](np.random.default_rng(1), size)
    for head in range(size.N):
        result = np.asarray(mask.dense(size.T, size.S, head))
        full = np.broadcast_to(result, (*size.batch, size.T, size.S))
        expected = [may(place[:-2], head, place[-2], place[-1]) for place in np.ndindex(full.shape)]
        np.testing.assert_array_equal(full, np.reshape(expected, full.shape))


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
def test_a_block_is_a_part_of_the_whole(name):
    size = Size((), T=5, S=7, N=2, K=1, D=1, E=1, V=1, A=1)
    mask = MASKS[name](np.random.default_rng(2), size)[0].fitted(5, 7)
    rows, columns = np.array([4, 2, 2]), np.array([3, 6, 0, 4])
    block = mask(Positions(*(jnp.asarray(x, jnp.int32) for x in (rows, columns, 1, 0))))
    np.testing.assert_array_equal(block, np.asarray(mask.dense(5, 7, 1))[np.ix_(rows, columns)])


def test_causal_alignments_are_the_two_corners():
    lower, upper, shifted = (
        masks.causal(a).dense(2, 4).astype(int).tolist() for a in ("lower_right", "upper_left", -1)
    )
    assert lower == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert upper == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert shifted == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert masks.causal().dense(2, 2).astype(int).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize("name", ["sliding_window", "dilated", "strided", "fixed", "global_tokens"])
def test_every_mask_that_compares_positions_needs_an_alignment(name):
    arguments = {"sliding_window": (2, 0), "dilated": (2, 1), "strided": (2,), "fixed": (2, 1)}.get(name, (1,))
    make, truth = getattr(masks, name), getattr(book, name)
    with pytest.raises(ValueError, match=f"{name}: 3 queries and 5 keys .*alignment"):
        make(*arguments).dense(3, 5)
    with pytest.raises(ValueError, match=f"{name}: evaluated before"):
        make(*arguments).classify(np.array([[0]]), np.array([[0]]))
    with pytest.raises(ValueError, match=f"{name}: alignment .*'middle'"):
        make.__wrapped__(*arguments, "middle")
    output = (range(1),) if name == "global_tokens" else arguments
    for alignment, offset in [("lower_right", 2), ("upper_left", 0), (-1, -1)]:
        result = make(*arguments, alignment=alignment).dense(3, 5)
        np.testing.assert_array_equal(result, table(truth(*output, offset=offset), 3, 5))


@pytest.mark.parametrize(
    "mask", [masks.causal(), ~masks.causal() & masks.lengths(3), masks.lengths(3) | masks.causal()]
)
def test_causal_without_alignment_is_refused_for_unequal_lengths(mask):
    with pytest.raises(ValueError, match=r'2 queries and 3 keys .*alignment: "lower_right"'):
        mask.dense(2, 3)


def test_a_mask_is_a_pytree_with_its_lengths_as_leaves():
    mask = masks.causal("lower_right") & ~masks.lengths(jnp.array([1, 2]), queries=jnp.array([3, 4]))
    assert [leaf.tolist() for leaf in jax.tree.leaves(mask)] == [[1, 2], [3, 4]]
    doubled = jax.jit(lambda mask: jax.tree.map(lambda leaf: 2 * leaf, mask))(mask)
    assert jax.tree.structure(doubled) == jax.tree.structure(mask)
    assert [leaf.tolist() for leaf in jax.tree.leaves(doubled)] == [[2, 4], [6, 8]]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: masks.causal.__wrapped__("top_left"), "causal: alignment .*'top_left'"),
        (lambda: masks.causal.__wrapped__(True), "causal: alignment .*True"),
        (lambda: masks.lengths(), "lengths: keys, queries or both"),
        (lambda: masks.lengths(jnp.array([1.0])), "lengths: .*integers.*float32"),
        (lambda: masks.array(jnp.ones((2, 2))), "array: .*boolean.*float32"),
        (lambda: masks.array(jnp.ones((2, 2), bool), "k q"), 'array: axes .*"b h q k"'),
        (lambda: masks.array(jnp.ones((2, 2, 2), bool)), "does not have the axes 'q k'"),
        (lambda: masks.array(jnp.ones(2, bool), "b q k"), "does not have the axes 'b q k'"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(2, 4), "axis k of the mask has size 3"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(3, 3), "axis q of the mask has size 2"),
        (
            lambda: masks.array(jnp.ones((2, 3), bool), "h k").fitted(2, 3, heads=4),
            "axis h of the mask has size 2",
        ),
        (lambda: masks.sliding_window(-1, 0), "sliding_window: left .*0.* -1"),
        (lambda: masks.sliding_window(0, jnp.array([1, -2])), "sliding_window: right .*0.* -2"),
        (lambda: masks.sliding_window(jnp.float32(1), 0), "sliding_window: .*integers.*float32"),
        (lambda: masks.sliding_window(None, None), "sliding_window: left and right .*mask=None"),
        (lambda: masks.causal(2**31 - 1), "causal: .*offset.*2147483647"),
        (lambda: masks.strided(1, jnp.array([0.5])), "strided: .*integers.*float32"),
        (lambda: masks.prefix(2**31), "prefix: n .*2147483647.*2147483648"),
        (lambda: masks.sliding_window.__wrapped__(1.5, 0), r"sliding_window: left .*integer.*1\.5"),
        (lambda: masks.dilated(3, 2), "dilated: window .*even.* 3"),
        (lambda: masks.dilated(2, 0), "dilated: dilation .*1.* 0"),
        (lambda: masks.strided(0), "strided: stride .*1.* 0"),
        (lambda: masks.fixed(2, 3), "fixed: summary .*2.* 3"),
        (lambda: masks.prefix(-1), "prefix: n .*0.* -1"),
        (lambda: masks.prefix(jnp.array([1.0])), "prefix: .*integers.*float32"),
        (lambda: masks.global_tokens([-1]), "global_tokens: .*position.*0.* -1"),
        (lambda: masks.global_tokens(jnp.int32(2)), r"global_tokens: .*\[\*B, g\].*Python integer"),
        (lambda: masks.segments(jnp.int32(2)), r"segments: ids .*\[\*B, T\]"),
        (lambda: masks.segments(jnp.array([1.0])), "segments: .*integers.*float32"),
        (
            lambda: masks.segments(jnp.array([1]), jnp.array([1], jnp.int8)),
            "segments: .*dtype.*int32 and int8",
        ),
        (
            lambda: masks.segments(jnp.array([1, 2])).dense(2, 3),
            "segments: ids for 2 queries and 2 keys.*2 and 3",
        ),
        (lambda: masks.block_layout(np.ones((2, 2)), 2), "block_layout: .*boolean.*float64"),
        (lambda: masks.block_layout(np.ones((2, 2), bool), 2, "k q"), "block_layout: axes .*'k q'"),
        (lambda: masks.block_layout(np.ones((2, 2, 2), bool), 2), "does not have the axes 'q k'"),
        (lambda: masks.block_layout(np.ones((2, 2, 2), bool), 2, "b q k"), "block_layout: .*JAX array.*jnp.asarray"),
        (lambda: masks.block_layout([[True]], 0), "block_layout: block .*1.* 0"),
        (lambda: masks.block_layout([[True]], 2).dense(3, 2), "1 × 1 blocks, but 3 queries and 2 keys make 2 × 1"),
        (
            lambda: masks.block_layout(np.ones((2, 1, 1), bool), 2, "h q k").fitted(2, 2, heads=3),
            "block_layout: .*2 heads.* 3",
        ),
        (lambda: masks.big_bird(2, seed=0).dense(4, 6), "big_bird: .*queries and keys.*4 and 6"),
        (lambda: masks.big_bird(2, window=2, seed=0), "big_bird: window .*odd.* 2"),
        (lambda: masks.big_bird(2, seed=0, heads=2).fitted(4, 4, heads=4), "big_bird: heads .*2.* 4 heads"),
        (
            lambda: masks.random_blocks(2, 1, seed=0).classify(np.array([[0]]), np.array([[0]])),
            "random_blocks: .*number of queries.*fitted",
        ),
        (lambda: masks.causal().map(4, 4, block=0), "block size.* 0 × 0"),
        (
            lambda: masks.from_fn(Partial(lambda x, i, j, head: i > j, map_over(jnp.ones(2), "h"))),
            "from_fn: arrays .*map_over",
        ),
        (
            lambda: masks.lengths(jnp.array([1, 2])).batch_axes((3,)),
            r"mask has batch axes \(2,\), .*the inputs have \(3,\)",
        ),
    ],
)
def test_errors_name_the_mask_and_the_value(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mask_combines_only_with_masks():
    with pytest.raises(TypeError):
        masks.causal() & jnp.ones((2, 2), bool)
    with pytest.raises(TypeError):
        masks.causal() | True

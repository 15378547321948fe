"""Masks: their algebra against plain truth values, their alignment, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rows import MASKS, SIZES, Size

from attnlab.functional import masks

pytestmark = pytest.mark.usefixtures("strict")


RECIPES = st.recursive(
    st.one_of(
        st.tuples(st.just("causal"), st.integers(-5, 5)),
        st.tuples(st.just("lengths"), st.integers(0, 5), st.integers(0, 5)),
        st.tuples(st.just("array"), st.integers(0, 2**32 - 1)),
    ),
    lambda recipe: st.one_of(
        st.tuples(st.just("not"), recipe),
        st.tuples(st.sampled_from(["and", "or"]), recipe, recipe),
    ),
    max_leaves=5,
)


def cook(recipe: tuple, queries: int, keys: int) -> tuple[masks.Mask, np.ndarray]:
    """The mask that the recipe names, and the same as a table of truth values."""
    i, j = np.indices((queries, keys))
    match recipe:
        case ("causal", offset):
            return masks.causal(offset), j <= i + offset
        case ("lengths", real_queries, real_keys):
            return masks.lengths(real_keys, queries=real_queries), (i < real_queries) & (j < real_keys)
        case ("array", seed):
            where = np.random.default_rng(seed).random((queries, keys)) < 0.5
            return masks.array(jnp.asarray(where)), where
        case ("not", inner):
            mask, truth = cook(inner, queries, keys)
            return ~mask, ~truth
        case (operation, one, other):
            left, right = cook(one, queries, keys), cook(other, queries, keys)
            if operation == "and":
                return left[0] & right[0], left[1] & right[1]
            return left[0] | right[0], left[1] | right[1]
    raise AssertionError(recipe)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(recipe=RECIPES, queries=st.sampled_from([1, 3]), keys=st.sampled_from([1, 4]))
def test_algebra_is_that_of_truth_values(recipe, queries, keys):
    mask, truth = cook(recipe, queries, keys)
    np.testing.assert_array_equal(mask.dense(queries, keys), truth)


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_dense_is_the_predicate_written_out(name, size: Size):
    mask, may = MASKS[name](np.random.default_rng(1), size)
    for head in range(size.N):
        found = np.asarray(mask.dense(size.T, size.S, head))
        full = np.broadcast_to(found, (*size.batch, size.T, size.S))
        expected = [may(place[:-2], head, place[-2], place[-1]) for place in np.ndindex(full.shape)]
        np.testing.assert_array_equal(full, np.reshape(expected, full.shape))


@pytest.mark.parametrize("name", [name for name in MASKS if name != "no_mask"])
def test_a_block_is_a_part_of_the_whole(name):
    size = Size((), T=5, S=7, N=2, K=1, D=1, E=1, V=1, A=1)
    mask = MASKS[name](np.random.default_rng(2), size)[0].fitted(5, 7)
    block = mask(jnp.arange(2, 5, dtype=jnp.int32), jnp.arange(3, 6, dtype=jnp.int32), jnp.int32(1))
    np.testing.assert_array_equal(block, mask.dense(5, 7, 1)[2:5, 3:6])


def test_causal_alignments_are_the_two_corners():
    lower, upper, shifted = (
        masks.causal(a).dense(2, 4).astype(int).tolist() for a in ("lower_right", "upper_left", -1)
    )
    assert lower == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert upper == [[1, 0, 0, 0], [1, 1, 0, 0]]
    assert shifted == [[0, 0, 0, 0], [1, 0, 0, 0]]
    assert masks.causal().dense(2, 2).astype(int).tolist() == [[1, 0], [1, 1]]


@pytest.mark.parametrize(
    "mask", [masks.causal(), ~masks.causal() & masks.lengths(3), masks.lengths(3) | masks.causal()]
)
def test_causal_without_alignment_is_refused_for_unequal_lengths(mask):
    with pytest.raises(ValueError, match='2 queries and 3 keys need an alignment: "lower_right"'):
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
        (lambda: masks.causal.__wrapped__("top_left"), "'top_left' is none of"),
        (lambda: masks.causal.__wrapped__(True), "True is none of"),
        (lambda: masks.lengths(), "give the number of keys"),
        (lambda: masks.lengths(jnp.array([1.0])), "whole numbers are needed, not float32"),
        (lambda: masks.array(jnp.ones((2, 2))), "truth values are needed, not float32"),
        (lambda: masks.array(jnp.ones((2, 2), bool), "k q"), 'are not some of "b h q k" in this order'),
        (lambda: masks.array(jnp.ones((2, 2, 2), bool)), "does not have the axes 'q k'"),
        (lambda: masks.array(jnp.ones(2, bool), "b q k"), "does not have the axes 'b q k'"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(2, 4), "axis k of the mask has 3 positions"),
        (lambda: masks.array(jnp.ones((2, 3), bool)).dense(3, 3), "axis q of the mask has 2 positions"),
        (
            lambda: masks.array(jnp.ones((2, 3), bool), "h k").fitted(2, 3, heads=4),
            "axis h of the mask has 2 positions",
        ),
    ],
)
def test_what_cannot_be_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_mask_combines_with_masks_alone():
    with pytest.raises(TypeError):
        masks.causal() & jnp.ones((2, 2), bool)
    with pytest.raises(TypeError):
        masks.causal() | True

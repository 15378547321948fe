"""Masks as text: the expression that makes them, the map of their blocks, and equality of static masks."""

import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

from attnlab.functional import masks

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]


@pytest.mark.parametrize(
    "mask",
    [
        masks.sliding_window(2**30, 0),
        masks.prefix(2**30),
        masks.strided(2**30) & masks.lengths(jnp.int32(3)),
        masks.lengths(jnp.int32(2**30)),
    ],
    ids=lambda mask: mask.expression(),
)
def test_a_pattern_too_long_to_be_seen_is_not_drawn(mask):
    tracemalloc.start()
    assert repr(mask) == mask.expression()
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


def test_static_masks_that_are_equal_are_one_key():
    def made():
        layout = masks.block_layout(np.eye(2, dtype=bool), 2)
        return masks.causal(1) & masks.sliding_window(2, 1) | ~masks.big_bird(2, seed=1) & layout & masks.prefix(3)

    assert made() == made()
    assert hash(made()) == hash(made())
    assert masks.block_layout(np.eye(2, dtype=bool), 2) != masks.block_layout(np.ones((2, 2), bool), 2)


def test_repr_is_the_expression_and_the_map_of_blocks():
    mask = (masks.causal("upper_left") | masks.prefix(1)) & ~masks.segments(jnp.array([0, 0, 1]))
    assert repr(mask) == (
        "(causal('upper_left') | prefix(1)) & ~segments(int32[3])\n"
        "3 × 3 in blocks of 1 × 1: 78% empty, 22% full\n···\n···\n██·"
    )
    batched = masks.causal() & masks.lengths(jnp.array([2, 3]))
    assert repr(batched).splitlines()[:2] == [
        "causal() & lengths(int32[2])",
        "16 × 16 in blocks of 1 × 1, first example: 88% empty, 12% full",
    ]
    assert masks.sliding_window(4, 0).map(8, 8, block=4).splitlines()[1:] == ["▒·", "▒▒"]
    assert batched.map(4, 4, block=2).splitlines()[1:] == ["▒·", "█·"]


@pytest.mark.parametrize(
    ("mask", "expression"),
    [
        (masks.sliding_window(2, 1, "lower_right"), "sliding_window(2, 1, alignment='lower_right')"),
        (masks.strided(4), "strided(4)"),
        (masks.dilated(4, 2), "dilated(4, 2)"),
        (masks.fixed(4, 2, 0), "fixed(4, 2, alignment=0)"),
        (masks.global_tokens([3, 1]), "global_tokens((1, 3))"),
        (masks.global_tokens(jnp.array([[3, 1]])), "global_tokens(int32[1,2])"),
        (masks.random_blocks(4, 2, seed=0, heads=2), "random_blocks(4, 2, seed=0, heads=2)"),
        (masks.block_layout([[True]], 4), 'block_layout(bool[1,1], (4, 4), "q k")'),
        (masks.lengths(jnp.array([3]), jnp.array([2])), "lengths(int32[1], queries=int32[1])"),
        (masks.array(jnp.ones((2, 3), bool), "b k"), 'array(bool[2,3], "b k")'),
        (masks.from_fn(Partial(max, jnp.int32(3))), "from_fn(max, int32[])"),
        (masks.array(jnp.ones((2, 3), bool)) & masks.causal(), 'array(bool[2,3], "q k") & causal()'),
    ],
)
def test_the_expression_is_the_code_of_the_mask(mask, expression):
    assert repr(mask).splitlines()[0] == expression


def test_repr_inside_jit_is_the_expression_alone():
    concrete = masks.lengths(jnp.array([3]))

    @jax.jit
    def call(mask):
        assert repr(mask) == "causal() & lengths(int32[2])"
        assert len(repr(concrete & masks.causal()).splitlines()) > 2
        with pytest.raises(ValueError, match=r"arrays .*inside jit"):
            mask.map(3, 3)
        return mask

    abstract = jax.eval_shape(call, masks.causal() & masks.lengths(jnp.array([2, 3])))
    assert repr(abstract) == "causal() & lengths(int32[2])"
    assert repr(jax.tree.map(lambda _: object(), concrete)) == "lengths(object)"

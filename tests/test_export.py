"""`jax.export` with a symbolic batch or symbolic lengths: the exported function equals the call."""

import jax
import jax.numpy as jnp
import pytest
from jax import export
from tolerances import assert_close

from attnlab.functional import extras, masks, mods, normalizers
from attnlab.functional.attention import attention, attention_weights, plan

BATCH, QUERIES, KEYS = export.symbolic_shape("b, t, s")
SYMBOLIC = {
    "batch": [(BATCH, 5, 2, 4)] * 3,
    "length": [(2, QUERIES, 2, 4)] * 3,
    "both lengths": [(BATCH, QUERIES, 2, 4), (BATCH, KEYS, 2, 4), (BATCH, KEYS, 2, 4)],
}
SIZES = {BATCH: 3, QUERIES: 5, KEYS: 7}
MASKS = {
    "causal": masks.causal,
    "window and global tokens": lambda alignment: (
        masks.sliding_window(2, 1, alignment) | masks.global_tokens(1, alignment) | masks.dilated(2, 2, alignment)
    ),
}


def exported(function, sizes):
    return export.export(jax.jit(function))(*(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in SYMBOLIC[sizes]))


def check(function, sizes):
    shapes = [tuple(SIZES.get(size, size) for size in shape) for shape in SYMBOLIC[sizes]]
    arrays = [jax.random.normal(jax.random.key(n), shape) for n, shape in enumerate(shapes)]
    assert_close(exported(function, sizes).call(*arrays), jax.jit(function)(*arrays), "float32")


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    ("sizes", "implementation"),
    [("batch", None), ("batch", "block_sparse"), ("length", "dense"), ("both lengths", None)],
)
@pytest.mark.quick(
    "batch-None-causal",
    "batch-block_sparse-window and global tokens",
    "length-dense-causal",
    "both lengths-None-window and global tokens",
)
def test_masks_take_symbolic_sizes(sizes, implementation, mask):
    made = MASKS[mask]("lower_right" if sizes == "both lengths" else None) & masks.lengths(jnp.int32(4))
    check(lambda *x: attention(*x, mask=made, implementation=implementation), sizes)


def test_gradients_dropout_mods_and_whole_rows():
    def slopes(*x):
        parts = {"mods": (mods.alibi(2),), "normalizer": normalizers.sparsemax, "mask": masks.causal("upper_left")}
        drop = {"dropout_rate": 0.4, "rng": jax.random.key(0)}
        return jax.grad(lambda query: jnp.sin(attention(query, *x[1:], **parts, **drop)).sum())(x[0])

    check(slopes, "both lengths")


def test_weights_and_extras():
    check(lambda *x: attention_weights(*x[:2]), "both lengths")
    rows = (extras.weights(rows=[1], heads=[0]),)
    check(lambda *x: attention(*x, returns=rows).weights, "batch")


@pytest.mark.parametrize("implementation", ["streaming", "block_sparse"])
def test_blocks_of_symbolic_lengths_are_refused(implementation):
    with pytest.raises(ValueError, match=f'{implementation}.* t queries and s keys.*implementation="dense"'):
        exported(lambda *x: attention(*x, implementation=implementation), "both lengths")


def test_chosen_rows_of_symbolically_many_are_refused():
    with pytest.raises(ValueError, match=r'\bt\b.*returns=\("weights",\)'):
        exported(lambda *x: attention(*x, returns=(extras.weights(rows=[0]),)).weights, "length")


def test_the_plan_marks_values_known_only_at_run_time():
    plans = []
    exported(lambda *x: plans.append(plan(*x, mask=masks.causal("lower_right"))), "both lengths")
    assert plans[0].implementation == "dense"
    assert "t queries and s keys" in str(plans[0])


def test_an_offset_is_needed_where_the_lengths_may_differ():
    with pytest.raises(ValueError, match=r"t queries and s keys .*alignment"):
        exported(lambda *x: attention(*x, mask=masks.causal()), "both lengths")

"""The plan: which backend is chosen, the reason for and against every backend, and errors of the options."""

import jax
import jax.numpy as jnp
import pytest

import attnlab
from attnlab.functional import extras, masks, normalizers
from attnlab.functional.attention import attention, plan
from attnlab.functional.backends import BACKENDS


def shapes(queries: int, keys: int | None = None, heads: int = 8):
    width = lambda length: jax.ShapeDtypeStruct((1, length, heads, 64), jnp.float32)  # noqa: E731
    return width(queries), width(keys or queries), width(keys or queries)


def chosen(*lengths: int, **options) -> str:
    return plan(*shapes(*lengths), **options).implementation


def test_few_logits_are_computed_by_dense():
    assert chosen(16) == "dense"
    assert chosen(1, 4096) == "dense"


def test_many_are_streamed():
    assert chosen(4096) == "streaming"
    assert chosen(4096, normalizer=normalizers.entmax15) == "streaming"


@pytest.mark.parametrize(
    "mask",
    [
        masks.causal(),
        masks.sliding_window(256, 0),
        masks.lengths(jnp.array([100])),
        masks.segments(jnp.zeros((1, 4096), jnp.int32), jnp.zeros((1, 4096), jnp.int32)),
    ],
    ids=["causal", "window", "lengths", "segments"],
)
def test_fully_masked_blocks_are_skipped(mask):
    assert chosen(4096, mask=mask) == "block_sparse"


def test_a_mask_of_unknown_structure_skips_nothing():
    assert chosen(4096, mask=masks.from_fn(lambda i, j, head: i != j)) == "streaming"


def test_the_text_has_the_reason_for_and_against_every_backend():
    lines = str(plan(*shapes(4096), mask=masks.sliding_window(256, 0))).splitlines()
    assert lines[0].startswith("block_sparse: ")
    assert "91%" in lines[0]
    assert any("MiB" in line for line in lines)
    (dense,) = (line for line in lines if line.strip().startswith("not dense: "))
    assert "8 × 4096 × 4096 logits" in dense
    assert "1024.0 MiB" in dense
    (streaming,) = (line for line in lines if line.strip().startswith("not streaming: "))
    assert "masked" in streaming
    assert "whole rows" in str(plan(*shapes(4096), normalizer=normalizers.sparsemax))
    by_name = plan(*shapes(4096), implementation="dense")
    assert str(by_name).startswith("dense: ")
    assert by_name.reasons.keys() == BACKENDS.keys()
    assert all("by name" in reason for reason in by_name.reasons.values())


def test_every_axis_is_named():
    """The plan shows if heads were interpreted as positions, as with arrays of PyTorch."""
    text = str(plan(*shapes(4096, 512, heads=4)))
    assert (
        "examples: 1; queries: 4096 in 4 heads of width 64; keys: 512 in 4 heads of width 64, values of width 64"
        in text
    )
    other_order = jax.ShapeDtypeStruct((3, 8, 128, 64), jnp.float32)
    assert "examples: 3; queries: 8 in 128 heads" in str(plan(other_order, other_order, other_order))
    assert "queries: 0 in 4 heads" in str(plan(*shapes(0, 5, heads=4)))


def test_the_share_of_computed_logits_is_returned_where_it_is_known():
    half = plan(*shapes(4096), mask=masks.causal()).computed
    assert half is not None
    assert 0.5 < half < 0.7
    few = plan(*shapes(4096), mask=masks.sliding_window(256, 0)).computed
    assert few is not None
    assert few < 0.25
    assert plan(*shapes(4096), mask=masks.lengths(jnp.array([5]))).computed is None
    assert plan(*shapes(4096)).computed == 1.0


def test_the_estimate_of_memory_is_linear_but_for_dense():
    streaming = [plan(*shapes(length)).peak_bytes for length in (4096, 8192)]
    dense = [plan(*shapes(length), implementation="dense").peak_bytes for length in (4096, 8192)]
    assert streaming[1] <= 2 * streaming[0]
    assert dense[1] == 4 * dense[0]


def test_it_is_public():
    assert attnlab.plan is plan
    assert attnlab.extras is extras


def unchecked(**options):
    """Return `attention` without the checks of annotations, as users call it."""
    query, key, value = (jnp.ones((2, length, 4, 3)) for length in (5, 6, 6))
    return attention.__wrapped__(query, key, value, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"implementation": "flash"}, "attention: implementation 'flash' .*dense, streaming, block_sparse"),
        ({"returns": ("weight",)}, "attention: returns 'weight' .*weights, scores, logits, lse"),
        ({"returns": "weights"}, r"attention: returns .*\('weights',\)"),
        ({"returns": ("lse", "lse")}, "attention: returns .*lse, lse"),
        ({"returns": (extras.top_k(7),)}, r"extras.top_k: .*\b7\b.*\b6 keys"),
        ({"returns": (extras.weights(rows=[5]),)}, r"extras.weights: .*row 5\b.*0 to 4"),
        ({"returns": (extras.weights(heads=[-1]),)}, "extras.weights: .*head -1.*0 to 3"),
        ({"block_size": (0, 3)}, r"block_size .*\(queries, keys\).*\(0, 3\)"),
        ({"block_size": (3,)}, r"block_size .*\(queries, keys\)"),
        ({"block_size": 3}, r"block_size .*\(queries, keys\)"),
        ({"query_positions": jnp.arange(6)}, r"query_positions .*\[5\] or \[\*B, 5\]"),
        ({"key_positions": jnp.ones(6)}, r"key_positions .*float32\[6\]"),
    ],
)
def test_errors_are_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        unchecked(**options)
    assert "\n" not in str(refused.value)


def test_top_k_needs_a_key():
    with pytest.raises(ValueError, match=r"extras.top_k: k .*\b0$"):
        extras.top_k(0)

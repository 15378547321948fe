"""The plan: which implementation is chosen, what is told of the others, and what is refused."""

import jax
import jax.numpy as jnp
import pytest

import attnlab
from attnlab.functional import extras, masks, normalizers
from attnlab.functional.attention import attention, plan


def shapes(queries: int, keys: int | None = None, heads: int = 8):
    width = lambda length: jax.ShapeDtypeStruct((1, length, heads, 64), jnp.float32)  # noqa: E731
    return width(queries), width(keys or queries), width(keys or queries)


def chosen(*lengths: int, **options) -> str:
    return plan(*shapes(*lengths), **options).implementation


def test_few_logits_are_written_out():
    assert chosen(16) == "dense"
    assert chosen(1, 4096) == "dense"


def test_many_are_not():
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
def test_a_mask_that_may_empty_blocks_is_skipped_by(mask):
    assert chosen(4096, mask=mask) == "block_sparse"


def test_a_mask_that_empties_none_is_not():
    assert chosen(4096, mask=masks.from_fn(lambda i, j, head: i != j)) == "streaming"


def test_the_text_says_what_and_why():
    told = str(plan(*shapes(4096), mask=masks.sliding_window(256, 0)))
    assert told.startswith("block_sparse: the mask lets ")
    assert "of the logits be skipped" in told
    assert "MiB beyond inputs and outputs" in told
    assert "not dense: 8 × 4096 × 4096 logits and as many weights would take 1024.0 MiB" in told
    assert "not streaming: it visits the blocks that the mask empties too" in told
    told = str(plan(*shapes(4096), normalizer=normalizers.sparsemax))
    assert "this normalizer needs whole rows" in told
    told = str(plan(*shapes(4096), implementation="dense"))
    assert told.startswith("dense: asked for")
    assert "not streaming: dense was asked for" in told


def test_every_axis_is_named():
    """A reader from PyTorch sees that the heads were taken for positions."""
    told = str(plan(*shapes(4096, 512, heads=4)))
    assert (
        "examples: 1; queries: 4096 in 4 heads of width 64; keys: 512 in 4 heads of width 64, values of width 64"
        in told
    )
    other_order = jax.ShapeDtypeStruct((3, 8, 128, 64), jnp.float32)
    assert "examples: 3; queries: 8 in 128 heads" in str(plan(other_order, other_order, other_order))
    assert "queries: 0 in 4 heads" in str(plan(*shapes(0, 5, heads=4)))


def test_what_is_visited_is_told_where_it_is_known():
    half = plan(*shapes(4096), mask=masks.causal()).visited
    assert half is not None
    assert 0.5 < half < 0.7
    few = plan(*shapes(4096), mask=masks.sliding_window(256, 0)).visited
    assert few is not None
    assert few < 0.25
    assert plan(*shapes(4096), mask=masks.lengths(jnp.array([5]))).visited is None
    assert plan(*shapes(4096)).visited == 1.0


def test_the_estimate_of_memory_is_linear_but_for_dense():
    streaming = [plan(*shapes(length)).peak_bytes for length in (4096, 8192)]
    dense = [plan(*shapes(length), implementation="dense").peak_bytes for length in (4096, 8192)]
    assert streaming[1] <= 2 * streaming[0]
    assert dense[1] == 4 * dense[0]


def test_it_is_public():
    assert attnlab.plan is plan
    assert attnlab.extras is extras


def unchecked(**options):
    """`attention` as outside the tests, where no annotation is checked and it must see for itself."""
    query, key, value = (jnp.ones((2, length, 4, 3)) for length in (5, 6, 6))
    return attention.__wrapped__(query, key, value, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"implementation": "flash"}, "attention: implementation 'flash' is none of dense, streaming, block_sparse"),
        ({"returns": ("weight",)}, "attention: returns 'weight' is none of weights, scores, logits, lse"),
        ({"returns": "weights"}, r"attention: returns is a tuple: \('weights',\)"),
        ({"returns": ("lse", "lse")}, "attention: returns names something twice: lse, lse"),
        ({"returns": (extras.top_k(7),)}, "extras.top_k: 7 keys asked for, there are 6"),
        ({"returns": (extras.weights(rows=[5]),)}, "there is no row 5; they go from 0 to 4"),
        ({"returns": (extras.weights(heads=[-1]),)}, "there is no head -1; they go from 0 to 3"),
        ({"block_size": (0, 3)}, r"block_size is \(queries, keys\), each at least 1, not \(0, 3\)"),
        ({"block_size": (3,)}, r"block_size is \(queries, keys\)"),
        ({"block_size": 3}, r"block_size is \(queries, keys\)"),
        ({"query_positions": jnp.arange(6)}, r"query_positions are whole numbers \[5\] or \[\*B, 5\]"),
        ({"key_positions": jnp.ones(6)}, r"key_positions are whole numbers .* not float32\[6\]"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(options, message):
    with pytest.raises(ValueError, match=message) as refused:
        unchecked(**options)
    assert "\n" not in str(refused.value)


def test_top_k_needs_a_key():
    with pytest.raises(ValueError, match="k is at least 1, not 0"):
        extras.top_k(0)

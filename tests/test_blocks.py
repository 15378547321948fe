"""Blocks: sequences are divided evenly, and every unmasked logit is covered exactly once."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tolerances import assert_close

from attnlab.functional import masks
from attnlab.functional.attention import attention
from attnlab.functional.backends.block_schedule import KEY_ALIGNMENT, _aligned_schedule, block_grid, block_schedule
from attnlab.functional.backends.call import Head

pytestmark = pytest.mark.optimized


@given(length=st.integers(1, 2000), block=st.integers(1, 600))
def test_a_grid_is_even_and_covers_everything(length, block):
    grid = block_grid(length, block)
    assert grid.size <= block
    assert grid.count == -(-length // block)
    assert 0 <= grid.padding < grid.count


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 4), cells=st.integers(2, 12), width=st.integers(1, 5))
def test_a_schedule_covers_every_unmasked_cell_once(seed, rows, cells, width):
    width = min(width, cells)
    rng = np.random.default_rng(seed)
    some = rng.random((rows, cells)) < rng.random()
    full = some & (rng.random((rows, cells)) < 0.7)
    schedule = _aligned_schedule(some, full, width, cells * KEY_ALIGNMENT)
    for row in range(rows):
        covered = np.zeros(cells * KEY_ALIGNMENT, int)
        for n in range(schedule.full_counts[row]):
            start = schedule.full[row, n]
            covered[start : start + schedule.block] += 1
            assert full[row, start // KEY_ALIGNMENT : start // KEY_ALIGNMENT + width].all()
        for n in range(schedule.partial_counts[row]):
            start, first = schedule.partial[row, n], schedule.first[row, n]
            assert 0 <= start <= first < start + schedule.block <= cells * KEY_ALIGNMENT
            covered[first : start + schedule.block] += 1
        covered = covered.reshape(cells, KEY_ALIGNMENT)
        assert (covered[some[row]] == 1).all()
        assert covered.max(initial=0) <= 1


def test_a_window_is_one_block_per_row_of_blocks():
    mask = masks.sliding_window(255, 0).fitted(4096, 4096)
    shapes = {"query": np.empty((4096, 0)), "key": np.empty((4096, 0)), "mask": mask, "head_index": 0}
    head = Head(**{field.name: None for field in dataclasses.fields(Head)} | shapes)
    schedule = block_schedule(head, block_grid(4096, 128), 384, skip=True)
    assert (schedule.steps, schedule.padded) == (32, 4096)
    assert block_schedule(head, block_grid(4096, 128), 128, skip=True).steps == 93


MASKS = {
    "window": masks.sliding_window(200, 40),
    "causal": masks.causal(),
    "prefix": masks.causal() | masks.prefix(300),
    "global": masks.sliding_window(20, 0) | masks.global_tokens(3),
    "big_bird": masks.big_bird(64, seed=0),
    "nothing for some": masks.causal(-200),
}


@functools.cache
def output_and_slopes(name: str, implementation: str, block: tuple[int, int] | None = None):
    query, key, value = (jax.random.normal(jax.random.key(seed), (640, 1, 8)) for seed in range(3))

    def number(query, key, value):
        how = {"mask": MASKS[name], "implementation": implementation, "block_size": block}
        output = attention(query, key, value, **how)
        return jnp.sin(output).sum(), output

    slopes, output = jax.jit(jax.grad(number, (0, 1, 2), has_aux=True))(query, key, value)
    return output, slopes


@pytest.mark.parametrize("block", [(128, 384), (256, 256), (100, 128)], ids=str)
@pytest.mark.parametrize("name", MASKS)
@pytest.mark.quick(
    "window-(128, 384)",
    "causal-(256, 256)",
    "prefix-(100, 128)",
    "global-(100, 128)",
    "big_bird-(256, 256)",
    "nothing for some-(128, 384)",
)
def test_aligned_schedules_equal_dense(name, block):
    output, slopes = output_and_slopes(name, "block_sparse", block)
    expected, expected_slopes = output_and_slopes(name, "dense")
    assert_close(output, expected, "float32")
    for schedule, of_dense in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(schedule, of_dense, rtol=1e-4, atol=2e-6)

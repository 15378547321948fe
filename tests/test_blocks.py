"""Blocks: sequences are cut evenly, and what a mask lets be seen is covered once, from where it begins."""

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
from attnlab.functional.blocks import GRAIN, _runs, cut, visits
from attnlab.functional.inputs import Inputs


@given(length=st.integers(1, 2000), block=st.integers(1, 600))
def test_a_cut_is_even_and_holds_everything(length, block):
    pieces = cut(length, block)
    assert pieces.size <= block
    assert pieces.count == -(-length // block)
    assert 0 <= pieces.padding < pieces.count


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1), rows=st.integers(1, 4), grains=st.integers(2, 12), width=st.integers(1, 5))
def test_runs_cover_every_grain_that_may_be_seen_once(seed, rows, grains, width):
    width = min(width, grains)
    rng = np.random.default_rng(seed)
    some = rng.random((rows, grains)) < rng.random()
    full = some & (rng.random((rows, grains)) < 0.7)
    found = _runs(some, full, width, grains * GRAIN)
    for row in range(rows):
        covered = np.zeros(grains * GRAIN, int)
        for n in range(found.full_counts[row]):
            start = found.full[row, n]
            covered[start : start + found.block] += 1
            assert full[row, start // GRAIN : start // GRAIN + width].all()
        for n in range(found.partial_counts[row]):
            start, first = found.partial[row, n], found.first[row, n]
            assert 0 <= start <= first < start + found.block <= grains * GRAIN
            covered[first : start + found.block] += 1
        covered = covered.reshape(grains, GRAIN)
        assert (covered[some[row]] == 1).all()
        assert covered.max(initial=0) <= 1


def test_a_window_is_one_block_a_row_of_blocks():
    mask = masks.sliding_window(255, 0).fitted(4096, 4096)
    shapes = {"query": np.empty((4096, 0)), "key": np.empty((4096, 0)), "mask": mask, "head": 0}
    head = Inputs(**dict.fromkeys(Inputs._fields) | shapes)
    found = visits(head, cut(4096, 128), 384, skip=True)
    assert (found.steps, found.padded) == (32, 4096)
    assert visits(head, cut(4096, 128), 128, skip=True).steps == 93


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
def test_runs_give_what_dense_gives(name, block):
    output, slopes = output_and_slopes(name, "block_sparse", block)
    expected, expected_slopes = output_and_slopes(name, "dense")
    assert_close(output, expected, "float32")
    for found, of_dense in zip(slopes, expected_slopes, strict=True):
        np.testing.assert_allclose(found, of_dense, rtol=1e-4, atol=2e-6)

"""Merging: attention over parts of the keys, merged, equals attention over all keys."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from tolerances import assert_close

import attnlab
from attnlab.functional import masks, mods, normalizers
from attnlab.functional.attention import AttentionOutput, attention
from attnlab.functional.merge import merge
from attnlab.functional.parts import map_over

pytestmark = pytest.mark.optimized

SPLITS = slice(0, 2), slice(2, 3), slice(3, 7)
LENGTHS = jnp.array([7, 2, 0])


def draw(seed: int, *shape: int, dtype="float64"):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), dtype)


def problem(dtype="float64"):
    return draw(0, 3, 5, 4, 3, dtype=dtype), draw(1, 3, 7, 2, 3, dtype=dtype), draw(2, 3, 7, 2, 2, dtype=dtype)


def parts_of(query, key, value, **options):
    for at in SPLITS:
        where = {"key_positions": jnp.arange(7)[at], "mask": masks.lengths(LENGTHS), "mods": (mods.alibi(4),)}
        yield attention(query, key[:, at], value[:, at], **where, returns=("lse", "max"), **options)


@jax.jit
def merged(query, key, value, sink=None):
    return merge(tuple(parts_of(query, key, value)), sink=sink)


def whole(query, key, value, normalizer=normalizers.softmax):
    mask = masks.lengths(LENGTHS)
    return attention(query, key, value, mask=mask, mods=(mods.alibi(4),), normalizer=normalizer, returns=("lse", "max"))


@pytest.mark.usefixtures("strict", "x64")
class TestMerge:
    def test_equals_attention_over_all_keys(self):
        result, expected = merged(*problem()), jax.jit(whole)(*problem())
        for name in ("output", "lse", "max"):
            assert_close(getattr(result, name), getattr(expected, name), "float64")

    def test_a_sink_is_passed_to_merge(self):
        sink = jnp.array([0.5, -1.0, 2.0, -jnp.inf])
        expected = jax.jit(lambda *inputs: whole(*inputs, normalizers.softmax_with_sink(map_over(sink, "h"))))
        assert_close(merged(*problem(), sink).output, expected(*problem()).output, "float64")

    def test_differentiates_twice_though_parts_are_empty(self):
        @jax.jit
        def number(lse, first, second, sink):
            parts = AttentionOutput(first, lse=lse[0]), AttentionOutput(second, lse=lse[1])
            result = merge(parts, sink=sink)
            return jnp.sin(result.output).sum() + jnp.sin(jnp.where(jnp.isfinite(result.lse), result.lse, 0.0)).sum()

        first, second, sink = draw(1, 3, 2, 4), draw(2, 3, 2, 4), jnp.float64(0.3)
        check_grads(number, (draw(0, 2, 2, 3), first, second, sink), order=2, eps=1e-5, rtol=1e-6, atol=1e-6)
        empty = jnp.full((2, 2, 3), -jnp.inf).at[0, 0].set(1.0)
        zero = jnp.zeros_like(first)
        gradients = jax.grad(number, argnums=(0, 1, 2, 3))(empty, first.at[:, 1].set(0.0), zero, sink)
        assert all(bool(jnp.isfinite(x).all()) for x in gradients)

    def test_nothing_overflows(self):
        parts = [AttentionOutput(jnp.full((1, 1, 1), x), lse=jnp.full((1, 1), 1e300)) for x in (1.0, 3.0)]
        assert merge(parts).output.item() == 2.0

    def test_low_precision_is_merged_in_float32(self):
        result = merged(*problem("bfloat16"))
        assert result.output.dtype == jnp.bfloat16
        assert result.lse.dtype == jnp.float32
        assert_close(result.output, jax.jit(whole)(*problem("bfloat16")).output, "bfloat16")


def test_parts_that_do_not_fit_raise():
    part = AttentionOutput(jnp.zeros((1, 1, 1)), lse=jnp.zeros((1, 1)))
    other = AttentionOutput(jnp.zeros((2, 1, 1)), lse=jnp.zeros((1, 2)))
    for parts, message in [
        ((), "merge: parts"),
        ((part, AttentionOutput(part.output)), r'part 1 .*lse.*returns=\("lse",\)'),
        ((part, other), r"part 1 .*\(2, 1, 1\).*part 0 .*\(1, 1, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            merge.__wrapped__(parts)


def test_it_is_public():
    assert attnlab.merge is merge

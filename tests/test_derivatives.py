"""Derivatives: second order, forward and reverse, for every learnable array, against finite differences."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import MODS, NORMALIZERS, NOT_A_DERIVATIVE, SCORES, SIZES
from samples import BLOCKWISE, Sample, cover_sample, learnable

from attnlab.functional.attention import attention

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
Arrays = list[jax.Array]
SMOOTH = [name for name in NORMALIZERS if name not in NOT_A_DERIVATIVE]


def check_derivatives(sample: Sample, implementation: str, dropout_rate: float = 0.0) -> None:
    """Check second derivatives, forward and reverse, by every learnable array, against finite differences."""
    this = sample.problem()
    learned, constant, together = learnable(this)

    def number(learned):
        inputs, params, mods, normalizer = together(learned, constant)
        parts = {"score": this.bind(params), "mods": mods, "mask": this.mask, "normalizer": normalizer}
        how = {"implementation": implementation, "block_size": sample.block_size, "returns": ("lse", "entropy")}
        result = attention(*inputs, **parts, **how, dropout_rate=dropout_rate, rng=jax.random.key(3))
        lse = jnp.where(jnp.isfinite(result.lse), result.lse, 0.0)
        return sum(jnp.sin(x).sum() for x in (result.output, lse, result.entropy))

    assert_differentiates(number, learned)


def assert_differentiates(number: Callable[[Arrays], jax.Array], x: Arrays) -> None:
    """Compare first derivatives, and second derivatives in four ways, with differences along random lines.

    As `jax.test_util.check_grads` of order 2, in three compilations.
    """
    slope = jax.grad(number)
    along = lambda u: lambda x: jax.jvp(number, (x,), (u,))[1]  # noqa: E731
    dot = lambda a, b: sum(map(jnp.vdot, a, b))  # noqa: E731

    @jax.jit
    def first(x, u):
        return along(u)(x), dot(slope(x), u)

    @jax.jit
    def second(x, u, w):
        forward_of_reverse = dot(jax.jvp(slope, (x,), (u,))[1], w)
        reverse_of_reverse = dot(jax.grad(lambda x: dot(slope(x), w))(x), u)
        forward_of_forward = jax.jvp(along(w), (x,), (u,))[1]
        reverse_of_forward = dot(jax.grad(along(w))(x), u)
        return forward_of_reverse, reverse_of_reverse, forward_of_forward, reverse_of_forward

    @jax.jit
    def moved(step, u):
        return jax.value_and_grad(number)([a + step * b for a, b in zip(x, u, strict=True)])

    rng = np.random.default_rng(0)
    u, w = ([jnp.asarray(rng.standard_normal(a.shape)) for a in x] for _ in range(2))
    (after, slope_after), (before, slope_before) = moved(1e-5, u), moved(-1e-5, u)
    close = partial(np.testing.assert_allclose, rtol=1e-6, atol=1e-6)
    for result in first(x, u):
        close(result, (after - before) / 2e-5)
    for result in second(x, u, w):
        close(result, (dot(slope_after, w) - dot(slope_before, w)) / 2e-5)


def smooth(number: int) -> Sample:
    """Return the next sample of smooth parts on a few numbers."""
    sample = cover_sample(number)
    return replace(sample, normalizer=SMOOTH[number % len(SMOOTH)], size=SIZES[1 + 2 * (number % 2)])


SMOOTH_COVER = [smooth(number) for number in range(max(map(len, (SCORES, MODS, SMOOTH))))]


QUICKLY_TWICE = ("scaled_dot", "general")
"""Scores whose second derivatives compile in a few seconds; the others are slow."""


@pytest.mark.parametrize(
    "sample",
    [pytest.param(s, marks=() if s.score in QUICKLY_TWICE else pytest.mark.slow, id=str(s)) for s in SMOOTH_COVER],
)
def test_dense_differentiates_twice_forward_and_reverse(sample, x64):
    check_derivatives(replace(sample, block_size=None), "dense")


@pytest.mark.parametrize(
    ("implementation", "score", "mods", "normalizer", "dropout_rate"),
    [
        pytest.param("streaming", "additive", "tilt_cap", "softmax_with_sink", 0.3, marks=pytest.mark.slow),
        pytest.param("streaming", "general", "cap_tilt", "softmax_with_sink", 0.3, marks=pytest.mark.slow),
        pytest.param("block_sparse", "general", "tables_per_head", "temperature", 0.0, marks=pytest.mark.slow),
        ("streaming", "scaled_dot_scale", "no_mods", "entmax15", 0.0),
    ],
)
def test_blocks_differentiate_twice_forward_and_reverse(implementation, score, mods, normalizer, dropout_rate, x64):
    sample = Sample(score, mods, "causal_lower_right", normalizer, SIZES[3], block_size=(2, 3))
    check_derivatives(sample, implementation, dropout_rate)


@pytest.mark.slow
@pytest.mark.parametrize("implementation", BLOCKWISE)
@pytest.mark.parametrize("sample", SMOOTH_COVER, ids=str)
def test_blocks_of_every_part_differentiate_twice(sample, implementation, x64):
    check_derivatives(sample, implementation)

"""Shared and full axes: size 1 along batch and heads, positions longer than the inputs.

Errors are tested in mistakes.py.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from tolerances import assert_close

from attnlab.functional import cache, masks, mods, normalizers, scores
from attnlab.functional.attention import attention
from attnlab.functional.parts import map_over

B, N, T, S = (2, 3), 4, 5, 6


def draw(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), "float32")


q, k, v = draw(*B, T, N, 8), draw(*B, S, 2, 8, seed=1), draw(*B, S, 2, 3, seed=2)
SHARED = [((1, 1), N), ((2, 1), N), ((1, 3), 1), (B, 1), ((1, 1), 1)]
attend = jax.jit(attention, static_argnames="implementation")


@pytest.mark.parametrize(("batch", "heads"), SHARED, ids=str)
@pytest.mark.parametrize("implementation", ["dense", "block_sparse"])
@pytest.mark.quick("dense-(1, 3)-1", "block_sparse-(1, 1)-4")
def test_size_1_is_shared_along_batch_and_heads(batch, heads, implementation):
    shape, whole = (*batch, heads, T, S), (*B, N, T, S)
    array, number = draw(*shape, seed=3), draw(*batch, heads, seed=4) ** 2

    def options(array, number, make):
        return {
            "mods": (mods.bias(make(array, whole), "b h q k"),),
            "mask": masks.array(make(array, whole) > -1.0, "b h q k"),
            "normalizer": normalizers.temperature(map_over(1.0 + make(number, whole[:-2]), "b h")),
            "score": Partial(scores.cosine, scale=map_over(make(number, whole[:-2]), "b h")),
        }

    def loss(array, number, make):
        return jnp.sum(jnp.sin(attention(q, k, v, implementation=implementation, **options(array, number, make))))

    result, expected = (
        jax.jit(jax.value_and_grad(lambda *xs, make=make: loss(*xs, make), argnums=(0, 1)))(array, number)
        for make in (lambda x, shape: x, jnp.broadcast_to)
    )
    jax.tree.map(lambda a, b: assert_close(a, b, "float32"), result, expected)


def test_a_mask_that_is_shared_is_written_out_whole():
    where = draw(1, 3, 1, S, seed=3) > 0.0
    both = masks.array(where, "b h k") & masks.array(jnp.ones((2, 3, S), bool), "b k")
    np.testing.assert_array_equal(both.dense(T, S), np.broadcast_to(where, (2, 3, T, S)))


LATER = jnp.arange(T) + 3
LONG = {
    "bias": lambda x: {"mods": (mods.bias(x, "q k"),)},
    "array": lambda x: {"mask": masks.array(x > -1.0)},
    "segments": lambda x: {"mask": masks.segments((x[:, 0] > 0).astype(jnp.int32), jnp.arange(x.shape[1]) % 2)},
    "block_layout": lambda x: {"mask": masks.block_layout(x > -1.0, 1)},
}


@pytest.mark.parametrize("name", LONG)
def test_what_is_longer_than_any_position_is_taken_at_the_positions(name):
    whole = draw(9, S, seed=5)
    result = attend(q, k, v, query_positions=LATER, **LONG[name](whole))
    assert_close(result, attend(q, k, v, **LONG[name](whole[3:8])), "float32")


def test_lengths_apply_to_positions_if_these_are_passed():
    at = jnp.arange(S) + 10
    result = attend(q, k, v, key_positions=at, mask=masks.lengths(14))
    assert_close(result, attend(q, k, v, mask=masks.lengths(4)), "float32")


def test_lengths_at_their_ends_are_taken():
    for keys in (0, S):
        assert attention(q, k, v, mask=masks.lengths(jnp.full(B, keys), queries=T)).shape == (*B, T, N, 3)


def test_values_cost_nothing_inside_jit():
    """Values known only at run time are not checked: one program serves all, and it contains no checks."""
    lengths = jnp.full(B, 3)
    program = jax.make_jaxpr(lambda lengths, at: attention(q, k, v, mask=masks.lengths(lengths), query_positions=at))
    text = str(program(lengths, LATER))
    assert "callback" not in text
    assert text == str(program(lengths + 99, LATER - 99))


def test_the_cache_takes_a_length_up_to_its_capacity():
    state = cache.init(k, v, 8)
    step = q[..., :1, :, :], k[..., :1, :, :], v[..., :1, :, :]
    cache.attend(state, *step, mask=masks.lengths(8))
    with pytest.raises(ValueError, match=r"lengths: 9 key positions.* 8"):
        cache.attend(state, *step, mask=masks.lengths(9))


def test_an_array_for_each_example_is_seen_under_vmap():
    bias = draw(2, 3, T, S, seed=6)
    inner = lambda q, k, v, bias: attention(q, k, v, mods=(mods.bias(bias, "q k"),))  # noqa: E731
    result = jax.jit(jax.vmap(jax.vmap(inner)))(q, k, v, bias)
    assert_close(result, attend(q, k, v, mods=(mods.bias(bias, "b q k"),)), "float32")

"""Sizes of 0: no keys, no queries, vectors of width 0; results and gradients are finite."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import NORMALIZERS, SCORES

from attnlab.functional import normalizers
from attnlab.functional.attention import attention

pytestmark = [pytest.mark.usefixtures("strict"), pytest.mark.optimized]
UNLEARNED = {row.name: row.part for row in SCORES if row.shapes in ({}, {"scale": ""})}
"""Scores that need no learned arrays."""


def attended(queries: int, keys: int, width: int, implementation: str, **parts) -> jax.Array:
    """Return the output, after checking that the gradients are finite."""
    arrays = jnp.ones((queries, 2, width)), jnp.ones((keys, 2, width)), jnp.ones((keys, 2, 3))

    def number(*arrays):
        output = attention(*arrays, implementation=implementation, **parts)
        return output.sum(), output

    (_, output), slopes = jax.jit(jax.value_and_grad(number, (0, 1, 2), has_aux=True))(*arrays)
    assert all(np.isfinite(slope).all() for slope in slopes)
    return output


@pytest.mark.parametrize("implementation", ["dense", "block_sparse"])
@pytest.mark.parametrize("normalizer", ["hardmax", "top_k", "local_p"])
def test_without_keys_the_output_is_0(normalizer, implementation):
    """Also for width 0."""
    output = attended(3, 0, 0, implementation, normalizer=NORMALIZERS[normalizer][0])
    np.testing.assert_array_equal(output, np.zeros((3, 2, 3)))


def test_a_hard_draw_without_keys():
    draw = normalizers.gumbel_softmax(jax.random.key(0), hard=True)
    np.testing.assert_array_equal(attended(2, 0, 4, "dense", normalizer=draw), np.zeros((2, 2, 3)))


@pytest.mark.parametrize("score", UNLEARNED)
@pytest.mark.parametrize("implementation", ["dense", "block_sparse"])
def test_vectors_of_width_0_are_all_alike(score, implementation):
    output = attended(3, 5, 0, implementation, score=UNLEARNED[score])
    np.testing.assert_allclose(output, np.ones((3, 2, 3)), rtol=1e-6)
    assert attended(3, 0, 4, implementation, score=UNLEARNED[score]).tolist() == np.zeros((3, 2, 3)).tolist()


def test_the_one_best_of_vectors_of_width_0_is_the_first():
    query, key = jnp.ones((2, 1, 0)), jnp.ones((3, 1, 0))
    output = attention(query, key, jnp.arange(3.0).reshape(3, 1, 1), normalizer=normalizers.hardmax)
    assert output.ravel().tolist() == [0.0, 0.0]

"""JAX's debug flags raise no error: NaN, Inf and rank promotion, in compiled and eager calls."""

from contextlib import ExitStack

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rows import NORMALIZERS, SCORES, SMALL, problem

from attnlab.functional import cache, normalizers
from attnlab.functional.attention import attention, attention_weights

pytestmark = pytest.mark.usefixtures("strict")


@pytest.fixture
def _flags():
    with ExitStack() as stack:
        for flag in (jax.debug_nans(True), jax.debug_infs(True), jax.numpy_rank_promotion("raise")):
            stack.enter_context(flag)
        yield


def differentiated(this, implementation: str):
    """Return a number computed from the output and its gradients, for finite inputs and a mask with empty rows."""

    def number(params, inputs):
        parts = this.options() | {"score": this.bind(params)}
        return jnp.sin(attention(*inputs, **parts, implementation=implementation)).sum()

    return jax.value_and_grad(number, (0, 1)), (this.params, this.inputs)


DENSE = [("scaled_dot", name) for name in NORMALIZERS] + [(row.name, "softmax") for row in SCORES if row.shapes]


@pytest.mark.usefixtures("_flags")
@pytest.mark.parametrize(("score", "normalizer"), DENSE)
@pytest.mark.quick(
    "scaled_dot-softmax",
    "scaled_dot-entmax15",
    "scaled_dot-top_k",
    "scaled_dot-local_p",
    "additive-softmax",
    "cosine-softmax",
)
def test_eager(score, normalizer):
    this = problem(next(row for row in SCORES if row.name == score), mask="lengths", normalizer=normalizer)
    call, arguments = differentiated(this, "dense")
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(call(*arguments)))


@pytest.mark.usefixtures("_flags")
@pytest.mark.parametrize("implementation", ["streaming", "block_sparse"])
@pytest.mark.parametrize("normalizer", ["softmax", "sparsemax"])
@pytest.mark.quick("softmax-streaming", "sparsemax-block_sparse")
def test_compiled_blocks(normalizer, implementation):
    this = problem(SCORES[1], mask="composed", mods="soft_cap_alibi", normalizer=normalizer)
    call, arguments = differentiated(this, implementation)
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(jax.jit(call)(*arguments)))


@pytest.mark.usefixtures("_flags")
def test_softmax_of_an_array():
    assert np.isfinite(normalizers.softmax(jnp.ones((2, 3)))).all()


@pytest.mark.usefixtures("_flags")
def test_weights_and_a_cache():
    this = problem(SCORES[1], SMALL, mask="lengths")
    query, key, value = this.inputs
    assert np.isfinite(attention_weights(query, key, mask=this.mask)).all()
    output, state = cache.attend(cache.init(key, value, 4), query[:, :1], key[:, :1], value[:, :1])
    assert np.isfinite(output).all()
    assert int(state.length) == 1


@pytest.mark.usefixtures("_flags")
def test_an_empty_row_has_no_lse():
    """It is −∞ by definition, and JAX checks the results of a compiled function."""
    this = problem(SCORES[1], mask="lengths")
    with pytest.raises(FloatingPointError, match="inf"):
        attention(*this.inputs, mask=this.mask, returns=("lse",))


@pytest.mark.usefixtures("_flags")
def test_nan_in_the_inputs_is_still_detected():
    this = problem(SCORES[1], mask="lengths")
    query, key, value = this.inputs
    with pytest.raises(FloatingPointError, match="nan"):
        attention(query, key, jnp.asarray(np.full(value.shape, np.nan, np.float32)), mask=this.mask)

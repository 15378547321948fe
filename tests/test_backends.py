"""The interface of a backend: a registered backend is planned, selected by name, run, and refused with its reason."""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.functional import extras, masks, normalizers
from attnlab.functional.attention import attention, plan
from attnlab.functional.backends import BACKENDS, register
from attnlab.functional.backends.base import Backend, Cost, Results
from attnlab.functional.backends.call import Call
from attnlab.functional.backends.map_heads import map_heads
from attnlab.functional.normalizers import as_softmax

X = jax.random.normal(jax.random.key(0), (2, 6, 2, 4))
LONG = jax.ShapeDtypeStruct((1, 4096, 8, 64), jnp.float32)


class Fused(Backend):
    """Softmax attention by `jax.nn`, without masks, mods and extras: an example of a fused kernel's backend."""

    name = "fused"

    def __init__(self):
        self.runs = 0

    def supports(self, call: Call) -> str | None:
        heads = call.heads
        if heads.mask is not None or heads.mods or heads.rng is not None or call.options.returns:
            return "it supports no mask, mods, dropout or extras"
        if as_softmax(heads.normalizer) != normalizers.Softmax():
            return "it supports the plain softmax only"
        return None

    def cost(self, call: Call, device: str) -> Cost:
        return Cost(1e-15 * call.sizes.logits, 0, f"one kernel on {device}")

    def run(self, call: Call) -> Results:
        self.runs += 1

        def fused(head):
            arrays = (x[:, None, :] for x in (head.query, head.key, head.value))
            return {"output": jax.nn.dot_product_attention(*arrays)[:, 0]}

        return map_heads(fused, call.heads, sequential=False)


@pytest.fixture
def fused() -> Iterator[Fused]:
    backend, others = Fused(), dict(BACKENDS)
    register(backend)
    yield backend
    BACKENDS.clear()
    BACKENDS.update(others)


def test_a_fourth_backend_is_planned_by_its_cost(fused):
    chosen = plan(LONG, LONG, LONG)
    assert chosen.implementation == "fused"
    assert str(chosen).startswith("fused: one kernel on cpu")
    assert chosen.reasons.keys() == {"dense", "streaming", "block_sparse", "fused"}
    assert all(f"not {name}: " in str(chosen) for name in chosen.reasons if name != "fused")


def test_it_runs_chosen_by_cost_or_by_name_and_equals_the_others(fused):
    expected = attention(X, X, X, implementation="dense")
    for options in ({}, {"implementation": "fused"}):
        before = fused.runs
        np.testing.assert_allclose(jax.jit(lambda x, o=options: attention(x, x, x, **o))(X), expected, atol=1e-6)
        assert fused.runs == before + 1
    by_fused = jax.grad(lambda x: jnp.sin(attention(x, x, x, implementation="fused")).sum())(X)
    by_dense = jax.grad(lambda x: jnp.sin(attention(x, x, x, implementation="dense")).sum())(X)
    np.testing.assert_allclose(by_fused, by_dense, atol=1e-5)


def test_an_eager_call_is_compiled_once(fused):
    for _ in range(3):
        attention(X, X, X)
    assert fused.runs == 1


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"mask": masks.causal()}, "it supports no mask"),
        ({"returns": ("lse",)}, "it supports no mask, mods, dropout or extras"),
        ({"normalizer": normalizers.sparsemax}, "it supports the plain softmax only"),
    ],
    ids=["mask", "extra", "normalizer"],
)
def test_it_is_refused_with_its_reason(fused, options, reason):
    other = plan(LONG, LONG, LONG, **options)
    assert other.implementation != "fused"
    assert reason in other.reasons["fused"]
    attention(X, X, X, **options)
    assert fused.runs == 0
    with pytest.raises(ValueError, match=f'attention: fused .*{reason}.*; write implementation="dense"'):
        attention(X, X, X, implementation="fused", **options)


def test_selected_rows_are_planned_too(fused):
    """The output is computed by one backend, and weights of some rows by one that can return them."""
    result = jax.jit(lambda x: attention(x, x, x, returns=(extras.weights(rows=[1]),)))(X)
    assert fused.runs == 1
    expected = attention(X, X, X, returns=("weights",), implementation="dense").weights[:, :, 1:2]
    np.testing.assert_allclose(result.weights, expected, atol=1e-6)


def test_a_name_is_registered_once(fused):
    with pytest.raises(ValueError, match="fused"):
        register(Fused())


def test_no_backend_left_is_an_error_with_every_reason(fused):
    for name in ("dense", "streaming", "block_sparse"):
        del BACKENDS[name]
    with pytest.raises(ValueError, match=r"attention: .*fused: it supports no mask"):
        attention(X, X, X, mask=masks.causal())


def test_the_entry_names_no_backend():
    """Differences between backends are in their data and methods."""
    import inspect

    from attnlab.functional.backends import execute, sharded
    from attnlab.functional.backends import plan as planner

    for module in (execute, planner, sharded):
        source = inspect.getsource(module)
        assert not [name for name in BACKENDS if f'== "{name}"' in source or f'"{name}" in' in source], module.__name__

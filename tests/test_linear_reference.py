"""State rules against the naive PyTorch functions of flash-linear-attention, if its code is on the Python path.

Its package imports Triton's kernels, which are not needed: the files of the functions are loaded alone.
"""

import importlib.util
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import linear, linear_attention

pytestmark = [pytest.mark.reference, pytest.mark.filterwarnings("ignore")]
BATCH, TOKENS, HEADS, FEATURES, WIDTH = 2, 64, 3, 8, 5


def naive(operation):
    """Return the module `naive` of an operation, without importing the package around it."""
    pytest.importorskip("torch")
    pytest.importorskip("einops")
    for folder in map(Path, sys.path):
        path = folder / "fla" / "ops" / operation / "naive.py"
        if path.is_file():
            spec = importlib.util.spec_from_file_location(f"naive_{operation}", path)
            assert spec is not None
            assert spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    pytest.skip("the code of flash-linear-attention is not on the path")


@pytest.fixture
def arrays():
    draw = np.random.default_rng(0)
    key_shape = (BATCH, TOKENS, HEADS, FEATURES)
    query, key = draw.standard_normal((2, *key_shape))
    key /= np.linalg.norm(key, axis=-1, keepdims=True)
    numbers = {
        "query": query,
        "key": key,
        "value": draw.standard_normal((BATCH, TOKENS, HEADS, WIDTH)),
        "beta": draw.random(key_shape[:-1]),
        "log_decay": np.log(draw.uniform(0.7, 1.0, key_shape[:-1])),
        "log_decays": np.log(draw.uniform(0.7, 1.0, key_shape)),
        "state": draw.standard_normal((BATCH, HEADS, FEATURES, WIDTH)),
    }
    return {name: jnp.asarray(x, jnp.float32) for name, x in numbers.items()}


def torch_of(arrays, *names, heads_first=False):
    import torch

    copies = [np.array(arrays[name]) for name in names]
    return [torch.tensor(np.swapaxes(array, 1, 2) if heads_first else array) for array in copies]


def compute(arrays, rule):
    """Compute ours with the scaled query of the reference, from the state of the arrays."""
    state, query = linear.State(arrays["state"], jnp.int32(0)), arrays["query"] / FEATURES**0.5
    options = {"feature_map": linear.identity, "causal": True, "state": state, "chunk": 16}
    return jax.jit(lambda rule: linear_attention(query, arrays["key"], arrays["value"], rule=rule, **options))(rule)


def show(name, expected, actual):
    """Print both for the record of `pytest -m reference`, and compare them: outputs, and states if there are any."""
    for part, a, b in zip(("output", "state"), expected, actual, strict=False):
        a, b = np.asarray(a), np.asarray(b)
        print(f"{name}, {part}: reference {a.ravel()[:4].round(5)}, here {b.ravel()[:4].round(5)}")
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=2e-5)


def test_delta_rule(arrays):
    module = naive("delta_rule")
    inputs = torch_of(arrays, "query", "key", "value", "beta", heads_first=True)
    (initial,) = torch_of(arrays, "state")
    output, state = module.delta_rule_recurrence(*inputs, initial_state=initial)
    ours, final = compute(arrays, linear.delta_rule(arrays["beta"]))
    show("delta_rule_recurrence", (output.transpose(1, 2), state), (ours, final.memory))
    for name, function in (("chunkwise", module.delta_rule_chunkwise), ("parallel", module.delta_rule_parallel)):
        options = {"chunk_size": 32} if name == "chunkwise" else {"BM": 64, "BN": 32}
        without_state, _ = function(*(x.clone() for x in inputs), **options)
        ours, _ = compute(arrays | {"state": jnp.zeros_like(arrays["state"])}, linear.delta_rule(arrays["beta"]))
        show(f"delta_rule_{name}", (without_state.transpose(1, 2),), (ours,))


def test_gated_delta_rule(arrays):
    module = naive("gated_delta_rule")
    query, key, value, beta, log_decay, initial = torch_of(
        arrays, "query", "key", "value", "beta", "log_decay", "state"
    )
    options = {"beta": beta, "g": log_decay, "initial_state": initial, "output_final_state": True}
    ours, final = compute(arrays, linear.gated_delta_rule(arrays["beta"], arrays["log_decay"]))
    for function in (module.naive_recurrent_gated_delta_rule, module.naive_chunk_gated_delta_rule):
        show(function.__name__, function(query, key, value, **options), (ours, final.memory))


def test_kimi_delta_attention(arrays):
    module = naive("kda")
    query, key, value, decays, beta, initial = torch_of(arrays, "query", "key", "value", "log_decays", "beta", "state")
    expected = module.naive_recurrent_kda(query, key, value, decays, beta, None, initial, True)
    ours, final = compute(arrays, linear.gated_delta_rule(arrays["beta"], arrays["log_decays"]))
    show("naive_recurrent_kda", expected, (ours, final.memory))


def test_gated_linear_attention(arrays):
    module = naive("gla")
    query, key, value, decays, initial = torch_of(arrays, "query", "key", "value", "log_decays", "state")
    expected = module.naive_recurrent_gla(query, key, value, decays, initial, True)
    ours, final = compute(arrays, linear.gated(arrays["log_decays"]))
    show("naive_recurrent_gla", expected, (ours, final.memory))


def test_retention(arrays):
    module = naive("retention")
    output = module.naive_retention(*torch_of(arrays, "query", "key", "value", heads_first=True)).transpose(1, 2)
    arrays = arrays | {"state": jnp.zeros_like(arrays["state"])}
    ours, _ = compute(arrays, linear.retention(linear.retention_decays(HEADS)))
    show("naive_retention", (output,), (ours,))

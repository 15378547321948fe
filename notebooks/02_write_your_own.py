# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Write your own
#
# A score, a mask and a normalizer that the library does not have, each in at most 15 lines. We check each against
# loops in NumPy and its gradients against finite differences, and then run it in blocks, without storing a matrix of
# queries × keys.
#
# Each function is called on **one head of one example**, and on a block of its queries and keys. The library maps it
# over heads, examples and blocks, and differentiates it.

# %%
import ast
import inspect
import linecache
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.test_util import check_grads
from jax.tree_util import Partial, register_dataclass

from attnlab import attention, masks
from attnlab.config.load import load
from attnlab.functional.attention import plan
from attnlab.layers.custom import custom_function

jax.config.update("jax_enable_x64", True)  # to see that the results agree to the last digits


def short(part):
    """A part of ours is at most 15 lines of code (decorators and docstring counted)."""
    code = (part if inspect.isfunction(part) else part.__call__).__code__
    tree = ast.parse("".join(linecache.getlines(code.co_filename)))
    node = next(node for node in ast.walk(tree) if getattr(node, "name", None) == part.__name__)
    count = node.end_lineno - min([node.lineno, *(line.lineno for line in node.decorator_list)]) + 1
    assert count <= 15, f"{part.__name__} has {count} lines"
    return f"{part.__name__}: {count} lines"


def draw(seed, *shape):
    return jax.random.normal(jax.random.key(seed), shape, jnp.float64)


# %% [markdown]
# ## A score
#
# Laplace attention (Kim et al. 2019, "Attentive Neural Processes") uses the L1 distance of query and key as the score;
# here each feature has its own learned scale. The function takes queries [q, d] and keys [k, d] and returns logits [q,
# k]; parameters are keyword arguments.


# %%
def laplace(query, key, *, log_scale):
    """logits[i, j] = −Σ_d exp(log_scale_d) |query_i,d − key_j,d|"""
    scale = jnp.exp(log_scale)
    return -jnp.abs((query * scale)[:, None, :] - (key * scale)[None, :, :]).sum(axis=-1)


short(laplace)

# %% [markdown]
# `Partial` binds the parameters. The result is a pytree, so they have gradients like any other array.

# %%
query, key, value = draw(0, 100, 1, 6), draw(1, 100, 1, 6), draw(2, 100, 1, 4)
weights = {"log_scale": 0.5 * draw(3, 6)}


def loops(score, may, normalize):
    """Attention by its definition: one query and one key at a time."""
    q, k, v = (np.asarray(x)[:, 0] for x in (query, key, value))
    logits = np.array([[score(a, b) for b in k] for a in q])
    where = np.array([[may(i, j) for j in range(len(k))] for i in range(len(q))])
    return np.array([normalize(row, allowed) @ v for row, allowed in zip(logits, where, strict=True)])


def softmax_row(logits, allowed):
    powers = np.where(allowed, np.exp(logits - logits[allowed].max()), 0.0)
    return powers / powers.sum()


def laplace_pair(a, b):
    return -sum(np.exp(w) * abs(x - y) for w, x, y in zip(weights["log_scale"], a, b, strict=True))


def everywhere(i, j):
    return True


def check(expected, **options):
    """All three implementations give what the loops gave; the blocks are small, so that there are several."""
    for implementation in ("dense", "streaming", "block_sparse"):
        run = jax.jit(partial(attention, implementation=implementation, block_size=(32, 16), **options))
        np.testing.assert_allclose(run(query, key, value)[:, 0], expected, rtol=1e-10, atol=1e-12)


score = Partial(laplace, **weights)
weights = jax.tree.map(np.asarray, weights)
check(loops(laplace_pair, everywhere, softmax_row), score=score)

# %% [markdown]
# First and second derivatives with respect to scale, queries and keys, in forward and reverse mode, checked against
# finite differences (on smaller arrays, because this needs many evaluations):


# %%
@jax.jit
def small(weights, query, key):
    return attention(query, key, value[:5], score=Partial(laplace, **weights), mask=masks.causal())


check_grads(small, (weights, query[:5], key[:5]), order=2, modes=["fwd", "rev"])

# %% [markdown]
# This used `dense`, which is selected for small inputs. In blocks the gradients are computed in another way, with the
# same result:


# %%
def slopes(implementation):
    def loss(weights, query, key, value):
        options = {"score": Partial(laplace, **weights), "mask": masks.causal(), "implementation": implementation}
        return jnp.sum(jnp.sin(attention(query, key, value, block_size=(32, 16), **options)))

    return jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(weights, query, key, value)


for found, wanted in zip(jax.tree.leaves(slopes("streaming")), jax.tree.leaves(slopes("dense")), strict=True):
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)

# %% [markdown]
# ## A mask
#
# The LogSparse Transformer (Li et al. 2019) lets a query attend to its own position and to those 1, 2, 4, 8 … before
# it. Such a mask is a one-line function of the positions of queries (a column) and keys (a row).


# %%
def powers_of_two(query, key, head):
    """Itself, and the keys 1, 2, 4, 8 ... before it: a power of two has one bit set."""
    distance = query - key
    return (distance >= 0) & (distance & (distance - 1) == 0)


short(powers_of_two)

# %% [markdown]
# The library cannot tell which blocks of this mask are empty, so it skips none. `masks.causal() & ...` allows the same
# pairs, and the blocks above the diagonal are skipped.

# %%
log_sparse = masks.causal() & masks.from_fn(powers_of_two)


def log_sparse_pair(i, j):
    return i == j or i - j in {2**n for n in range(20)}


check(loops(laplace_pair, log_sparse_pair, softmax_row), score=score, mask=log_sparse)

# %% [markdown]
# A mask can define in `bounds` which blocks are empty or full, so that they need not be evaluated. Here a query
# attends to its own chunk of the text and the previous one. `bounds` gets the lowest and highest positions of all
# blocks of queries [m, 1] and keys [1, n], and returns two boolean arrays [m, n]: whether any pair of the block is
# allowed, and whether all are.


# %%
@partial(register_dataclass, data_fields=[], meta_fields=["size"])
@dataclass(frozen=True, repr=False)
class Chunks(masks.Mask):
    size: int
    by_head, can_classify = False, (True, True)  # the same for all heads; `bounds` finds (empty, full) blocks

    def __call__(self, positions):
        back = positions.rows // self.size - positions.columns // self.size
        return (back == 0) | (back == 1)

    def bounds(self, blocks):
        (first, last), (low, high) = blocks.rows_and_columns
        least, most = first // self.size - high // self.size, last // self.size - low // self.size
        return (least <= 1) & (most >= 0), (least >= 0) & (most <= 1)


print(short(Chunks))
print(Chunks(64).map(512, 512, block=32))

# %%
check(loops(laplace_pair, lambda i, j: i // 16 - j // 16 in (0, 1), softmax_row), score=score, mask=Chunks(16))

# %% [markdown]
# `plan` returns which implementation a call uses, and why not the others:

# %%
long = jax.ShapeDtypeStruct((1, 4096, 8, 64), jnp.float32)
chosen = plan(long, long, long, mask=Chunks(512))
assert chosen.implementation == "block_sparse"
print(chosen)

# %% [markdown]
# ## A normalizer
#
# The Taylor softmax (de Brébisson & Vincent 2016) replaces the exponential by 1 + x + x²/2, which is positive and
# gives less peaked weights than the softmax. `where` is False for masked logits, which must not affect anything: they
# are replaced *before* any computation, and again after it. A fully masked row must be all zeros.


# %%
def taylor_softmax(logits, where=None):
    """weights[i, j] = p(logits[i, j]) / Σ_{k allowed} p(logits[i, k]),    p(x) = 1 + x + x²/2"""
    where = jnp.ones_like(logits, bool) if where is None else where
    x = jnp.where(where, logits, 0.0)
    powers = jnp.where(where, 1.0 + x + x * x / 2.0, 0.0)
    total = powers.sum(axis=-1, keepdims=True)
    return powers / jnp.where(total == 0.0, 1.0, total)


short(taylor_softmax)


# %%
def taylor_row(logits, allowed):
    powers = np.where(allowed, 1 + logits + logits**2 / 2, 0.0)
    return powers / powers.sum()


expected = loops(laplace_pair, log_sparse_pair, taylor_row)
check(expected, score=score, mask=log_sparse, normalizer=taylor_softmax)

# %% [markdown]
# Gradients again, and two requirements for any normalizer: a NaN at a masked key does not propagate, and a fully
# masked row is 0.


# %%
@jax.jit
def normalized(weights, query, key, value):
    options = {"score": Partial(laplace, **weights), "mask": masks.causal(), "normalizer": taylor_softmax}
    return attention(query, key, value, **options)


check_grads(normalized, (weights, query[:5], key[:5], value[:5]), order=2, modes=["fwd", "rev"])

broken = value.at[70:].set(jnp.nan)
padded = attention(query, key, broken, mask=masks.lengths(70), normalizer=taylor_softmax)
assert jnp.isfinite(padded).all()
assert not attention(query, key, broken, mask=masks.lengths(0), normalizer=taylor_softmax).any()

# %% [markdown]
# The library can merge partial rows only for the softmax family. It calls other normalizers on whole rows, one block
# of queries at a time, so memory is still linear in the length.

# %%
print(plan(long, long, long, mask=Chunks(512), normalizer=taylor_softmax))

# %% [markdown]
# ## In a config
#
# In a config, such a function is a score, mod, mask or normalizer of `kind: custom`, with the name of its file;
# keyword arguments annotated as arrays are learned parameters (`docs/attention/custom.md`). `attnlab train` then
# trains any model with it, and the run stores the source of the file.

# %%
folder = Path(tempfile.mkdtemp())
(folder / "parts.py").write_text("import jax.numpy as jnp\n\n\n" + inspect.getsource(taylor_softmax))
(folder / "taylor.yaml").write_text("""\
task: {kind: classification, data: {kind: synthetic_sentiment}}
model:
  kind: recurrent_classifier
  pooling:
    kind: attention
    attention:
      score: {kind: additive}
      normalizer: {kind: custom, function: parts.py:taylor_softmax}
training: {steps: 300}
""")
chosen = load(folder / "taylor.yaml").model.pooling.attention.normalizer
print(chosen.source)

kept = custom_function(chosen).part  # what the run executes
np.testing.assert_array_equal(kept(query[:, 0, :4], None), taylor_softmax(query[:, 0, :4]))

# %% [markdown]
# ## Attention maps

# %%
shown = {
    "softmax": {},
    "Laplace, log-sparse": {"score": score, "mask": log_sparse},
    "chunks of 16": {"mask": Chunks(16)},
    "Taylor softmax, causal": {"normalizer": taylor_softmax, "mask": masks.causal()},
}
figure, panels = plt.subplots(1, len(shown), figsize=(13, 3.4))
for panel, (name, options) in zip(panels, shown.items(), strict=True):
    seen = attention(query[:64], key[:64], value[:64], returns=("weights",), **options)
    panel.imshow(seen.weights[0], cmap="Blues", vmin=0.0, vmax=0.3)
    panel.set(title=name, xlabel="key", ylabel="query")
figure.tight_layout()
plt.show()

# %% [markdown]
# To run the conformance suite of the library on your function (masking, NaN, fully masked rows, dtypes, vmap, jit,
# every implementation, second derivatives), add a test case to `tests/rows.py`: its name, a sampler of its parameters,
# and a NumPy implementation.

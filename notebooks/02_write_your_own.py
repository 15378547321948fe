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
# A score, a mask and a normalizer that the library does not have, each in at most 15 lines. Each is checked against
# its formula in plain NumPy loops, its gradients against finite differences, and then it runs in blocks, without a
# matrix of queries × keys ever being stored.
#
# A part sees **one head of one example**, and of it one block: some queries and some keys. The library maps it
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
# Laplace attention (Kim et al. 2019, "Attentive Neural Processes") scores by the distance along the axes,
# Σ |query − key|; here each feature has a scale of its own, which is learned. It takes queries [q, d] and keys
# [k, d] and answers logits [q, k]; parameters are keywords.


# %%
def laplace(query, key, *, log_scale):
    """logits[i, j] = −Σ_d exp(log_scale_d) |query_i,d − key_j,d|"""
    scale = jnp.exp(log_scale)
    return -jnp.abs((query * scale)[:, None, :] - (key * scale)[None, :, :]).sum(axis=-1)


short(laplace)

# %% [markdown]
# `Partial` binds the parameters: the result is a pytree, so they have gradients like any other array.

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
# Gradients for the scale, queries and keys, first and second order, forward and reverse, against
# finite differences (on a smaller problem, for these are many evaluations):


# %%
@jax.jit
def small(weights, query, key):
    return attention(query, key, value[:5], score=Partial(laplace, **weights), mask=masks.causal())


check_grads(small, (weights, query[:5], key[:5]), order=2, modes=["fwd", "rev"])

# %% [markdown]
# That was `dense`, which a problem so small gets. In blocks the gradients are computed in another way, and agree:


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
# The LogSparse Transformer (Li et al. 2019) lets a query see itself and the keys 1, 2, 4, 8 … positions before it.
# A mask by a function of positions is one line: it gets the positions as a column and as a row.


# %%
def powers_of_two(query, key, head):
    """Itself, and the keys 1, 2, 4, 8 ... before it: a power of two has one bit set."""
    distance = query - key
    return (distance >= 0) & (distance & (distance - 1) == 0)


short(powers_of_two)

# %% [markdown]
# Nothing is known of this function but its answers, so no block can be skipped for it. `masks.causal() & ...` changes
# nothing of what it lets through and lets the blocks above the diagonal be skipped.

# %%
log_sparse = masks.causal() & masks.from_fn(powers_of_two)


def log_sparse_pair(i, j):
    return i == j or i - j in {2**n for n in range(20)}


check(loops(laplace_pair, log_sparse_pair, softmax_row), score=score, mask=log_sparse)

# %% [markdown]
# A mask can define in `bounds` which blocks are empty or full, so that they need not be evaluated. Here a query sees
# its own chunk of the text and the one before. `bounds` gets the lowest and highest position of every block of queries
# [m, 1] and of keys [1, n], and answers two tables: may any pair of the block attend, may all of them?


# %%
@partial(register_dataclass, data_fields=[], meta_fields=["size"])
@dataclass(frozen=True, repr=False)
class Chunks(masks.Mask):
    size: int
    by_head, tells = False, (True, True)  # the same for all heads; `bounds` can tell (empty, full) blocks

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
# The Taylor softmax (de Brébisson & Vincent 2016) puts 1 + x + x²/2 for the exponential: positive, and less sure of
# itself than the softmax. What a mask does not allow comes as `where`, and must reach nothing: it is replaced
# *before* anything is computed of it, and again after. A row where nothing is allowed is all zeros.


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
# Gradients again; and what must hold for any normalizer: NaN at a masked key goes nowhere, an empty row is 0.


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
# The library does not know how to merge partial rows of a normalizer that is not its own softmax, so it gives it
# whole rows, one block of queries at a time: memory still grows with the length, not with its square.

# %%
print(plan(long, long, long, mask=Chunks(512), normalizer=taylor_softmax))

# %% [markdown]
# ## In a config
#
# A config names such a function by its file, as a score, mod, mask or normalizer of `kind: custom`; it learns the
# keyword arguments annotated as arrays (`docs/attention/custom.md`). `attnlab train` then trains any model with
# it, and the run keeps the text of the file.

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
# ## What they look like

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
# To have a part checked against every law of the library (masking, NaN, empty rows, dtypes, vmap, jit, every
# implementation, second derivatives), add a row for it in `tests/rows.py`: its name, how to draw its parameters, and
# its formula in NumPy.

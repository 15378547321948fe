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
# # Attention from scratch
#
# Attention is three verbs: **score** every key against a query, **normalize** the scores into weights,
# **pool** the values by the weights. We do each by hand in NumPy, then meet the same three in the library,
# learn a score, and inspect the attention of a trained translation model.
#
# *Queries* are compared with *keys*, and the *values* of the matching keys are averaged. In translation a query is the
# state of the decoder of the English sentence; keys and values represent the words of the German one.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial

from attnlab import lab
from attnlab.config.load import load
from attnlab.functional import masks, normalizers, scores
from attnlab.functional.attention import attention, attention_weights, pool

# %% [markdown]
# ## By hand
#
# Four German words are the keys, and one query stands for a month. Each word is described by three features:
# is it a weekday, a month, a number?

# %%
words = ["Freitag", "der", "siebte", "März"]
key = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.2, 1.0], [0.0, 1.0, 0.2]])
value = np.array([[5.0], [0.0], [7.0], [3.0]])  # day 5 of the week, -, day 7, month 3
query = np.array([[0.0, 4.0, 0.0]])

# %% [markdown]
# **Score.** The simplest one is the inner product, logits[i, j] = query_i · key_j (Luong et al. 2015, "dot").

# %%
logits = np.array([[q @ k for k in key] for q in query])
dict(zip(words, logits[0].round(2).tolist(), strict=True))

# %% [markdown]
# **Normalize.** The softmax makes them positive and lets them add up to one. The largest logit is taken off first,
# so that no exponential overflows; this changes no weight.

# %%
powers = np.exp(logits - logits.max(axis=1, keepdims=True))
weights = powers / powers.sum(axis=1, keepdims=True)
assert np.isclose(weights.sum(), 1.0)
dict(zip(words, weights[0].round(3).tolist(), strict=True))

# %% [markdown]
# **Pool.** The output is the mean of the values under these weights: close to 3, the month's.

# %%
output = weights @ value
print(output)

# %% [markdown]
# Bahdanau, Cho and Bengio (2015) scored differently, with a small network that may compare a query and a key of
# different widths: logits[i, j] = vᵀ tanh(W_qᵀ query_i + W_kᵀ key_j).

# %%
rng = np.random.default_rng(0)
w_query, w_key, v = rng.normal(size=(3, 8)), rng.normal(size=(3, 8)), rng.normal(size=8)
additive_logits = np.array([[v @ np.tanh(w_query.T @ q + w_key.T @ k) for k in key] for q in query])
additive_logits.round(3)

# %% [markdown]
# ## By the library
#
# The same functions, for one head of one example. A score with parameters is the plain function with its arrays
# bound by `Partial`: a pytree, so the arrays have gradients like any other argument.

# %%
additive = Partial(scores.additive, w_query=jnp.asarray(w_query), w_key=jnp.asarray(w_key), v=jnp.asarray(v))
np.testing.assert_allclose(scores.dot(jnp.asarray(query), jnp.asarray(key)), logits, rtol=1e-5)
np.testing.assert_allclose(additive(jnp.asarray(query), jnp.asarray(key)), additive_logits, rtol=1e-4)
np.testing.assert_allclose(normalizers.softmax(jnp.asarray(logits)), weights, rtol=1e-5)

# %% [markdown]
# `attention` does the three at once, for any number of heads and examples: queries are [*batch, T, heads, features].
# Its two halves are `attention_weights` and `pool`.


# %%
def heads(array):
    return jnp.asarray(array, jnp.float32)[:, None, :]  # [positions, one head, features]


found = attention(heads(query), heads(key), heads(value), score=scores.dot, returns=("weights", "entropy"))
np.testing.assert_allclose(found.output[:, 0], output, rtol=1e-5)
halves = pool(attention_weights(heads(query), heads(key), score=scores.dot), heads(value))
np.testing.assert_array_equal(halves, found.output)
print("output", found.output[0, 0], "entropy", found.entropy[0], "nats")

# %% [markdown]
# A **mask** defines which keys a query may attend to: True means may attend. It meets the normalizer as `where`, never
# as a large negative number, so what is masked has weight 0 exactly. Here the last word is padding, and even NaN in it
# goes nowhere. With nothing left to attend to, the output is 0.

# %%
broken = heads(key).at[3].set(jnp.nan)
masked = attention(heads(query), broken, heads(value), mask=masks.lengths(3), returns=("weights",))
empty = attention(heads(query), broken, heads(value), mask=masks.lengths(0))
print(masked.weights[0].round(3), empty.ravel())
assert masked.weights[0, 0, 3] == 0.0
assert empty.item() == 0.0

# %% [markdown]
# ## Learning where to look
#
# A task that needs attention: the target is the source backwards. Query i is the name of target position i, key j
# that of source position j. The bilinear score (Luong's "general") has to find the W that pairs them.

# %%
length, width = 8, 16
names = jax.random.normal(jax.random.key(0), (length, width)) / width**0.5
symbols = jax.random.normal(jax.random.key(1), (64, length, 1, 4))  # 64 sentences of eight symbols
name = jnp.broadcast_to(names[None, :, None, :], (64, length, 1, width))


def distance(w):
    found = attention(name, name, symbols, score=Partial(scores.general, w=w))
    return jnp.mean((found - symbols[:, ::-1]) ** 2)


@jax.jit
def descend(w, _):
    loss, slope = jax.value_and_grad(distance)(w)
    return w - 20.0 * slope, loss


w, losses = jax.lax.scan(descend, jnp.zeros((width, width)), length=400)
learned = attention_weights(name[0], name[0], score=Partial(scores.general, w=w))[0]
print(f"mean squared distance {losses[0]:.3f} at first, {losses[-1]:.3f} at last")
assert (learned.argmax(axis=1) == jnp.arange(length)[::-1]).all()

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
left.plot(losses)
left.set(xlabel="step", ylabel="mean squared distance")
right.imshow(learned, cmap="Blues", vmin=0, vmax=1)
right.set(xlabel="source position", ylabel="target position", title="weights learned")
plt.show()

# %% [markdown]
# ## A look at an alignment
#
# A translator of German dates, with the additive score. If `make run` has trained it, that run is used; otherwise one
# shrunken to seconds is trained here: its picture shows how it is done, not what a trained model sees.

# %%
root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
run = root / "runs" / "dates_additive-s1"
if not (run / "results.json").exists():
    experiment = load(root / "experiments" / "translation" / "dates_additive.yaml", tiny=True)
    run = lab.train(experiment, Path(tempfile.mkdtemp()) / "tiny", None)

# %%
trained = lab.load(run)
sentence = "Freitag, der siebenundzwanzigste März neunzehnhundertvierundachtzig"
attended = trained.attention(sentence)[0]
np.testing.assert_allclose(attended.weights.sum(axis=1), 1.0, rtol=1e-5)
print(attended.prediction)

# %%
figure, axes = plt.subplots(figsize=(7, 5))
axes.imshow(attended.weights, cmap="Blues", vmin=0, vmax=1)
axes.set_xticks(range(len(attended.column_labels)), attended.column_labels, rotation=60, ha="right")
axes.set_yticks(range(len(attended.row_labels)), attended.row_labels)
axes.set_title("each row adds up to one")
plt.show()

# %% [markdown]
# `attnlab show RUN "ein Satz"` draws the same as a picture and as a page to point at.

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
# Attention has three steps: **score** every key against a query, **normalize** the scores into weights, and **pool**
# the values with these weights. We implement each in NumPy, use the same steps in the library, learn a score, and
# inspect the attention of a trained translation model.
#
# *Queries* are compared with *keys*, and the *values* of the matching keys are averaged. In translation from German to
# English, a query is the state of the decoder, and keys and values represent the German words.

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
# Four German words are the keys, and one query stands for a month. Each word has three features: whether it is a
# weekday, a month, or a number.

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
# **Normalize.** The softmax makes the weights positive, with a sum of one. The largest logit is subtracted first, so
# that no exponential overflows; this does not change the weights.

# %%
powers = np.exp(logits - logits.max(axis=1, keepdims=True))
weights = powers / powers.sum(axis=1, keepdims=True)
assert np.isclose(weights.sum(), 1.0)
dict(zip(words, weights[0].round(3).tolist(), strict=True))

# %% [markdown]
# **Pool.** The output is the weighted mean of the values: close to 3, the value of the month.

# %%
output = weights @ value
print(output)

# %% [markdown]
# Bahdanau, Cho and Bengio (2015) use another score, a small network that can compare queries and keys of different
# widths: logits[i, j] = vᵀ tanh(W_qᵀ query_i + W_kᵀ key_j).

# %%
rng = np.random.default_rng(0)
w_query, w_key, v = rng.normal(size=(3, 8)), rng.normal(size=(3, 8)), rng.normal(size=8)
additive_logits = np.array([[v @ np.tanh(w_query.T @ q + w_key.T @ k) for k in key] for q in query])
additive_logits.round(3)

# %% [markdown]
# ## With the library
#
# The same functions, for one head of one example. A score with parameters is a plain function whose arrays are bound
# with `Partial`. The result is a pytree, so the arrays have gradients like any other argument.

# %%
additive = Partial(scores.additive, w_query=jnp.asarray(w_query), w_key=jnp.asarray(w_key), v=jnp.asarray(v))
np.testing.assert_allclose(scores.dot(jnp.asarray(query), jnp.asarray(key)), logits, rtol=1e-5)
np.testing.assert_allclose(additive(jnp.asarray(query), jnp.asarray(key)), additive_logits, rtol=1e-4)
np.testing.assert_allclose(normalizers.softmax(jnp.asarray(logits)), weights, rtol=1e-5)

# %% [markdown]
# `attention` does all three steps for any number of heads and examples; queries have the shape [*batch, T, heads,
# features]. `attention_weights` and `pool` are its two halves.


# %%
def heads(array):
    return jnp.asarray(array, jnp.float32)[:, None, :]  # [positions, one head, features]


found = attention(heads(query), heads(key), heads(value), score=scores.dot, returns=("weights", "entropy"))
np.testing.assert_allclose(found.output[:, 0], output, rtol=1e-5)
halves = pool(attention_weights(heads(query), heads(key), score=scores.dot), heads(value))
np.testing.assert_array_equal(halves, found.output)
print("output", found.output[0, 0], "entropy", found.entropy[0], "nats")

# %% [markdown]
# A **mask** defines which keys a query may attend to: True means may attend. The normalizer gets it as `where`, not as
# a large negative number added to the logits, so masked keys have a weight of exactly 0. Here the last word is
# padding, and even a NaN in it does not propagate. If all keys are masked, the output is 0.

# %%
broken = heads(key).at[3].set(jnp.nan)
masked = attention(heads(query), broken, heads(value), mask=masks.lengths(3), returns=("weights",))
empty = attention(heads(query), broken, heads(value), mask=masks.lengths(0))
print(masked.weights[0].round(3), empty.ravel())
assert masked.weights[0, 0, 3] == 0.0
assert empty.item() == 0.0

# %% [markdown]
# ## Learning a score
#
# A task that needs attention: the target is the reversed source. Query i is an embedding of target position i, and key
# j an embedding of source position j. The bilinear score (Luong's "general") must learn the W that matches them.

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
# ## The alignment of a trained model
#
# A model with additive attention that translates German dates. This notebook uses the run of `make run` if it exists;
# otherwise it trains a tiny model for a few seconds, whose attention is not meaningful.

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
# `attnlab show RUN "ein Satz"` writes the same as a PNG and as an interactive HTML page.

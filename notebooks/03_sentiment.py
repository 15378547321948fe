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
# # Sentiment: does attention find the words that determine the label?
#
# A text classifier encodes the tokens, **pools** their states into one vector, and predicts a class. The pooling can
# be the mean or the maximum over all states, or attention with a learned query, with one or several hops.
#
# The data are generated: opinions on films in which a negation reverses an adjective ("hardly witty"), and in which
# the main clause of a contrast determines the label ("although it is dull, it is moving"). So a bag of words does not
# determine the label, and for every sentence we know the words that do (the gold rationale).

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import attnlab
from attnlab import lab
from attnlab.config.load import load
from attnlab.data.classification.load import load as load_data

root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
folder = root / "experiments" / "classification"
data = load_data(load(folder / "synthetic_sentiment_additive.yaml").task.data, None)
for example in data.test["test"][:4]:
    print(example.label, "|", example.text, "|", [example.text[start:end] for start, end in example.rationale])

# %% [markdown]
# Word statistics do not help: averaging, over the words of a sentence, the fraction of positive sentences among those
# that contain the word is little better than chance.


# %%
def words(text):
    return text.lower().replace(",", " ,").removesuffix(".").split()


counts = {}
for example in data.train:
    for word in words(example.text):
        seen = counts.setdefault(word, [1, 2])
        seen[0] += example.label == "positive"
        seen[1] += 1
guesses = [np.mean([counts[word][0] / counts[word][1] for word in words(e.text)]) for e in data.test["test"]]
middle = np.median(guesses)
right = np.mean([(g > middle) == (e.label == "positive") for g, e in zip(guesses, data.test["test"], strict=True)])
print(f"words alone: {100 * right:.0f}% right")
assert right < 0.7

# %% [markdown]
# ## Train a model
#
# A bidirectional GRU with additive attention. This notebook uses the run of the following command if it exists;
# otherwise it trains the model, in about a minute:
#
#     attnlab train experiments/classification/synthetic_sentiment_additive.yaml

# %%
run = root / "runs" / "synthetic_sentiment_additive-s1"
if not (run / "results.json").exists():
    run = lab.train(load(folder / "synthetic_sentiment_additive.yaml"), Path(tempfile.mkdtemp()) / "run", None)
    lab.evaluate(run, None)
trained = attnlab.load(run)
scores = trained.run.results()["test"]
for name in ("accuracy", "macro_f1", "ece"):
    low, high = scores[f"{name}_ci95"]
    print(f"{name:<10} {scores[name]:6.2f}  [{low:.2f}, {high:.2f}]")
assert scores["accuracy"] > 90

# %% [markdown]
# `predict` returns the class and its probability, and `attention` the attention map.

# %%
texts = [
    "The plot is witty.",
    "The plot is hardly witty.",
    "The plot is hardly witty, but the acting is moving.",
    "Although the acting is moving, the plot is hardly witty.",
]
for text, answer in zip(texts, trained.predict(texts), strict=True):
    print(f"{answer:<18} {text}")

# %%
figure, axes = plt.subplots(len(texts), 1, figsize=(8, 5), layout="constrained")
for place, text in zip(axes, texts, strict=True):
    (view,) = trained.attention(text)
    np.testing.assert_allclose(view.weights.sum(axis=1), 1.0, rtol=1e-5)
    place.imshow(view.weights, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    place.set_xticks(range(len(view.column_labels)), view.column_labels, fontsize=8)
    place.set_yticks([0], view.row_labels)
plt.show()

# %% [markdown]
# ## Are these the words that determine the label?
#
# The fraction of the attention on the gold rationale, and the fraction of words in it, which is what uniform weights
# would give.

# %%
print(f"attention on deciding words {scores['rationale_mass']:.0f}%, deciding words {scores['rationale_share']:.0f}%")

# %% [markdown]
# The model is nearly always correct, yet in our runs two thirds of its attention are on other words: a recurrent state
# contains information from the words around it, so the classifier can read "not dull" from the state of the preceding
# word. A large weight on a word does not mean that the prediction depends on it. (Jain & Wallace 2019; Wiegreffe &
# Pinter 2019.)
#
# To measure what the prediction depends on, change the text: remove each word in turn, and see how much the
# probability of the predicted class drops.

# %%
text = "The script is by no means dull."
(view,) = trained.attention(text)
task, tokens = trained.task, view.column_labels
answer = task.labels.index(view.row_labels[0])
shorter = [" ".join(tokens[:i] + tokens[i + 1 :]) for i in range(len(tokens))]
falls = view.score - task.probabilities(trained.params, shorter)[:, answer]

figure, (above, below) = plt.subplots(2, 1, figsize=(7, 4), sharex=True, layout="constrained")
above.bar(range(len(tokens)), view.weights[0])
above.set(ylabel="attention", title=f"{text} → {view.prediction}")
below.bar(range(len(tokens)), falls, color="tab:orange")
below.set(ylabel="fall without it")
below.set_xticks(range(len(tokens)), tokens)
plt.show()

# %% [markdown]
# ## Other ways to pool
#
# Only `model.pooling` changes: `{kind: mean}`, `{kind: max}`, `{kind: last}`, any score and normalizer in `{kind:
# attention, ...}`, or `{kind: structured, hops: 3}`. On real data:
#
#     attnlab train experiments/classification/sst2_additive.yaml --data DATA
#     attnlab train experiments/classification/sst2_structured.yaml --data DATA

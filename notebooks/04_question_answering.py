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
# # Question answering
#
# Two kinds of questions: about a **story** with known supporting facts, so that attention can be evaluated too; and
# about a **passage**, with attention in both directions between question and passage.

# %%
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial

import attnlab
from attnlab import lab
from attnlab.config.load import load
from attnlab.config.story_qa import GeneratedStories
from attnlab.data.extractive_qa.records import PassageQuestion
from attnlab.data.story_qa import generated
from attnlab.functional import normalizers, scores
from attnlab.functional.attention import attention, pool
from attnlab.tasks.bootstrap import paired_difference
from attnlab.tasks.extractive_qa import lexical_baseline
from attnlab.tasks.extractive_qa.metrics import squad_scores

# %% [markdown]
# ## Stories with gold facts
#
# People move between places and carry objects. A question needs one, two or three sentences, the gold facts.

# %%
for facts in (1, 2, 3):
    story = generated.generate(GeneratedStories(facts=facts, max_sentences=9, train=1, dev=1, test=1)).train[0]
    for number, sentence in enumerate(story.sentences):
        print("→" if number in story.facts else " ", sentence)
    print(f"  {story.question} {story.answer}\n")

# %% [markdown]
# A **memory network** (Sukhbaatar et al. 2015) keeps every sentence as a key and as a value. The question is the query;
# the output of a hop is added to it, and the next hop uses the sum as its query. One hop is enough for one fact.

# %%
run = Path(tempfile.mkdtemp()) / "stories_1"
root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
config = load(root / "experiments" / "story_qa" / "story_qa_1_memory.yaml", ["training.steps=1500"])
lab.train(config, run, None)
found = lab.evaluate(run, None)["test"]
{name: found[name] for name in ("accuracy", "accuracy_ci95", "fact_mass_max", "fact_mass_max_ci95")}

# %%
assert found["accuracy"] > 95
assert found["fact_mass_max"] > 80
trained = attnlab.load(run)
(view,) = trained.attention(
    "Amira went to the attic. Boris ran to the cellar. Amira moved to the stable. Boris walked to the attic. "
    "Where is Amira?"
)
figure, axes = plt.subplots(figsize=(6, 1.5))
axes.imshow(view.weights, cmap="Blues", vmin=0, vmax=1)
axes.set_xticks(range(len(view.column_labels)), view.column_labels, rotation=20, ha="right")
axes.set(yticks=[0], yticklabels=view.row_labels, title=f"answer: {view.prediction}")
plt.show()

# %% [markdown]
# The earlier sentence about Amira has a small weight, because the keys encode how long ago each sentence was.
# Questions with two and three facts need as many hops and longer training:
# `experiments/story_qa/story_qa_2_memory.yaml`, `story_qa_3_memory.yaml`. Any score and normalizer of the library can
# be used; with sparsemax the weights of other sentences are exactly 0:
#
#     attnlab train experiments/story_qa/story_qa_1_memory.yaml model.attention.normalizer.kind=sparsemax
#
# ## Attention flow between question and passage
#
# BiDAF (Seo et al. 2017) computes one score for every pair of a passage word and a question word, S[t, j] = wᵀ [h_t;
# u_j; h_t ∘ u_j], and attends in both directions: each passage word to the question (softmax of the rows), and the
# question to the passage (softmax of the largest entry of each row). With a random vector per word as its state, the
# result is easy to follow:

# %%
passage = ["Ann", "was", "born", "in", "Paris", "and", "Bob", "in", "Rome"]
question = ["where", "was", "Bob", "born"]
names = {word: jax.random.normal(jax.random.key(n), (32,)) for n, word in enumerate(sorted({*passage, *question}))}
h, u = (jnp.stack([names[word] for word in words])[:, None] for words in (passage, question))
trilinear = Partial(scores.trilinear, w_query=jnp.zeros(32), w_key=jnp.zeros(32), w_product=jnp.full(32, 0.2))
flow = attention(h, u, u, score=trilinear, returns=("weights", "max"))
to_passage = normalizers.softmax(flow.max[0])
summary = pool(to_passage[None, None], h)
print("the question looks at:", dict(zip(passage, to_passage.round(2).tolist(), strict=True)))

figure, axes = plt.subplots(figsize=(6, 2.5))
axes.imshow(flow.weights[0].T, cmap="Blues", vmin=0, vmax=1)
axes.set_xticks(range(len(passage)), passage, rotation=45)
axes.set_yticks(range(len(question)), question)
axes.set_title("each word of the passage attends to the question")
plt.show()
assert {passage[i] for i in np.argsort(-to_passage)[:3]} == {"was", "born", "Bob"}

# %% [markdown]
# Words that occur in both attend to each other; a passage word that is not in the question attends to all of the
# question. A trained reader learns states in which "Rome" encodes that it is next to "Bob".
#
# ## Metrics
#
# The metrics of SQuAD are exact match and word-level F1, ignoring case, punctuation and articles. A model may also
# predict that a question is unanswerable.

# %%
gold = [["the Eiffel Tower", "Eiffel Tower"], ["in 1889"], []]
print(squad_scores(gold, ["Eiffel tower!", "1889", ""]))

# %% [markdown]
# An untrained baseline, the sliding window (Richardson et al. 2013), selects the candidate answer with the most
# question words around it. `attnlab evaluate` reports it for every reader, with a paired bootstrap of the difference.

# %%
text = "The Eiffel Tower was built in 1889. It is made of iron. About 7 million people visit it in a year."
asked = ["When was the Eiffel Tower built?", "What is it made of?", "How many people visit it in a year?"]
answers = [lexical_baseline.predict(PassageQuestion("", one, text, ())) for one in asked]
print(answers)
paired_difference(np.array([100.0, 50, 100, 0] * 20), np.array([50.0, 50, 0, 0] * 20))

# %% [markdown]
# On SQuAD (see `docs/data.md` for its files), with attention in both directions, in one, and without attention:
#
#     attnlab train experiments/extractive_qa/squad_bidaf.yaml --data DIR
#     attnlab train experiments/extractive_qa/squad_c2q.yaml --data DIR
#     attnlab train experiments/extractive_qa/squad_none.yaml --data DIR

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
# # Captioning: which region of the image does each word come from?
#
# *Show, attend and tell* (Xu et al. 2015): a network encodes the image as a grid of features, and an LSTM attends to
# the cells of this grid before every word. Queries are the states of the decoder, keys and values the cells. We use
# generated scenes of shapes with a gold region for every word, so that attention to the named object can be measured.

# %%
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import attnlab
from attnlab import lab
from attnlab.config.captioning import Scenes
from attnlab.config.load import load
from attnlab.data.captioning import scenes
from attnlab.tasks.captioning.metrics import caption_scores
from attnlab.tasks.captioning.pointing import pointing

# %% [markdown]
# ## The scenes
#
# An object has a size, a color and a shape; objects are described in reading order. No caption of the test set is in
# the training set: its words are known, but their combination is new.

# %%
examples = scenes.generate(Scenes(train=4, dev=1, test=3)).train
figure, every_axes = plt.subplots(1, 4, figsize=(12, 3.4))
for axes, example in zip(every_axes, examples, strict=True):
    axes.imshow(example.image)
    axes.set_title("\n".join(example.captions[0].replace(" above", "\nabove").split("\n")), fontsize=8)
    axes.axis("off")
plt.show()
list(zip(examples[0].captions[0].split(), examples[0].regions, strict=True))[:4]

# %% [markdown]
# ## A trained model
#
# This notebook uses the run of `attnlab train experiments/captioning/scenes_soft.yaml` if it exists; otherwise it
# trains a small model on scenes of single objects, in a minute or two.

# %%
root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
run = root / "runs" / "scenes_soft-s1"
if not (run / "results.json").exists():
    small = [
        "task.data={kind: scenes, train: 800, dev: 40, test: 100, max_objects: 1}", "model.image.channels=[16, 32, 64]",
        "training.steps=300", "training.evaluate_every=150", "training.batch_tokens=256", "training.buckets=1",
        "training.optimizer.learning_rate=0.005", "training.optimizer.warmup_steps=20",
    ]  # fmt: skip
    run = lab.train(
        load(root / "experiments" / "captioning" / "scenes_soft.yaml", small), Path(tempfile.mkdtemp()) / "run", None
    )
trained = attnlab.load(run)
tests = trained.task.load(trained.run.config, None).test["test"][:100]

# %% [markdown]
# `attention` takes the path of an image, like `attnlab show RUN IMAGE`, and returns the caption with the attention of
# each word.

# %%
path = Path(tempfile.mkdtemp()) / "scene.png"
Image.fromarray(tests[1].image).save(path)
view = trained.attention(str(path))[0]
print("written:", view.prediction, "| gold:", tests[1].captions[0])
assert view.weights.shape[1:] == (8, 8)

# %%
count = 1 + len(view.row_labels)
figure, every_axes = plt.subplots(1, count, figsize=(1.8 * count, 2.2), squeeze=False)
every_axes[0, 0].imshow(view.image)
for axes, word, weights in zip(every_axes[0, 1:], view.row_labels, view.weights, strict=True):
    axes.imshow(view.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=(0, 64, 64, 0))
    axes.imshow(weights / weights.max(), cmap="inferno", alpha=0.6, extent=(0, 64, 64, 0))
    axes.set_title(f"{word} {weights.max():.2f}", fontsize=9)
for axes in every_axes[0]:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## Does it attend to what it names?
#
# The decoder is fed the gold caption (teacher forcing), and for every word that describes an object we check whether
# the cell with the largest weight is on this object (the *pointing game*). An object covers 4 of the 64 cells, so
# chance level is 1/16.

# %%
hits = []
for example, weights in zip(tests, trained.task.attention(trained.params, tests), strict=True):
    hits += pointing(weights, example.regions, (8, 8), (64, 64))[0]
print(f"{100 * np.mean(hits):.1f}% of {len(hits)} words point at their object")
assert np.mean(hits) > 0.3

# %% [markdown]
# ## Caption metrics
#
# A photograph has no single correct caption, so several references and metrics with partial credit are used: BLEU
# counts common n-grams, CIDEr-D gives rare ones more weight, and ROUGE-L uses the longest common subsequence.

# %%
references = [["a dog runs over a field", "the brown dog runs"], ["two children play in the snow", "kids play in snow"]]
for captions in (
    ["a dog runs over a field", "two children play in the snow"],
    ["a dog sits on a field", "children play in the snow"],
    ["a man", "a man"],
):
    found = caption_scores(captions, references, resamples=10)
    print(captions, {name: round(found[name], 1) for name in ("bleu_1", "bleu_4", "rouge_l", "cider_d")})

# %% [markdown]
# `experiments/captioning` has experiments that differ only in the attention: `scenes_mean` uses the mean of all cells
# (no attention), `scenes_hard` one sampled cell, `scenes_sparsemax` few cells, and `scenes_transformer` many heads.

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
# # Visual question answering: fusion of image and question
#
# A recurrent network encodes the question, and a convolutional one the image. The *fusion* combines them, and the
# config selects it: concatenated vectors (`concat`), `co_attention`, `cross_attention` of every word to the image, or
# the same with a tanh gate (`gated_cross_attention`). A high accuracy alone is weak evidence for a fusion, because
# many questions can be guessed, so each accuracy is reported with controls.

# %%
import tempfile
from pathlib import Path

import jax
import matplotlib.pyplot as plt
import numpy as np
from PIL import Image

import attnlab
from attnlab import lab
from attnlab.config.load import load
from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.visual_qa import scenes

# %% [markdown]
# ## The questions
#
# Generated scenes with questions about colors, shapes, numbers and the presence of objects.

# %%
asked = scenes.generate(SceneQuestions(train=5, dev=1, test=1)).train
figure, every_axes = plt.subplots(1, 5, figsize=(14, 3))
for axes, one in zip(every_axes, asked, strict=True):
    axes.imshow(one.image)
    axes.set_title(f"{one.question}\n{one.answer}", fontsize=9)
    axes.axis("off")
plt.show()

# %% [markdown]
# ## Two fusions, everything else equal
#
# Scenes with one object, so that a minute of training is enough. The full task, and easy-VQA, are in
# `experiments/visual_qa`.

# %%
root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
experiment = root / "experiments" / "visual_qa" / "scenes_cross_attention.yaml"
small = [
    "task.data={kind: scene_questions, train: 3000, dev: 60, test: 300, max_objects: 1}",
    "model.image.channels=[16, 32, 32]", "model.image.context=true", "model.hidden=64",
    "training.steps=600", "training.evaluate_every=200",
    "training.batch_tokens=320", "training.buckets=1", "training.optimizer.learning_rate=0.004",
    "training.optimizer.warmup_steps=20",
]  # fmt: skip
fusions = {
    "cross": [],
    "gated": [
        "model.fusion={kind: gated_cross_attention, attention: {score: {kind: scaled_dot}}, heads: 4, layers: 2}"
    ],
}
runs = {
    name: lab.train(load(experiment, [*small, *more]), Path(tempfile.mkdtemp()) / name, None)
    for name, more in fusions.items()
}
scores = {name: lab.evaluate(run, None)["test"] for name, run in runs.items()}

# %% [markdown]
# ## The controls
#
# `shuffled images`: the same model gets the image of another question. `question only`: a black image. `image only`:
# no question. `most frequent answer`: that of the training set, over all questions or to the same question.

# %%
names = (
    "accuracy", "accuracy_shuffled_images", "accuracy_question_only", "accuracy_image_only", "most_frequent_answer",
    "most_frequent_answer_to_question",
)  # fmt: skip
for name in names:
    print(f"{name:32}", {fusion: round(found[name], 1) for fusion, found in scores.items()})
assert all(found["accuracy"] > found["accuracy_shuffled_images"] for found in scores.values())

# %% [markdown]
# ## Attention of each word
#
# In `cross_attention` every word of the question attends to the image. In the picture each word has its own map (of the
# last layer, the mean of its heads).

# %%
trained = attnlab.load(runs["cross"])
one = trained.task.load(trained.run.config, None).test["test"][3]
path = Path(tempfile.mkdtemp()) / "scene.png"
Image.fromarray(one.image).save(path)
print(one.question, trained.predict([f"{path}\t{one.question}"]), "| gold:", one.answer)
view = trained.attention(str(path), one.question)[0]
figure, every_axes = plt.subplots(1, 1 + len(view.row_labels), figsize=(1.8 * (1 + len(view.row_labels)), 2.2))
every_axes[0].imshow(view.image)
for axes, word, weights in zip(every_axes[1:], view.row_labels, view.weights, strict=True):
    axes.imshow(view.image.mean(axis=-1), cmap="gray", vmin=0, vmax=255, extent=(0, 64, 64, 0))
    axes.imshow(weights / weights.max(), cmap="inferno", alpha=0.6, extent=(0, 64, 64, 0))
    axes.set_title(f"{word} {weights.max():.2f}", fontsize=9)
for axes in every_axes:
    axes.axis("off")
plt.show()

# %% [markdown]
# ## The gates
#
# A gate starts at tanh(0) = 0, so the image has no effect at first; the learned value shows how much of the image the
# model uses (Alayrac et al. 2022, figure 6).

# %%
params = attnlab.load(runs["gated"]).params
gates = {
    jax.tree_util.keystr(path): float(np.tanh(leaf))
    for path, leaf in jax.tree.leaves_with_path(params)
    if "gate" in jax.tree_util.keystr(path)
}
for name, value in gates.items():
    print(f"{name:32} {value:+.3f}")
assert any(abs(value) > 0.01 for value in gates.values())

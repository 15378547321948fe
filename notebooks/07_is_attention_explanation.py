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
# # Is attention explanation? Jain & Wallace against Wiegreffe & Pinter
#
# A classifier with attention gives every word a weight, and it is tempting to read the weights as the reasons for its
# prediction. Jain & Wallace (2019), "Attention is not Explanation", tested this and came to their title: the weights
# agree little with other measures of importance, and very different weights give the same prediction. Wiegreffe &
# Pinter (2019), "Attention is not not Explanation", answered that these experiments ask the wrong question, and
# proposed others, which train more models. This notebook repeats the experiments of both on SST-2, sentences from film
# reviews that are positive or negative.
#
# **What is shortened.** The files in `experiments/classification` train models of 192 hidden units for 6,000 steps
# (3,000 for the adversary) on the phrases of the training sentences. Here the models have half the width and 600 steps
# on whole sentences. There is one seed, or two, and some experiments use a random 200 of the 1,821 test sentences. All
# intervals are 95% bootstrap intervals over test sentences: they do not say how much another seed would change. Where
# there are full runs, their results stand beside those of the notebook; `docs/trust.md` has more of them.
#
# The notebook takes about 5 minutes on 2 cores. It needs the Stanford Sentiment Treebank in the directory that the
# environment variable `ATTNLAB_DATA` names (see `docs/data.md`).

# %%
import json
import os
import tempfile
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from jax.tree_util import Partial

import attnlab
from attnlab import lab
from attnlab.analysis.faithfulness import (
    adversarial_attention,
    kendall_tau,
    permutation_test,
    significant_share,
)  # fmt: skip
from attnlab.analysis.interventions import allowed, given
from attnlab.analysis.weights import uniform_weights
from attnlab.config.load import load
from attnlab.data.text.buckets import Shape
from attnlab.functional.divergence import jsd, tvd
from attnlab.lab.divergence import compare_attention
from attnlab.tasks.bootstrap import interval, paired_difference

DATA = Path(os.environ["ATTNLAB_DATA"])
root = next(folder for folder in [Path.cwd(), *Path.cwd().parents] if (folder / "experiments").is_dir())
runs = Path(tempfile.mkdtemp())
CLASSES = ("negative", "positive")
COLORS = ("tab:orange", "tab:blue")

# %% [markdown]
# ## The model
#
# A bidirectional GRU reads the words and leaves a state $h_i$ at each of them. Additive attention computes the weights
# $\alpha_i$, and a linear layer reads the weighted mean of the states:
#
# $$\hat y = \mathrm{softmax}\Big(W \sum_i \alpha_i h_i + b\Big)$$
#
# The settings of this short training were chosen so that the weights are not uniform, before any experiment below was
# run: a larger learning rate, less dropout, and a wider layer that computes the weights (512 instead of 128 units).
# With a narrow one they are still almost uniform after so few steps, and nothing below would mean much.

# %%
SHORT = [
    "task.data.phrases=false", "model.embedding=128", "model.dropout=0.2",
    "training.steps=600", "training.evaluate_every=120", "training.buckets=2", "training.optimizer.learning_rate=0.003",
]  # fmt: skip
RECURRENT = ["model.encoder.hidden=96", "model.pooling.attention.score.hidden=512"]


def train(name, experiment, *changes):
    """Train an experiment of SST-2 with some changes of its settings, and load the run."""
    path = root / "experiments" / "classification" / f"{experiment}.yaml"
    return attnlab.load(lab.train(load(path, [*SHORT, *changes]), runs / name, DATA))


base = train("base", "sst2_additive", *RECURRENT)
task, params = base.task, base.params
test = task.load(base.run.config, DATA).test["test"]


# %%
def correct(trained):
    """Return whether the prediction of each test sentence is right, as 100 or 0."""
    predictions = trained.task.outputs(trained.params, test)
    return np.array([100.0 * (label == example.label) for label, example in zip(predictions, test, strict=True)])


def cell(values, digits=2):
    """Return a mean with its bootstrap interval as text."""
    low, high = interval(np.asarray(values))
    return f"{np.mean(values):.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


archived = [json.loads(path.read_text()) for path in sorted(root.glob("docs/results/sst2_additive-s*/results.json"))]
right = correct(base)
print(f"accuracy of this model    {cell(right, 1)}")
print("accuracy of the full runs", ", ".join(f"{results['test']['accuracy']:.1f}" for results in archived))
assert right.mean() > 75

# %% [markdown]
# ## What the weights show
#
# In a notebook an explanation shows itself: the stronger the color, the larger the number. The method `raw_attention`
# is the attention weights.

# %%
texts = [
    "Somewhat blurred , but Kinnear 's performance is razor sharp .",
    "Though everything might be literate and smart , it never took off and always seemed static .",
    "It 's a good film -- not a classic , but odd , entertaining and authentic .",
]
base.explain(texts[0], method="raw_attention")

# %%
base.explain(texts[1], method="raw_attention")

# %%
base.explain(texts[2], method="raw_attention")

# %% [markdown]
# The large weights are mostly on words that a reader would mark too, and that is why such pictures convince. But being
# plausible is not being *faithful*. Whether the prediction depends on these words is another question, and other
# methods have other answers. Below are several of them for one sentence (blue speaks for the prediction, red against
# it), with Kendall's τ for each pair: 1 if they order the words alike, −1 if in reverse. `leave_one_out` is the fall of
# the log-probability without the word, and `random_attribution` are random numbers, the floor of every comparison.

# %%
base.explain_together(texts[1])

# %% [markdown]
# # Jain & Wallace: attention is not explanation
#
# ## Do the weights agree with other measures?
#
# If the weights say which words matter, they should order the words of a sentence as other measures do. The paper has
# two. The *gradient* of the prediction with respect to each word's one-hot vector, with the weights held fixed,
#
# $$g_i = \Big|\sum_d x_{id}\, \partial \hat y / \partial x_{id}\Big|,$$
#
# and *leave-one-out*, the total variation distance of the predictions with and without the word,
#
# $$\Delta\hat y_i = \mathrm{TVD}\big(\hat y(x_{-i}), \hat y(x)\big), \qquad
# \mathrm{TVD}(p, q) = \tfrac{1}{2} \sum_c |p_c - q_c|.$$
#
# First the arrays: the weights and the states of the sampled sentences, from one call of the model.

# %%
SIZE = 200
drawn = np.random.default_rng(0).permutation(len(test))[:SIZE]
sample = [test[number].text for number in sorted(drawn)]


@jax.jit
def forward(batch):
    """Return the logits, the attention layer, and the embedded words of a batch."""
    output = task.adapter.forward(params, batch, details=True)
    return output.logits, output.attention[0], task.adapter.embed(params, batch)


ids = [encoded.ids for encoded in task.text_encoder.encode(sample)]
width = max(map(len, ids))
batch = task.adapter.fill([(tokens, 0) for tokens in ids], Shape(SIZE, width, width))
logits, layer, embedded = forward(batch)
weights, states, real = layer.weights[:, 0, 0], layer.pooled.value[:, :, 0], allowed(layer)[:, 0, 0]
predictions = jax.nn.softmax(logits)
chosen = np.asarray(predictions.argmax(axis=1))
largest = np.asarray(weights.max(axis=1))
print(f"{SIZE} sentences with {int(real.sum()):,} words; mean of the largest weight {largest.mean():.2f}")

# %% [markdown]
# No sentence of a batch affects another one, so the gradient of the sum of all predictions has the gradients of all of
# them. `given` replaces the weights of the layer, here by what they are: the gradient does not flow through them.

# %%
fixed = {layer.name: Partial(given, weights=layer.weights)}


@jax.jit
def gradient_sizes(embedded):
    """Return g for each word."""

    def score(embedded):
        logits = task.adapter.forward(params, batch, embedded=embedded, intervene=fixed).logits
        return jax.nn.softmax(logits)[jnp.arange(SIZE), chosen].sum()

    return jnp.abs((embedded * jax.grad(score)(embedded)).sum(axis=-1))


gradients = gradient_sizes(embedded)

# %%
words = [task.text_encoder.surface(text) for text in sample]
shorter = [" ".join(some[:place] + some[place + 1 :]) for some in words for place in range(len(some))]
before = np.repeat(predictions[:, 0], [len(some) for some in words])
leave_one_out = np.zeros(weights.shape, np.float32)
leave_one_out[np.asarray(real)] = np.abs(task.probabilities(params, shorter)[:, 0] - before)  # TVD of two classes

# %%
measures = {
    "attention and gradients": (weights, gradients),
    "attention and leave-one-out": (weights, leave_one_out),
    "gradients and leave-one-out": (gradients, leave_one_out),
    "random numbers and leave-one-out": (jax.random.uniform(jax.random.key(0), weights.shape), leave_one_out),
}
correlate = jax.jit(jax.vmap(kendall_tau))
tau = {name: correlate(first, second, real) for name, (first, second) in measures.items()}
print(f"{'':34}{'mean of τ':22}sentences with p ≤ 0.05")
for name, (statistic, pvalue) in tau.items():
    defined = statistic[~np.isnan(statistic)]
    print(f"{name:34}{cell(defined):22}{100 * float(significant_share(pvalue)):.0f}%")

# %%
figure, every_axes = plt.subplots(1, 3, figsize=(11, 3.2), sharey=True, layout="constrained")
for axes, (name, (statistic, _)) in zip(every_axes, list(tau.items())[:3], strict=True):
    parts = [np.asarray(statistic)[chosen == number] for number in range(2)]
    axes.hist(parts, np.linspace(-1, 1, 21), stacked=True, color=COLORS, label=CLASSES)
    axes.axvline(np.nanmean(statistic), color="black", linestyle="--", linewidth=1)
    axes.set(title=name, xlabel="Kendall's τ", xlim=(-1, 1))
every_axes[0].set_ylabel("sentences")
every_axes[0].legend(title="prediction", loc="upper left", frameon=False)
plt.show()

# %% [markdown]
# (Section 4.1 of the paper; the dashed lines are means.) The weights agree with both measures better than random
# numbers do, but not closely.
#
# ## Would other weights give the same prediction?
#
# With everything before the attention fixed, the prediction is a function of the weights alone:


# %%
def predict(weights, states):
    """Return the class probabilities [2] for weights [n] of the states [n d]."""
    return jax.nn.softmax(weights @ states @ params["classes"]["kernel"] + params["classes"]["bias"])


np.testing.assert_allclose(jax.vmap(predict)(weights, states), predictions, atol=1e-5)

# %% [markdown]
# Two experiments replace the weights $\hat\alpha$ of the model. The first *permutes* them, 100 times in each sentence,
# and takes the median change of the prediction. The second searches *adversarial* weights, as different as possible
# while the prediction changes by at most ε = 0.01:
#
# $$\max_\alpha\ \mathrm{JSD}(\alpha, \hat\alpha) \quad\text{with}\quad \mathrm{TVD}\big(\hat y(\alpha),
# \hat y(\hat\alpha)\big) \le \varepsilon.$$
#
# The Jensen–Shannon divergence lies between 0 and ln 2 ≈ 0.69. The search takes 500 steps of Adam from 5 starting
# points. Beside both stand *uniform* weights.


# %%
def replace_weights(sentence):
    """Return the results of both experiments, the change by uniform weights, and the class that these choose."""
    rng, weights, states, real = sentence
    model = partial(predict, states=states)
    uniform = model(uniform_weights(real))
    permuted = permutation_test(rng, model, weights, real)
    return permuted, adversarial_attention(rng, model, weights, real), tvd(uniform, model(weights)), uniform.argmax()


rngs = jax.random.split(jax.random.key(1), SIZE)
search = jax.jit(jax.vmap(replace_weights))
split = partial(np.split, indices_or_sections=SIZE // 8)  # 8 sentences at once
parts = zip(jnp.split(rngs, SIZE // 8), split(weights), split(states), split(real), strict=True)
found = [jax.device_get(search(part)) for part in parts]
permuted, adversarial, uniform_tvd, uniform_choice = jax.tree.map(lambda *of_part: np.concatenate(of_part), *found)
assert np.isfinite(adversarial.best_jsd).all()

# %% [markdown]
# First one sentence: of those with 8 to 16 words and a weight above 0.3, the one whose adversarial weights are the
# furthest from the model's. The last row is the prediction if a *single* word gets all the weight.

# %%
short = np.array([8 <= len(some) <= 16 for some in words])
shown = int(np.argmax(np.where(short & (largest > 0.3), adversarial.best_jsd, 0.0)))
count, name = len(words[shown]), f"p({CLASSES[chosen[shown]]})"
alone = jax.vmap(predict, (0, None))(jnp.eye(count), states[shown, :count])[:, chosen[shown]]
own = float(predictions[shown, chosen[shown]])
other = float(predict(adversarial.best_weights[shown], states[shown])[chosen[shown]])
rows = {
    "weights of\nthe model": (weights[shown, :count], "0.4"),
    "adversarial\nweights": (adversarial.best_weights[shown, :count], "tab:red"),
    f"{name}, all\nweight here": (alone, COLORS[chosen[shown]]),
}
figure, every_axes = plt.subplots(3, 1, figsize=(9, 5), sharex=True, layout="constrained")
for axes, (label, (heights, color)) in zip(every_axes, rows.items(), strict=True):
    axes.bar(range(count), heights, color=color)
    axes.set(ylabel=label, ylim=(0, 1.05))
every_axes[2].axhline(own, color="black", linestyle="--", linewidth=1)
every_axes[2].set_xticks(range(count), words[shown], rotation=40, ha="right")
every_axes[0].set_title(f"{name} = {own:.3f} with the model's weights, {other:.3f} with adversarial ones")
plt.show()

# %% [markdown]
# The last row shows why this works. The GRU has carried the sentiment into the states of other words, so that several
# of them give the same prediction by themselves. A weight belongs to a *state*, not to a word. Now all sentences:

# %%
figure, every_axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
for number in range(2):
    of_class = chosen == number
    style = {"s": 14, "alpha": 0.6, "color": COLORS[number], "label": CLASSES[number]}
    every_axes[0].scatter(largest[of_class], permuted.median_tvd[of_class], **style)
    every_axes[1].scatter(largest[of_class], adversarial.best_jsd[of_class], **style)
every_axes[0].set(title="permuted weights", ylabel="median TVD of the prediction", ylim=(0, 0.5))
every_axes[0].legend(title="prediction", frameon=False)
every_axes[1].set(title="adversarial weights", ylabel="JSD from the model's weights (nats)", ylim=(0, 0.75))
for axes in every_axes[:2]:
    axes.set(xlabel="largest weight in the sentence", xlim=(0, 1))
for height, label in ((0.5, "0.5"), (np.log(2), "ln 2")):
    every_axes[1].axhline(height, color="black", linestyle="--", linewidth=1)
    every_axes[1].annotate(label, (0.98, height + 0.01), ha="right")
every_axes[2].hist(adversarial.best_tvd, np.linspace(0, 0.01, 21), color="tab:red")
every_axes[2].set(title="adversarial weights", xlabel="TVD of the prediction", ylabel="sentences", xlim=(0, 0.01))
plt.show()

# %%
found = (adversarial.best_jsd >= 0.5) & (adversarial.best_tvd <= 0.01)
here = {
    "permutation_median_tvd": permuted.median_tvd,
    "uniform_tvd": uniform_tvd,
    "uniform_same_decision": uniform_choice == chosen,
    "adversarial_jsd": adversarial.best_jsd,
    "adversarial_found": found,
}
paths = sorted(root.glob("docs/results/sst2_additive-s*/faithfulness.json"))
full = [json.loads(path.read_text())["test"]["tests"] for path in paths]
print(f"{'':24}{'this notebook':22}full runs, {len(full)} seeds")
for name, values in here.items():
    print(f"{name:24}{cell(values):22}" + ", ".join(f"{tests[name]['mean']:.2f}" for tests in full))

# %% [markdown]
# (Section 4.2 of the paper. `adversarial_found` is the share of sentences whose adversarial weights have a JSD of at
# least 0.5.) Jain & Wallace conclude: if other weights, which tell another story, would have given the same
# prediction, then the story that the weights tell is not the reason for it.
#
# A caution about the numbers: even uniform weights over 20 words have a JSD of 0.59 from all weight on one word. A
# large JSD means little for sentences on the left of these plots, where no word has a large weight.

# %% [markdown]
# # Wiegreffe & Pinter: attention is not not explanation
#
# Their objections: the adversarial weights are chosen for each sentence by itself, so that no trained model need ever
# produce them; an explanation may be *an* explanation without being the only one; and without a baseline nobody knows
# which JSD is large. They propose four experiments.
#
# ## Uniform weights: does the task need attention at all?
#
# If a model that is trained with uniform weights is as good, this task is no place to test attention. (Section 3.2.)
# The full runs of `sst2_additive` and `sst2_uniform` are archived, with the prediction for every test sentence:

# %%
results = root / "docs" / "results"
comparison = lab.compare([results / "sst2_additive-s*"], [results / "sst2_uniform-s*"])
for score in comparison.scores:
    if score.metric.name == "accuracy":
        values = ", ".join(f"{value:.1f}" for value in score.runs)
        print(f"{comparison.groups[score.group].name:16}{values}")
(difference,) = [found for found in comparison.differences if found.metric.name == "accuracy"]
print(f"{'difference':16}{difference.value:+.1f} [{difference.interval[0]:+.1f}, {difference.interval[1]:+.1f}]")

# %% [markdown]
# There is no difference to speak of: SST-2 does not need attention. So none of the experiments here, on either side,
# says how attention behaves where a model depends on it.
#
# ## Another seed: which divergence is large?
#
# Two trainings that differ in the seed alone are equally good models of the same kind. How far apart their weights are
# is the divergence that means nothing. (Section 3.3.)

# %%
seed = train("seed_2", "sst2_additive", *RECURRENT, "seed=2")
print(f"accuracy of seed 1 {cell(right, 1)}, of seed 2 {cell(correct(seed), 1)}")

# %% [markdown]
# ## A model-consistent adversary: can a *model* have other weights?
#
# Instead of weights for one sentence, train a model: from scratch, without labels, on the whole training set. It is to
# predict like the base model (subscript b) and to attend differently:
#
# $$\mathcal{L} = \mathrm{TVD}(\hat y, \hat y_b) - \lambda\, \mathrm{KL}(\alpha\,\|\,\alpha_b)$$
#
# (Section 4.) The full study has five values of λ and 3,000 steps; here there is one value, larger than the 0.001 of
# the experiment, because with 0.001 a first, narrower model stayed at the weights of the base model.

# %%
base_run = base.run.directory
adversary = train(
    "adversary", "sst2_adversary", *RECURRENT, "task.objective.strength=0.003", f"task.objective.base={base_run}"
)
print(f"λ = {adversary.run.config.task.objective.strength}; accuracy {cell(correct(adversary), 1)}")

# %% [markdown]
# `compare_attention` computes the divergence of the weights and the distance of the predictions from those of the base
# model, on all test sentences. Beside the two models stand the replaced weights from above, on their 200 sentences.

# %%
report = compare_attention(base_run, [runs / "seed_2", runs / "adversary"], DATA)
points = {}
for group in report.groups:
    means = group.divergence
    label = {"seed": "another seed", "adversary": f"adversary, {group.label}"}[group.kind]
    points[label] = (means.weight_jsd, *means.weight_jsd_ci95), (means.prediction_tvd, *means.prediction_tvd_ci95)
uniform_jsd = jax.vmap(jsd)(weights, uniform_weights(real))
replaced = {
    "uniform weights": (uniform_jsd, uniform_tvd),
    "Jain & Wallace's weights": (adversarial.best_jsd, adversarial.best_tvd),
}
for name, both in replaced.items():
    points[name] = tuple((float(np.mean(values)), *interval(np.asarray(values))) for values in both)
print(f"{'':28}{'JSD of weights':22}TVD of predictions")
for name, both in points.items():
    print(f"{name:28}" + "".join(f"{f'{mean:.3f} [{low:.3f}, {high:.3f}]':22}" for mean, low, high in both))

# %%
styles = dict(zip(points, [("s", "0.3"), ("o", "tab:red"), ("^", "tab:green"), ("*", "tab:purple")], strict=True))
figure, (plane, boxes) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
for name, ((x, *x_ends), (y, *y_ends)) in points.items():
    marker, color = styles[name]
    ends = np.abs(np.array([x_ends, y_ends]) - np.array([[x], [y]]))
    plane.errorbar(x, y, yerr=ends[1:].T, xerr=ends[:1].T, fmt=marker, color=color, markersize=9, label=name)
plane.set(xlabel="JSD of the weights from the base model (nats)", ylabel="TVD of the predictions", xlim=(0, 0.7))
plane.set_ylim(bottom=0)
plane.legend(frameon=False)
names = ("whislo", "q1", "med", "q3", "whishi")
for place, group in enumerate(report.groups):
    filled = [(number, part) for number, part in enumerate(group.bins) if part.quantiles]
    positions = [number + 0.2 - 0.4 * place for number, _ in filled]
    statistics = [dict(zip(names, part.quantiles, strict=True)) for _, part in filled]
    label, (_, color) = list(styles.items())[place]
    lines = {"boxprops": {"color": color}, "medianprops": {"color": color}, "whiskerprops": {"color": color}}
    boxes.bxp(statistics, positions, widths=0.3, orientation="horizontal", showfliers=False, **lines)
    boxes.plot([], color=color, label=label)
bins = report.groups[0].bins
boxes.set_yticks(range(len(bins)), [f"{part.low:g} to {part.high:g}\n{part.texts} sentences" for part in bins])
boxes.set(xlabel="JSD of the weights from the base model (nats)", xlim=(0, 0.7), ylim=(-0.6, len(bins) - 0.4))
boxes.set_ylabel("largest weight of the base model")
boxes.legend(frameon=False)
plt.show()

# %% [markdown]
# (Figures 3 and 5 of the paper; bars are intervals, boxes quartiles with lines to the smallest and the largest value.)
#
# ## Frozen weights in an MLP: do the weights tell another model something?
#
# The most direct test. An MLP sees every word by itself, without context, and pools them with weights that are not
# trained:
#
# $$\hat y = \mathrm{softmax}\Big(W \sum_i \alpha_i \tanh(V x_i + c) + b\Big)$$
#
# Three MLPs differ in nothing but these weights, their *guide*: uniform ones, those of the base model, and those of the
# adversary. (Section 3.4.) If the weights of the base model are a good guide, they say which words matter, and not only
# to the model that made them. If the adversary's are a worse guide, then they are not just another story as good as the
# first.

# %%
guides = {"uniform": train("mlp_uniform", "sst2_mlp_uniform", "model.hidden=96")}

# %%
guides["base model"] = train("mlp_base", "sst2_mlp_base", "model.hidden=96", f"model.pooling.run={base_run}")

# %%
guide = f"model.pooling.run={adversary.run.directory}"
guides["adversary"] = train("mlp_adversary", "sst2_mlp_adversary", "model.hidden=96", guide)

# %%
guided = {name: correct(trained) for name, trained in guides.items()}
for name, values in guided.items():
    print(f"accuracy of the MLP guided by {name:12}{cell(values, 1)}")
for name in ("uniform", "adversary"):
    difference = paired_difference(guided["base model"], guided[name])
    print(f"base model − {name:10}{difference.difference:+.1f} [{difference.low:+.1f}, {difference.high:+.1f}]")

# %% [markdown]
# # What follows, and what does not
#
# **From Jain & Wallace.** The weights are not *the* reason for a prediction: for many sentences the model predicts the
# same with uniform weights, with permuted ones, and with weights that were chosen to differ. Whoever shows a picture of
# weights as the reason must say why not one of those. Three seeds of the full run say the same (`docs/trust.md`).
#
# **From Wiegreffe & Pinter.** It does not follow that the weights say nothing. Weights that are searched for one
# sentence come from no model. What a *model* can be trained to is the question for the adversary, and the distance of
# another seed the measure of what a difference means: here the adversary's weights are much farther from the base
# model's than another seed's, at the price of a larger change of the predictions. Its weights are a bad guide: the MLP
# hardly beats chance with them. So they do not tell another story that is as good. But the base model's weights are no
# clearly better guide than uniform ones either.
#
# **What the numbers of this notebook cannot say.** They are of one small model, trained briefly; intervals over
# sentences do not cover another seed, and two seeds are no variance. A single λ is a point, not a curve, and a short
# training may leave an adversary at a larger TVD than a long one. The full study is in `docs/wiegreffe_pinter.md`.
#
# **What no experiment here says.** SST-2 does not need attention, and where it is needed it behaves otherwise: a
# translation model breaks down with uniform weights, and the search finds no others (`docs/trust.md`). Agreement with
# gradients or leave-one-out is not agreement with the truth, as these differ from each other too. And an explanation
# that people find plausible need not be faithful, nor the other way around.
#
# In practice: do not show weights alone. `attnlab explain` puts several methods side by side, with random numbers as a
# floor, and `attnlab faithfulness` measures which of them find what matters to your model.

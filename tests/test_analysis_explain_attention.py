"""Explanations by the attention of a model: the weights that `show` shows, and what they are multiplied with."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.tree_util import Partial
from weights import parameters

from attnlab import lab
from attnlab.analysis.explain import Explainer
from attnlab.analysis.explain.zeroed_values import layer_output
from attnlab.analysis.interventions import gated, value_zeroed
from attnlab.config.load import load
from attnlab.layers.layer_attention import Residual
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.layer_attention import Selection
from attnlab.tasks.registry import task_class
from attnlab.training.steps import replicated

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
CASES = {
    "recurrent classifier": ("classification/synthetic_sentiment_additive.yaml", "a good film"),
    "Transformer classifier": ("classification/synthetic_sentiment_transformer.yaml", "a good film"),
    "recurrent translation": ("translation/dates_additive.yaml", "der dritte Mai"),
    "Transformer translation": ("translation/dates_transformer.yaml", "der dritte Mai"),
    "memory network": (
        "story_qa/story_qa_1_memory.yaml",
        "Amira went to the attic. Boris ran to the garden. Where is Amira?",
    ),
    "BiDAF": ("extractive_qa/passages_bidaf.yaml", "Amira went to the attic. Boris ran.\tWhere is Amira?"),
}
TWO_WORDS = {"target": "May second"}


@cache
def prepared(name: str):
    config = load(EXPERIMENTS / CASES[name][0], (), tiny=True)
    task = task_class(config).prepare(config, task_class(config).load(config, None))
    return Explainer(task), parameters(task), task.parse_example([CASES[name][1]])


def explain(name: str, method: str, *, granularity: str = "token", layer: int | None = None, **selection):
    explainer, params, example = prepared(name)
    options = {} if layer is None else {"layer": layer}
    chosen = TargetSelection(**selection)
    return explainer.explain(params, example, method=method, selection=chosen, granularity=granularity, **options)


def attributed(name: str, method: str, **selection):
    """Return the attributions of all positions, and which are real."""
    explainer, params, example = prepared(name)
    explained = explainer.task.explained_prediction(params, example, TargetSelection(**selection))
    result, gap, _ = explainer.attribute(params, explained, method)
    assert gap is None
    return result, explainer.prepare(params, explained).valid


@pytest.mark.parametrize("name", ["recurrent classifier", "Transformer classifier", "memory network"])
@pytest.mark.quick("recurrent classifier", "Transformer classifier")
def test_raw_attention_is_the_mean_of_the_rows_that_show_shows(name):
    explainer, params, example = prepared(name)
    (shown,) = explainer.task.attention_maps(params, example)
    attributions = explain(name, "raw_attention").parts[0].attributions
    np.testing.assert_allclose(attributions, shown.weights.mean(axis=0), atol=1e-6)


def test_raw_attention_of_a_translation_is_that_of_the_explained_tokens():
    explainer, params, example = prepared("recurrent translation")
    shown = explainer.task.attention_maps(params, example)[0]
    whole = explain("recurrent translation", "raw_attention")["source"].attributions
    np.testing.assert_allclose(whole, shown.weights.mean(axis=0), atol=1e-6)
    second = explain("recurrent translation", "raw_attention", position=2)["source"].attributions
    np.testing.assert_allclose(second, shown.weights[1], atol=1e-6)


def test_raw_attention_of_a_layer():
    explainer, params, example = prepared("Transformer translation")
    shown = explainer.task.selected_attention_map(params, example, Selection("cross", 1))
    first = explain("Transformer translation", "raw_attention", position=1, layer=1)["source"].attributions
    np.testing.assert_allclose(first, shown.weights[0], atol=1e-6)


def test_question_and_passage_are_both_attended_to():
    explanation = explain("BiDAF", "raw_attention")
    for part in ("question", "passage"):
        np.testing.assert_allclose(explanation[part].attributions.sum(), 1.0, atol=1e-5)


@pytest.mark.parametrize("name", ["recurrent classifier", "recurrent translation", "memory network"])
@pytest.mark.quick("recurrent classifier", "memory network")
def test_gradient_x_attention_sums_to_the_derivative_in_the_scale_of_all_weights(name):
    explainer, params, example = prepared(name)
    explained = explainer.task.explained_prediction(params, example, TargetSelection())
    adapter, positions = explainer.task.adapter, explainer.prepare(params, explained)
    layers = jax.eval_shape(lambda: adapter.forward(params, positions.batch).attention)
    names = [layer.name for layer in layers]

    def score(scale):
        intervene = {name: Partial(gated, gates=jnp.ones(1) * scale) for name in names}
        return explained.target(adapter.forward(params, positions.batch, intervene=intervene).logits, positions.batch)

    slope = jax.jit(jax.grad(score))(1.0)
    attributions, _, _ = explainer.attribute(params, explained, "gradient_x_attention")
    np.testing.assert_allclose(len(names) * attributions.sum(), slope, rtol=1e-3)


def test_gradient_x_attention_of_a_contrast_of_two_outputs_is_a_difference():
    both, valid = attributed("recurrent translation", "gradient_x_attention", target="May second", contrast="June")
    this, _ = attributed("recurrent translation", "gradient_x_attention", target="May second")
    that, _ = attributed("recurrent translation", "gradient_x_attention", target="June")
    np.testing.assert_allclose(both, this - that, atol=1e-6)
    assert both[valid].any()


def test_rollout_is_the_product_of_the_layers():
    explainer, params, example = prepared("Transformer classifier")
    explained = explainer.task.explained_prediction(params, example, TargetSelection())
    attributions, valid = attributed("Transformer classifier", "attention_rollout")
    batch = explainer.prepare(params, explained).batch
    product = np.eye(len(valid))
    forward = jax.jit(lambda params: explainer.task.adapter.forward(params, batch).attention)
    for layer in forward(params):
        if layer.kind == "self":
            product = (0.5 * np.asarray(layer.weights)[0].mean(axis=0) + 0.5 * np.eye(len(valid))) @ product
    np.testing.assert_allclose(attributions[valid], product[0][valid], atol=1e-6)


@pytest.mark.parametrize(
    ("name", "methods"),
    [
        ("recurrent classifier", ["attention_norms"]),
        (
            "Transformer classifier",
            [
                "attention_flow",
                "attention_relevance",
                "attention_norms",
                "block_norms",
                "alti",
                "globenc",
                "value_zeroing",
            ],
        ),
        ("Transformer translation", ["encoder_decoder_relevance", "attention_norms", "alti_plus"]),
        ("BiDAF", ["gradient_x_attention", "attention_norms"]),
    ],
)
@pytest.mark.quick("recurrent classifier-methods0")
def test_every_method_on_attention_is_finite_and_0_at_padding(name, methods):
    selection = TWO_WORDS if "translation" in name else {}
    for method in methods:
        attributions, valid = attributed(name, method, **selection)
        assert np.isfinite(attributions).all(), method
        assert attributions[valid].any(), method
        assert not attributions[~valid].any(), method
        if method in ("alti", "value_zeroing"):
            np.testing.assert_allclose(attributions.sum(), 1.0, atol=1e-5)
        if method == "alti_plus":
            assert 0 < attributions.sum() < 1, "the target prefix has the rest"


@pytest.mark.parametrize(("kind", "module"), [("layer_norm", nn.LayerNorm), ("rms_norm", nn.RMSNorm)])
def test_the_output_of_a_layer_is_behind_its_post_norm(kind, module):
    total, scale = jax.random.normal(jax.random.key(0), (1, 3, 8)), jnp.linspace(0.5, 2.0, 8)
    bias = None if kind == "rms_norm" else jnp.linspace(-1.0, 1.0, 8)
    residual = Residual(total, total, 1.0, scale, bias, "post", kind, 1e-5)
    params = {"scale": scale} if bias is None else {"scale": scale, "bias": bias}
    expected = module(epsilon=1e-5).apply({"params": params}, total)
    np.testing.assert_allclose(layer_output(residual), expected, atol=1e-5)
    np.testing.assert_array_equal(layer_output(replace(residual, position="pre")), total)


def test_value_zeroing_is_a_loop_over_keys_and_layers():
    explainer, params, example = prepared("Transformer classifier")
    explained = explainer.task.explained_prediction(params, example, TargetSelection())
    attributions, valid = attributed("Transformer classifier", "value_zeroing")
    batch, adapter, n = explainer.prepare(params, explained).batch, explainer.task.adapter, int(valid.sum())

    @jax.jit
    def run(intervene):
        records = adapter.forward(params, batch, details=True, intervene=intervene).attention
        layers = [record for record in records if record.kind == "self"]
        return [layer_output(layer.feed_forward) for layer in layers], layers[1].residual.states

    layers = jax.eval_shape(lambda: adapter.forward(params, batch).attention)
    names = [layer.name for layer in layers if layer.kind == "self"]

    def outputs(intervene=None):
        found, following = run(intervene)
        np.testing.assert_allclose(found[0], following, atol=1e-5)
        return {name: np.asarray(states)[0, :n] for name, states in zip(names, found, strict=True)}

    product, whole = np.eye(n), outputs()
    for name, before in whole.items():
        matrix = np.zeros((n, n))
        for key in range(n):
            zeroed = jnp.asarray(np.arange(len(valid)) == key)
            after = outputs({name: Partial(value_zeroed, zeroed=zeroed)})[name]
            lengths = np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1)
            matrix[:, key] = 1 - (before * after).sum(axis=1) / lengths
        product = matrix / matrix.sum(axis=1, keepdims=True) @ product
    np.testing.assert_allclose(attributions[valid], product[0], atol=1e-3)


def test_controls_and_smooth_grad_spare_padding():
    for method in ("smooth_grad", "greedy_leave_one_out", "random_attribution"):
        attributions, valid = attributed("recurrent classifier", method)
        assert attributions[valid].all()
        assert not attributions[~valid].any()


def test_removed_positions_are_replaced_and_special_tokens_stay():
    explainer, params, example = prepared("Transformer classifier")
    explained = explainer.task.explained_prediction(params, example, TargetSelection())
    drops, _, whole = explainer.attribute(params, explained, "leave_one_out")
    removed = np.eye(len(drops), dtype=bool)[:4]
    scores = explainer.scores_without(params, explained, removed)
    np.testing.assert_allclose(scores, whole - drops[:4], atol=1e-6)
    np.testing.assert_allclose(scores[0], whole, atol=1e-6)


def test_a_position_that_is_masked_in_the_attention_does_not_count():
    explainer, params, example = prepared("memory network")
    masked = explainer.explain(params, example, method="leave_one_out", removal="mask")
    shorter = explainer.task.parse_example(["Boris ran to the garden. Where is Amira?"])
    left = explainer.task.explained_prediction(params, shorter, TargetSelection(masked.prediction))
    _, _, score = explainer.attribute(params, left, "raw_attention")
    np.testing.assert_allclose(masked["story"].attributions[0], masked.score - score, atol=1e-5)
    assert masked["question"].attributions == [0], "the question is no key of this attention"


def test_from_a_run_in_python():
    task = prepared("Transformer classifier")[0].task
    run = lab.TrainedModel(SimpleNamespace(), task)  # pyright: ignore[reportArgumentType]
    run.__dict__["_restored"] = ([], jax.device_put(prepared("Transformer classifier")[1], replicated()))
    assert "attention_rollout" in run.explanation_methods
    explanation = run.explain(
        "A good film, it's bad", method="input_x_gradient", target="negative", contrast="positive", granularity="word"
    )
    assert explanation["text"].labels == ("[CLS]", "A", "good", "film,", "it's", "bad")
    assert "log-probability of the class 'negative' minus that of 'positive'; text (6 words)" in repr(explanation)
    with pytest.raises(TypeError, match="one example"):
        run.explain(["a good film"])  # pyright: ignore[reportArgumentType]
    with pytest.raises(TypeError, match="position"):
        run.explain("a good film", position="1")  # pyright: ignore[reportArgumentType]
    with pytest.raises(KeyError, match="text"):
        explanation["image"]

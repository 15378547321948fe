"""The battery on a model whose answer is known, its metrics against the functions of one metric, and all tasks."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis import faithfulness
from attnlab.analysis.battery import Battery, FaithfulnessReport, battery_settings, chunks, run_battery, summarize
from attnlab.analysis.battery.adversarial import Rows, has_one_row
from attnlab.analysis.battery.attention_tests import left_out_tests
from attnlab.analysis.battery.chunks import chunk_rows, ladder
from attnlab.analysis.battery.erasure_curves import (
    area,
    erasure_metrics,
    flip_fraction,
    undefined_for_nan,
    versions,
    with_ends,
)
from attnlab.analysis.battery.hoisting import hoisted
from attnlab.analysis.battery.predictions import Reading
from attnlab.analysis.battery.settings import SHARES
from attnlab.analysis.battery.summary import at_shares, mean
from attnlab.analysis.explain import Explainer
from attnlab.analysis.faithfulness.polarity import violation_of_drops
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.data.extractive_qa.windows import best_spans
from attnlab.layers.layer_attention import layer_attention
from attnlab.tasks.bootstrap import interval
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.extractive_qa.adapters import ReaderAdapter
from attnlab.tasks.registry import task_class
from attnlab.viz.faithfulness_page import render

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TASKS = {
    "classification": "classification/synthetic_sentiment_additive.yaml",
    "translation": "translation/dates_additive.yaml",
    "story_qa": "story_qa/story_qa_1_memory.yaml",
    "extractive_qa": "extractive_qa/passages_bidaf.yaml",
    "captioning": "captioning/scenes_soft.yaml",
    "visual_qa": "visual_qa/scenes_cross_attention.yaml",
}
MARKED = ("classification", "translation", "story_qa", "captioning")
N = 10
ALLOWED = jnp.arange(N) < 8


def probability(removed: jax.Array) -> jax.Array:
    """A model of ten tokens, the last two padding, whose third token is all that matters."""
    return jnp.where(removed[:, 2], 0.2, 0.9)


def predict(removed: jax.Array) -> Reading:
    p = probability(removed & ALLOWED)
    return Reading(jnp.log(p), (p > 0.5).astype(jnp.int32)[:, None])


def metrics(values: jax.Array, model=predict) -> dict[str, float]:
    removed, counts = versions(values, ALLOWED, SHARES)
    full, null = (jax.tree.map(lambda field: field[0], model(mask[None])) for mask in (~ALLOWED & False, ALLOWED))
    deletion, insertion = with_ends(full, null, model(removed))
    found = erasure_metrics(deletion, insertion, counts, jnp.ones(1, bool), SHARES)
    return {name: float(value) for name, value in found.items()}


ONLY_THIRD = jnp.zeros(N).at[2].set(1.0)


def test_the_only_token_that_matters_gets_the_best_scores():
    best, wrong = metrics(ONLY_THIRD), metrics(-ONLY_THIRD)
    assert best["aopc_compr"] == pytest.approx(0.7)
    assert best["aopc_suff"] == pytest.approx(0.0)
    assert best["normalized_comprehensiveness"] == pytest.approx(1.0)
    assert best["normalized_sufficiency"] == pytest.approx(1.0)
    assert best["log_odds"] == pytest.approx(np.log(0.2 / 0.9))
    assert best["decision_flip_fraction"] == pytest.approx(1 / 8)
    assert wrong["aopc_compr"] == pytest.approx(0.0)
    assert wrong["aopc_suff"] == pytest.approx(0.7)
    assert wrong["decision_flip_fraction"] == pytest.approx(1.0)
    assert best["deletion_auc"] < wrong["deletion_auc"]
    assert best["insertion_auc"] > wrong["insertion_auc"]


def test_leave_one_out_is_above_random_attributions():
    ceiling = metrics(
        jnp.where(ALLOWED, probability(jnp.zeros((1, N), bool)) - probability(jnp.eye(N, dtype=bool)), 0.0)
    )
    floor = [metrics(jax.random.uniform(jax.random.key(seed), (N,)))["aopc_compr"] for seed in range(20)]
    assert ceiling == metrics(ONLY_THIRD)
    assert ceiling["aopc_compr"] > np.mean(floor) + 0.1


def test_shared_curves_give_what_the_functions_of_each_metric_give():
    weights = jax.random.uniform(jax.random.key(1), (N,)) / N
    chances = lambda removed: 0.05 + jnp.where(removed & ALLOWED, 0.0, weights).sum(axis=1)  # noqa: E731
    scores = lambda removed: jnp.stack([chances(removed), jnp.full(len(removed), 0.4)], axis=1)  # noqa: E731
    model = lambda removed: Reading(jnp.log(chances(removed)), scores(removed).argmax(axis=1)[:, None])  # noqa: E731
    values = jax.random.normal(jax.random.key(2), (N,))
    found = metrics(values, model)
    for name in ("aopc_compr", "aopc_suff"):
        assert found[name] == pytest.approx(float(getattr(faithfulness, name)(chances, values, ALLOWED)), abs=1e-6)
    for name in ("normalized_comprehensiveness", "normalized_sufficiency", "log_odds"):
        one = getattr(faithfulness, name)(chances, values, ALLOWED)
        assert found[name] == pytest.approx(float(jnp.mean(one)), abs=1e-6)
    # eight tokens: the shares 10, 20, … 100% are every number of tokens, so that curves and flips are exact too
    for name in ("deletion_auc", "insertion_auc"):
        assert found[name] == pytest.approx(float(getattr(faithfulness, name)(chances, values, ALLOWED)), abs=1e-6)
    flips = float(faithfulness.decision_flip_fraction(scores, values, ALLOWED))
    assert found["decision_flip_fraction"] == pytest.approx(flips, nan_ok=True)


def test_a_generated_text_flips_token_by_token():
    decisions = jnp.array([[1, 2, 0], [1, 3, 9], [4, 3, 9]])
    counts, real = jnp.array([0, 1, 2]), jnp.array([True, True, False])
    assert float(flip_fraction(decisions, counts, real)) == pytest.approx((1.0 + 0.5) / 2)
    assert np.isnan(float(flip_fraction(decisions[:1].repeat(3, axis=0), counts, real)))
    assert float(area(jnp.array([1.0, 1.0, 1.0]), counts)) == 1.0


def test_violation_is_a_wrong_sign_of_the_top_token():
    removable = jnp.array([True, True, False])
    drops = jnp.array([-0.5, 0.25, 9.0])
    assert float(violation_of_drops(jnp.array([2.0, 1.0, 99.0]), drops, removable)) == 1.0
    assert float(violation_of_drops(jnp.array([-2.0, 1.0, 99.0]), drops, removable)) == 0.0
    assert float(violation_of_drops(jnp.zeros(3), drops, removable)) == 0.0
    assert float(violation_of_drops(jnp.array([1e-30, 0.0, 0.0]), 1e-30 * drops, removable)) == 1.0
    assert np.isnan(float(violation_of_drops(jnp.array([jnp.nan, 1.0, 0.0]), drops, removable)))


def test_violations_of_drops_are_those_of_a_model():
    effects = jnp.array([-0.5, 0.25, 0.0, 0.1])
    model = lambda removed: jnp.where(removed, 0.0, effects).sum(axis=1)  # noqa: E731
    removable = jnp.array([True, True, True, False])
    for values in jnp.concatenate([jax.random.normal(jax.random.key(3), (20, 4)), jnp.eye(4), jnp.zeros((1, 4))]):
        expected = faithfulness.faithfulness_violation(model, values, removable)
        assert float(violation_of_drops(values, effects, removable)) == float(expected)


def test_what_does_not_depend_on_the_argument_is_computed_once():
    calls = []

    @jax.jit
    def outer(table: jax.Array) -> jax.Array:
        inner = hoisted(lambda x: jax.nn.softmax(jnp.tanh(table @ table).sum(axis=0) * x), jnp.zeros(3))
        step = jax.make_jaxpr(inner)(jnp.zeros(3))
        calls.append({equation.primitive.name for equation in step.jaxpr.eqns})
        return inner(jnp.ones(3))

    table = jax.random.normal(jax.random.key(0), (3, 3))
    np.testing.assert_allclose(outer(table), jax.nn.softmax(jnp.tanh(table @ table).sum(axis=0)), rtol=1e-6)
    assert not {"dot_general", "tanh"} & calls[0]
    slopes = jax.grad(lambda x: hoisted(lambda y: (y * table.sum()).sum(), jnp.zeros(3))(x))(jnp.ones(3))
    np.testing.assert_allclose(slopes, np.full(3, float(table.sum())), rtol=1e-6)


def test_widths_are_few():
    assert ladder((7, 20), None) == (32, 32)
    assert ladder((300, 9), 400) == (400, 16)
    assert {ladder((n, n), None)[0] for n in range(1, 129)} == {16, 32, 64, 128}
    assert chunk_rows(16, 500) == 32
    assert chunk_rows(4096, 500) == jax.device_count()


def test_intervals_are_those_of_the_bootstrap():
    values = np.random.default_rng(0).normal(size=50)
    found = mean(np.append(values, np.nan))
    assert found["n"] == 50
    assert found["ci95"] == pytest.approx(interval(values), abs=1e-5)
    assert mean(values[:19])["ci95"] is None
    assert mean(np.full(3, np.nan)) == {"mean": None, "ci95": None, "n": 0}


def test_random_parameters_are_those_of_no_training():
    explainer, _, _ = prepared("classification")
    initialize = jax.jit(explainer.task.initialize)
    trained = [jax.tree.leaves(initialize(jax.random.key(seed))) for seed in range(4)]
    for seed in range(3):
        battery = Battery(explainer, {}, replace(small("classification").settings, seed=seed))
        random = jax.tree.leaves(battery._random_params)
        for leaves in trained:
            drawn = [not np.array_equal(leaf, other) for leaf, other in zip(trained[0], trained[1], strict=True)]
            assert any(drawn)
            assert not any(
                np.array_equal(leaf, other)
                for leaf, other, is_random in zip(random, leaves, drawn, strict=True)
                if is_random
            )


def test_seeds_are_those_of_jax():
    explainer, _, _ = prepared("classification")
    for seed in (-1, 2**32):
        with pytest.raises(UserError, match=str(seed)):
            battery_settings(explainer, None, "pad", seed)
    settings = battery_settings(explainer, ["smooth_grad"], "pad", 7)[0]
    assert settings.options("smooth_grad")["seed"] == 7
    assert settings.to_json()["options"]["smooth_grad"]["seed"] == 7


@pytest.mark.parametrize("unanswerable", [False, True])
def test_decisions_of_spans_are_the_predictions_of_the_model(unanswerable: bool):
    longest, threshold = 3, 0.5

    settings = SimpleNamespace(max_answer=longest, unanswerable=unanswerable, null_threshold=threshold)
    rng, seen = np.random.default_rng(0), set()
    decide = jax.jit(lambda logits: ReaderAdapter.decisions(SimpleNamespace(settings=settings), logits))  # pyright: ignore
    for trial in range(40):
        logits = rng.normal(size=(2, 7)).astype(np.float32)
        logits[:, 0] += trial % 4
        logits[:, 6:] = -np.inf  # padding
        (score, first, last), *_ = best_spans(logits[0, 1:], logits[1, 1:], longest, 1)
        none = unanswerable and logits[:, 0].sum() - score > threshold
        expected = 0 if none else 1 + (last - first) * 6 + first
        assert decide(jnp.asarray(logits)).tolist() == [expected]
        seen.add(none)
    assert len(seen) == 1 + unanswerable


def test_curves_are_drawn_at_the_shares_that_are_removed():
    five = at_shares([0, 1, 1, 3, 5], [1.0, 0.8, 0.8, 0.4, 0.0], [0.0, 0.1, 0.2, 0.5, 1.0])
    np.testing.assert_allclose(five, [1.0, 0.9, 0.8, 0.5, 0.0])


def test_nan_attributions_have_no_metrics_of_erasure_and_no_curve():
    found = undefined_for_nan(
        {"curve": jnp.ones(3), "area": jnp.ones(())}, jnp.array([1.0, jnp.nan]), jnp.ones(2, bool)
    )
    assert np.isnan(found["curve"]).all()
    assert np.isnan(found["area"])


def test_decision_flips_are_of_the_same_texts_for_all_methods():
    # the decision changes in between with one order, but is the same without any token
    counts, real = jnp.array([0, 1, 2]), jnp.array([True])
    assert np.isnan(float(flip_fraction(jnp.array([[1], [2], [1]]), counts, real)))
    assert np.isnan(float(flip_fraction(jnp.array([[1], [1], [1]]), counts, real)))


def test_self_attention_alone_has_no_main_map():
    left_out = left_out_tests([layer_attention("self", "encoder", n, np.zeros((1, 2, 3, 3))) for n in (1, 2)])
    assert set(left_out) == {"permutation_test", "uniform_attention", "adversarial_attention"}
    assert "2 layers of self-attention" in left_out["adversarial_attention"]


def test_rows_of_several_layers_are_one_array():
    weights = [np.arange(12.0).reshape(1, 2, 3, 2), np.arange(5.0).reshape(1, 1, 1, 5)]
    layers = [layer_attention("cross", "decoder", n, jnp.asarray(w)) for n, w in enumerate(weights, start=1)]
    rows = Rows(layers)
    joined = rows.join([layer.weights[0] for layer in layers])
    assert joined.shape == (7, 5)
    assert joined[0].tolist() == [0.0, 1.0, 0.0, 0.0, 0.0]
    assert joined[6].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]
    for layer, found, given in zip(layers, rows.split(joined).items(), weights, strict=True):
        assert found[0] == layer.name
        np.testing.assert_array_equal(found[1], given)


def test_what_is_one_row():
    shape = lambda *sizes: np.zeros((1, *sizes))  # noqa: E731
    pooling = [layer_attention("pooling", "encoder", None, shape(1, 1, 4))]
    assert has_one_row(pooling, generated=False)
    assert not has_one_row([layer_attention("decoder", "decoder", None, shape(1, 1, 4))], generated=True)
    assert not has_one_row([layer_attention("context_to_query", "reader", None, shape(1, 1, 4))], generated=False)
    assert not has_one_row([layer_attention("pooling", "encoder", None, shape(1, 3, 4))], generated=False)
    assert not has_one_row([], generated=False)


@cache
def prepared(task: str) -> tuple[Explainer, Any, dict[int, Any]]:
    config = load(EXPERIMENTS / TASKS[task], (), tiny=True)
    data = task_class(config).load(config, None)
    made = task_class(config).prepare(config, data)
    return Explainer(made), jax.jit(made.initialize)(jax.random.key(0)), dict(enumerate(data.dev[:3]))


@cache
def small(task: str) -> Battery:
    """Return a battery whose tests are short."""
    explainer, params, _ = prepared(task)
    settings, left_out = battery_settings(explainer, ["input_x_gradient"])
    few = replace(settings, permutations=4, steps=3, restarts=2, soft_samples=2)
    return Battery(explainer, params, few, left_out)


@cache
def measured(task: str) -> list[Any]:
    return run_battery(small(task), prepared(task)[2])


@pytest.mark.slow
@pytest.mark.parametrize("task", TASKS)
def test_every_task(task: str):
    battery, records = small(task), measured(task)
    assert [record["example"] for record in records] == [0, 1, 2]
    json.dumps(records, allow_nan=False)
    summary = battery.summary(records)
    assert set(summary["methods"]) == {"input_x_gradient", "leave_one_out", "random_attribution", "raw_attention"}
    ceiling, floor = (summary["methods"][name] for name in ("leave_one_out", "random_attribution"))
    assert ceiling["taucorr_loo"]["mean"] == pytest.approx(1.0)
    assert "taucorr_loo_tvd" in ceiling
    assert ceiling["aopc_compr"]["n"] == 3
    assert "mprt" in ceiling
    assert "mprt" not in floor
    for name in ("aopc_compr", "aopc_suff", "deletion_auc", "insertion_auc", "log_odds"):
        assert floor[name]["mean"] is not None
        assert ceiling[name]["minus_random"]["n"] == 3
    assert ("auprc_plau" in ceiling) == (task in MARKED)
    assert ("auprc_plau" in summary["left_out"]["metrics"]) == (task not in MARKED)
    assert summary["tests"]["uniform_same_decision"]["n"] == 3
    assert not summary["left_out"]["tests"]
    assert 0.0 <= summary["tests"]["adversarial_jsd"]["mean"] <= np.log(2) + 1e-6
    assert summary["tests"]["adversarial_tvd"]["mean"] <= 0.01
    several = task in ("translation", "captioning", "extractive_qa")
    assert ("adversarial_largest_tvd" in summary["tests"]) == several
    page = render(FaithfulnessReport(summary, records), title="<script>", command="attnlab faithfulness RUN")
    assert "<script" not in page
    assert "http" not in page.replace('http-equiv="Content-Security-Policy"', "")


@pytest.mark.slow
def test_a_chunk_of_one_is_a_chunk_of_many(monkeypatch):
    battery, examples, whole = small("classification"), prepared("classification")[2], measured("classification")
    monkeypatch.setattr(chunks, "MAX_ROWS", 1)
    monkeypatch.setattr(chunks, "NARROWEST", 64)
    for record, expected in zip(run_battery(battery, examples), whole, strict=True):
        assert record["counts"] == expected["counts"]
        for method, found in record["methods"].items():
            if method == "random_attribution":
                continue  # its numbers are drawn for every position, padding too
            for name in ("aopc_compr", "aopc_suff", "deletion_auc", "taucorr_loo_tvd", "auprc_plau", "violation"):
                assert found[name] == pytest.approx(expected["methods"][method][name], abs=1e-4), (method, name)


@pytest.mark.slow
def test_a_record_has_the_values_of_the_functions_of_each_metric():
    """A real example, with padding to the width of a chunk."""
    explainer, params, examples = prepared("classification")
    task, example = explainer.task, examples[0]
    explained = task.explained_prediction(params, example, TargetSelection())
    (chunk,) = chunks.chunks_of(explainer, params, [chunks.Marked(0, 0, explained)], 1)
    one = jax.tree.map(lambda array: jnp.asarray(array[0]), chunk.arrays)
    call = chunks.call_of(task.adapter, params, chunk.static, one)
    assert 0 < one.removable.sum() < len(one.removable)
    score = call.without("pad")
    classify = call.without("pad", lambda logits: jax.nn.softmax(logits[0]))
    found = measured("classification")[0]["methods"]["leave_one_out"]
    values = faithfulness.taucorr_loo  # the attributions below are those of leave-one-out on the scale of the target
    n = len(one.removable)
    masks = jnp.concatenate([jnp.zeros((1, n), bool), jnp.eye(n, dtype=bool)])
    scores = score(masks)
    drops = jnp.where(one.removable, scores[0] - scores[1:], 0.0)
    assert values(score, drops, one.removable).statistic == pytest.approx(found["taucorr_loo"], abs=1e-5)
    chances = lambda removed: jnp.exp(score(removed))  # noqa: E731
    for name in ("aopc_compr", "aopc_suff"):
        single = getattr(faithfulness, name)(chances, drops, one.removable)
        assert found[name] == pytest.approx(float(single), abs=1e-4)
    single = faithfulness.taucorr_loo_tvd(classify, jnp.abs(drops), one.removable).statistic
    assert found["taucorr_loo_tvd"] == pytest.approx(float(single), abs=1e-4)
    assert found["violation"] == float(faithfulness.faithfulness_violation(score, drops, one.removable))


def test_what_is_done_is_not_computed_again(monkeypatch):
    battery, examples, whole = small("classification"), prepared("classification")[2], measured("classification")
    calls: list[int] = []
    original = battery.records
    monkeypatch.setattr(battery, "records", lambda chunk: calls.append(len(chunk.members)) or original(chunk))
    kept: list[Any] = []
    assert run_battery(battery, examples, done=whole, keep=kept.extend) == whole
    assert not calls
    assert not kept
    assert run_battery(battery, examples, done=whole[:1], keep=kept.extend)[1:] == whole[1:]
    assert sum(calls) == len(kept) == 2


def test_a_report_as_a_table():
    battery, records = small("classification"), measured("classification")
    report = FaithfulnessReport(battery.summary(records), records)
    assert report.mean("leave_one_out", "taucorr_loo") == pytest.approx(1.0)
    with pytest.raises(KeyError, match="aopc_compr"):
        report.mean("leave_one_out", "aopc")
    assert "<td>1.000</td>" in report._repr_html_()
    assert report.table().splitlines()[0].split() == ["method", "aopc_compr", "aopc_suff", "taucorr_loo"]
    failed = [*records, {"example": 9, "failed": "the text has no tokens"}]
    assert summarize(failed, battery.settings)["failed"] == {9: "the text has no tokens"}


def test_settings_name_what_is_left_out():
    explainer, _, _ = prepared("classification")
    settings, left_out = battery_settings(explainer)
    assert "smooth_grad" not in settings.methods
    assert "slow" in left_out["smooth_grad"]
    assert "leave_one_out" in left_out["occlusion"]
    assert "self-attention" in left_out["attention_rollout"]
    assert "occlusion" not in battery_settings(explainer, "all", "zeros")[0].methods
    assert {"occlusion", "smooth_grad"} <= set(battery_settings(explainer, "all", "mask")[0].methods)
    assert settings.options("integrated_gradients")["baseline"] == "pad"
    for methods, removal, message in (
        (["saliencee"], "pad", "saliency"), (["attention_rollout"], "pad", "attention_norms"), (None, "erase", "pad"),
        (["value_zeroing"], "pad", "value_zeroing"),
    ):  # fmt: skip
        with pytest.raises(UserError, match=message):
            battery_settings(explainer, methods, removal)


def test_a_model_without_attention_has_no_mask(monkeypatch):
    explainer = Explainer(prepared("classification")[0].task)
    monkeypatch.setattr(explainer, "needs", frozenset({"embedded", "removal"}))
    with pytest.raises(UserError, match="no attention"):
        battery_settings(explainer, None, "mask")
    settings, left_out = battery_settings(explainer)
    assert "raw_attention" not in settings.methods
    assert "attention weights" in left_out["raw_attention"]

"""The metrics of a task under learned and uniform attention, and which predictions are right, for all tasks."""

from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.battery.attention_tests import main_layers
from attnlab.analysis.battery.chunks import Marked
from attnlab.analysis.battery.task_metrics import scores_of_outputs, task_metrics
from attnlab.analysis.interventions import uniform
from attnlab.config.load import load
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion
from attnlab.layers.capture import Queries
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.explained_prediction import ExplainedPrediction, TargetSelection
from attnlab.tasks.extractive_qa.explained_span import NO_ANSWER
from attnlab.tasks.extractive_qa.task import ExtractiveQATask
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
TASKS = {
    "classification": "classification/synthetic_sentiment_additive.yaml",
    "translation": "translation/dates_additive.yaml",
    "story_qa": "story_qa/story_qa_1_memory.yaml",
    "extractive_qa": "extractive_qa/passages_bidaf.yaml",
    "captioning": "captioning/scenes_soft.yaml",
    "visual_qa": "visual_qa/scenes_cross_attention.yaml",
}
COUNT = 4
QUICK = ("classification", "translation")


def every_task(*quick: str) -> Any:
    return pytest.mark.parametrize(
        "name", [pytest.param(name, marks=() if name in quick else pytest.mark.slow) for name in TASKS]
    )


@cache
def prepared(name: str) -> tuple[Any, Any, list[Any]]:
    config = load(EXPERIMENTS / TASKS[name], (), tiny=True)
    data = task_class(config).load(config, None)
    task = task_class(config).prepare(config, data)
    return task, jax.jit(task.initialize)(jax.random.key(0)), list(data.dev[:COUNT])


@cache
def predicted(name: str) -> list[str]:
    task, params, examples = prepared(name)
    return task.outputs(params, examples)


@cache
def layers(name: str) -> list[LayerAttention]:
    task, params, _ = prepared(name)
    adapter = task.adapter
    forward = lambda params, batch: adapter.forward(params, batch, details=True).attention  # noqa: E731
    return main_layers(jax.eval_shape(forward, params, adapter.example_batch))


def unchanged(layer: LayerAttention, queries: Queries) -> jax.Array:
    return layer.weights


@every_task(*QUICK)
def test_outputs_are_the_explained_predictions(name: str) -> None:
    task, params, examples = prepared(name)
    explained = [task.explained_prediction(params, example, TargetSelection()).prediction for example in examples]
    assert predicted(name) == explained


@every_task(*QUICK)
def test_rows_are_those_of_an_evaluation(name: str) -> None:
    task, params, examples = prepared(name)
    rows = task.output_scores(predicted(name), examples)
    scores = task.test_metrics(params, examples)
    undefined = task.undefined_metrics(examples)
    assert rows
    for metric, values in rows.items():
        if metric in undefined:
            assert scores[metric] is None
        else:
            np.testing.assert_array_equal(values, scores["per_example"][metric])
            assert task.aggregate(metric, values) == pytest.approx(scores[metric], abs=1e-4)


@every_task(*QUICK)
def test_right_predictions_are_those_that_the_metric_counts(name: str) -> None:
    task, params, examples = prepared(name)
    explained = task.explained_prediction(params, examples[0], TargetSelection())
    assert task.is_correct(examples[0], explained) in (True, False)
    rows = task.output_scores(predicted(name), examples)[task.correctness]
    assert task.is_correct(examples[0], explained) == bool(rows[0])


@every_task(*QUICK, "story_qa")
def test_replacing_weights_by_themselves_changes_no_output(name: str) -> None:
    task, params, examples = prepared(name)
    other = task.intervened({layer.name: unchanged for layer in layers(name)})
    assert layers(name)
    assert other.outputs(params, examples) == predicted(name)
    assert task.adapter.model is not other.adapter.model
    assert type(task.model).__name__ != "IntervenedModel"


def test_a_class_under_uniform_attention_is_that_of_the_mean() -> None:
    task, params, examples = prepared("classification")
    replaced = {layer.name: uniform for layer in layers("classification")}
    names = []
    for example in examples:
        (encoded,) = task.text_encoder.encode([example.text])
        logits = task.adapter.forward(params, task.adapter.fill([(encoded.ids, 0)]), intervene=replaced).logits
        names.append(task.labels[int(jnp.argmax(logits[0]))])
    assert task.intervened(replaced).outputs(params, examples) == names


def test_a_search_under_uniform_attention_takes_the_best_token_at_every_step() -> None:
    """The text of greedy search, from the model's logits under teacher forcing with the same intervention."""
    task, params, examples = prepared("translation")
    replaced = {layer.name: uniform for layer in layers("translation")}
    other, (example, *_) = task.intervened(replaced), examples
    (hypothesis,) = other.generate(params, [example], task.greedy)[0]
    source, _ = task.source_input(example)
    batch = task.adapter.fill([(source, hypothesis.tokens)])
    logits = task.adapter.forward(params, batch, intervene=replaced).logits[0]
    best = np.asarray(jnp.argmax(logits.at[:, :2].set(-jnp.inf), axis=-1))
    count = len(hypothesis.tokens)
    assert count
    assert best[:count].tolist() == hypothesis.tokens
    rows = hypothesis.weights[:count]
    np.testing.assert_allclose(rows, np.full(rows.shape, 1 / rows.shape[1]), rtol=1e-5)


def record(learned: float, other: float | None = None) -> dict[str, Any]:
    scores = {"learned": {"accuracy": learned, "macro_f1": [1, int(learned > 0)]}}
    if other is not None:
        scores["uniform"] = {"accuracy": other, "macro_f1": [1, int(other > 0)]}
    return {"scores": scores}


def test_metrics_of_records_by_hand() -> None:
    task = prepared("classification")[0]
    found = task_metrics(task, [record(100.0, 0.0), record(100.0, 100.0), record(0.0, 0.0), record(0.0, 0.0)], {})
    assert list(found) == ["accuracy", "macro_f1"]
    accuracy = {name: entry["mean"] for name, entry in found["accuracy"].items()}
    assert accuracy == {"learned": 50.0, "uniform": 25.0, "uniform_minus_learned": -25.0}
    assert found["accuracy"]["learned"] == {"mean": 50.0, "ci95": None, "n": 4}
    assert found["macro_f1"]["learned"]["mean"] == pytest.approx(100 / 3, abs=1e-3)
    assert list(task_metrics(task, [record(100.0)], {"macro_f1": "a reason"})) == ["accuracy"]
    assert list(task_metrics(task, [record(100.0)], {})["accuracy"]) == ["learned"]
    assert task_metrics(task, [{"scores": {}}, {"failed": "no tokens"}], {}) == {}


def test_intervals_are_paired_over_examples() -> None:
    task = prepared("classification")[0]
    found = task_metrics(task, [record(100.0 * (n % 2), 100.0 * (n % 2)) for n in range(40)], {})["accuracy"]
    low, high = found["learned"]["ci95"]
    assert low < 50 < high
    assert found["uniform_minus_learned"] == {"mean": 0.0, "ci95": [0.0, 0.0], "n": 40}


def test_an_example_without_a_reference_has_no_scores() -> None:
    task, params, _ = prepared("classification")
    example = task.parse_example(["a good film"])
    explained = task.explained_prediction(params, example, TargetSelection())
    assert scores_of_outputs(task, None, params, [Marked(0, 0, explained, example)]) == [{}]
    assert task.is_correct(example, explained) is None


PASSAGE = "Ann took the red lamp."


@pytest.mark.parametrize(
    ("answers", "prediction", "expected"),
    [
        (["the red lamp", "lamp"], "red lamp", True),
        (["the red lamp"], "lamp", False),
        (["the red lamp"], NO_ANSWER, False),
        ([], NO_ANSWER, True),
        ([], "Ann", False),
    ],
)
def test_an_answer_is_right_if_it_matches_a_reference_exactly(
    answers: list[str], prediction: str, expected: bool
) -> None:
    spans = tuple(AnswerSpan(text, PASSAGE.index(text)) for text in answers)
    example = PassageQuestion("q1", "What did Ann take?", PASSAGE, spans)
    task = object.__new__(ExtractiveQATask)
    explained = ExplainedPrediction((), None, lambda logits, batch: logits, "", prediction)
    assert task.is_correct(example, explained) is expected


def test_a_question_of_a_user_has_no_right_answer() -> None:
    task = object.__new__(ExtractiveQATask)
    example = task.parse_example([PASSAGE, "What did Ann take?"])
    explained = ExplainedPrediction((), None, lambda logits, batch: logits, "", "lamp")
    assert task.is_correct(example, explained) is None

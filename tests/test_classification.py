"""Classifiers from end to end, on twins that can be solved exactly: which of two words comes first?"""

import json
import random
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab import lab
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.data.classification.records import LabeledText
from attnlab.tasks.attention_map import AttentionMap
from attnlab.tasks.classification.task import ClassificationTask

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
task:
  kind: classification
  data: {kind: labeled_text, train: train.jsonl, dev: dev.jsonl, test: {test: test.jsonl}}
  max_length: 12
model: MODEL
training:
  steps: STEPS
  batch_tokens: 512
  buckets: 1
  optimizer: {kind: adamw, learning_rate: RATE, warmup_steps: 20, schedule: linear}
  evaluate_every: 100
"""
RECURRENT = """
  kind: recurrent_classifier
  embedding: 12
  encoder: {hidden: 12}
  pooling: {kind: structured, hops: 2, hidden: 8, penalty: 0.01}
  dropout: 0.05
"""
TRANSFORMER = """
  kind: transformer_classifier
  encoder:
    {layers: 2, width: 24, heads: 2, feed_forward: 48, positions: {kind: relative_bias, distance: 8}, dropout: 0.0}
  pooling: {kind: first}
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Texts of "x" and "y" among other words; the label is which comes first. No count of words tells it."""
    directory, draw = tmp_path_factory.mktemp("data"), random.Random(0)
    for split, count in {"train": 2000, "dev": 60, "test": 200}.items():
        rows = []
        for _ in range(count):
            first, second = draw.sample(["x", "y"], 2)
            words = [first, second]
            for _ in range(draw.randint(0, 6)):
                words.insert(draw.randint(0, len(words)), draw.choice("abcd"))
            rows.append({"text": " ".join(words), "label": first})
        (directory / f"{split}.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return directory


def trained(data: Path, folder: Path, model: str, steps: int, rate: float) -> Path:
    path = folder / "order.yaml"
    text = EXPERIMENT.replace("MODEL", model).replace("STEPS", str(steps)).replace("RATE", str(rate))
    path.write_text(text)
    return lab.train(load(path), folder / "run", data)


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(data, tmp_path_factory.mktemp("recurrent"), RECURRENT, 200, 0.02)


def test_the_task_is_solved(run: Path, data: Path):
    results = lab.evaluate(run, data)["test"]
    assert results["accuracy"] >= 98
    assert results["accuracy_ci95"][1] >= 99
    assert results["labels"] == ["x", "y"]
    assert sum(map(sum, results["confusion"])) == results["texts"] == 200
    assert json.loads((run / "results.json").read_text())["test"] == results
    assert {path.name for path in (run / "attention").iterdir()} >= {"test_1.png", "test_3.html"}


def test_an_example_that_cannot_be_drawn_costs_no_score(run: Path, data: Path, monkeypatch, capfd):
    def refused(self, params, example):
        raise UserError("the text has no tokens")

    monkeypatch.setattr(ClassificationTask, "attention_maps", refused)
    assert lab.evaluate(run, data)["test"]["accuracy"] >= 98
    assert "example 1 of test was not drawn: the text has no tokens" in capfd.readouterr().err


def test_predict_gives_a_class_and_its_probability_for_every_line(run: Path):
    lines = list(lab.predict(run, ["a x b y\n", "\n", "y x\n", "x " * 30 + "y\n", "  \n"]))
    assert [line.partition("\t")[0] for line in lines] == ["x", "", "y", "x", ""]
    assert all(0.5 <= float(line.partition("\t")[2]) <= 1 for line in lines if line)
    best = list(lab.predict(run, ["a x b y", "y x"], n_best=2))
    assert [line.split(" ||| ")[:2] for line in best] == [["0", "x"], ["0", "y"], ["1", "y"], ["1", "x"]]
    assert float(best[0].split(" ||| ")[2]) + float(best[1].split(" ||| ")[2]) == pytest.approx(1, abs=2e-4)
    with_empty = list(lab.predict(run, ["a x b y", "", "y x"], n_best=2))
    assert with_empty[2:4] == ["1 |||  ||| 0.0000"] * 2
    assert [line[0] for line in with_empty] == [*"001122"]
    with pytest.raises(UserError, match="between 1 and the number of classes, 2"):
        list(lab.predict(run, ["a"], n_best=3))


def test_words_of_no_training_text_are_said(run: Path, capfd):
    list(lab.predict(run, ["a x zebra y", "gnu x"]))
    assert capfd.readouterr().err.count("not in the vocabulary, replaced by the unknown token: zebra, gnu\n") == 1
    (view,) = lab.load(run).attention("a x zebra y")
    assert view.unknown_words == ("zebra",)


def test_an_answer_does_not_depend_on_its_neighbors(run: Path):
    opened = lab.load(run)
    assert isinstance(opened.task, ClassificationTask)
    texts = ["a x b y", "y x", "d c y a x b a", "unknown words", ""]
    together = opened.task.probabilities(opened.params, texts)
    alone = [opened.task.probabilities(opened.params, [text])[0] for text in texts]
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(together.sum(axis=1), 1.0)
    classified = opened.task.classify(opened.params, texts)
    np.testing.assert_allclose([text.probabilities for text in classified], together, atol=1e-6)


def test_show_has_a_row_a_hop_that_adds_up_to_one(run: Path):
    (view,) = lab.load(run).attention("a x b y")
    assert isinstance(view, AttentionMap)
    assert (view.column_labels, view.row_labels) == (["a", "x", "b", "y"], ["hop-1", "hop-2"])
    assert view.prediction.startswith("x (")
    np.testing.assert_allclose(view.weights.sum(axis=1), 1.0, rtol=1e-5)
    assert [path.suffix for path in lab.show(run, ["a x", "b y"])] == [".png", ".html"]
    with pytest.raises(UserError, match="the text is empty"):
        lab.show(run, [" "])


def test_a_run_describes_its_data_and_keeps_its_classes(run: Path, data: Path):
    config = lab.load(run).run.config
    task = ClassificationTask.prepare(config, ClassificationTask.load(config, data))
    examples = [LabeledText("a " * 20, "x"), LabeledText("x y", "x"), LabeledText(" ", "y"), LabeledText("y x", "y")]
    summary = task.training_batches(examples).summary
    assert summary[0].startswith("data: 3 training texts")
    assert summary[2:] == [
        "classes: x 50.0%, y 50.0%", "cut: 1 texts to 12 tokens, the head kept (task.max_length)",
        "left out: 1 texts without a token",
    ]  # fmt: skip
    assert task.token_lengths(examples) == {"text": [20, 2, 0, 2]}
    (run / "labels.json").rename(run / "elsewhere")
    with pytest.raises(UserError, match=r"labels\.json: cannot read the classes"):
        lab.load(run)
    (run / "labels.json").write_text('["y", "x"]')
    with pytest.raises(UserError, match=r"labels\.json"):
        lab.load(run)
    (run / "elsewhere").rename(run / "labels.json")


def test_a_batch_is_its_shares_added_up(run: Path):
    opened = lab.load(run)
    batch = opened.task.training_batches(
        [LabeledText("a x y", "x"), LabeledText("y x", "y"), LabeledText("b y x", "y")]
    ).batches.batch(0)
    batch = jax.tree.map(jnp.asarray, batch)
    params = jax.device_get(opened.params)
    loss = jax.jit(lambda batch: opened.task.loss(jax.tree.map(jnp.asarray, params), batch, None))
    whole = loss(batch)
    shares = [loss(jax.tree.map(lambda a, row=row: a[row : row + 1], batch)) for row in range(len(batch["lengths"]))]
    assert float(whole.total) == pytest.approx(sum(float(share.total) for share in shares), rel=1e-5)
    assert int(whole.count) == sum(int(share.count) for share in shares) == 3


@pytest.mark.slow
@pytest.mark.optimized
def test_a_transformer_solves_it_too_and_shows_every_head(data: Path, tmp_path: Path):
    run = trained(data, tmp_path, TRANSFORMER, 300, 0.005)
    assert lab.evaluate(run, data)["test"]["accuracy"] >= 98
    (view,) = lab.load(run).attention("a x b y")
    assert isinstance(view, AttentionMap)
    assert view.column_labels == ["[CLS]", "a", "x", "b", "y"]
    assert view.row_labels == [f"layer-{layer}/head-{head}" for layer in (1, 2) for head in (1, 2)]
    np.testing.assert_allclose(view.weights.sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("task.truncation=middle", "task.truncation"),
        ("model.pooling={kind: first}", "pooling.kind first is not defined for a recurrent encoder"),
        (
            "model={kind: recurrent_classifier, encoder: null, pooling: {kind: last}}",
            "pooling.kind last is not defined for encoder null",
        ),
        (
            "model.pooling.attention={score: {kind: dot}, mods: [{kind: alibi}]}",
            "compares positions within one sequence",
        ),
        ("model={kind: transformer_classifier, encoder: {positions: {kind: learned}, max_length: 60}}", "must exceed"),
        ("model={kind: recurrent_seq2seq, attention: null}", "cannot classify"),
        ("training.optimizer={kind: sgd, momentum: 0, nesterov: true}", "nesterov true needs a momentum above 0"),
    ],
)
def test_incompatible_settings_are_reported_in_one_line(change: str, message: str):
    with pytest.raises(UserError) as error:
        load(ROOT / "experiments" / "classification" / "synthetic_sentiment_additive.yaml", [change])
    assert message in str(error.value)
    assert "\n" not in str(error.value)

"""Extractive question answering: the models, prediction over windows, "no answer", and a small learnable twin."""

import functools
import json
import random
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
from weights import drawn, parameters

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.config.models.extractive_qa import BidafReader as ReaderConfig
from attnlab.data.extractive_qa.records import AnswerSpan, PassageQuestion
from attnlab.data.records import Splits
from attnlab.functional import normalizers
from attnlab.models.bidaf import BidafReader
from attnlab.tasks.extractive_qa.task import ExtractiveQATask
from attnlab.training.steps import initial_state, make_train_step, shard_batch
from attnlab.viz.panels import panels

BIDAF = {"kind": "bidaf_reader", "embedding": 8, "hidden": 6, "highway": 1, "modeling_layers": 1, "dropout": 0.0}
TRANSFORMER = {
    "kind": "transformer_reader",
    "encoder": {"layers": 2, "width": 16, "heads": 2, "feed_forward": 32, "token_types": 2, "dropout": 0.0},
}
KEYS = ("red", "green", "blue", "gray", "pink")


def experiment(model: dict, steps: int = 1, rate: float = 3e-3, **task) -> Experiment:
    files = {"kind": "squad", "train": "t.json", "dev": "d.json", "test": {"test": "e.json"}}
    return Experiment.model_validate({
        "name": "twin", "model": model,
        "task": {"kind": "extractive_qa", "data": files, "window": 40, "stride": 20, **task},
        "training": {"steps": steps, "buckets": 1, "batch_tokens": 512, "evaluate_every": steps,
                     "optimizer": {"kind": "adamw", "learning_rate": rate}},
    })  # fmt: skip


def twin(count: int, seed: int, words: int = 30, share_without: float = 0.0) -> tuple[PassageQuestion, ...]:
    """Passages of 'KEY is WORD .' in any order; the question is the key, whose word is the answer."""
    draw, questions = random.Random(seed), []
    for number in range(count):
        keys = draw.sample(KEYS, 4)
        question = draw.choice(keys)
        answers = {key: f"w{draw.randrange(words)}" for key in keys}
        unanswerable = draw.random() < share_without
        mentioned = [key for key in keys if not (unanswerable and key == question)]
        passage = " ".join(f"{key} is {answers[key]} ." for key in mentioned)
        start = passage.find(f"{question} is ") + len(f"{question} is ")
        spans = () if unanswerable else (AnswerSpan(answers[question], start),)
        questions.append(PassageQuestion(str(number), question, passage, spans))
    return tuple(questions)


def prepared(config: Experiment, train: tuple[PassageQuestion, ...]) -> ExtractiveQATask:
    return ExtractiveQATask.prepare(config, Splits(train, train, {}))


def trained(config: Experiment, train: tuple[PassageQuestion, ...]):
    task = prepared(config, train)
    batches, state = task.training_batches(train).batches, initial_state(task.initialize, config.training, 1)
    step = make_train_step(task.loss, config.training, 1)
    for number in range(config.training.steps):
        state, metrics = step(state, shard_batch(batches.batch(number)))
        jax.block_until_ready(metrics)
    return task, state.params


def inputs(rows: int = 2, words: int = 5, question_words: int = 3):
    rng = np.random.default_rng(0)
    passage, question = (jnp.array(rng.integers(4, 20, (rows, n))) for n in (words, question_words))
    letters = [jnp.array(rng.integers(1, 9, (rows, n, 4))) for n in (words, question_words)]
    return passage, jnp.array([words, 3]), question, jnp.array([question_words, 2]), *letters, jnp.ones((rows, words))


@pytest.mark.parametrize(
    ("flow", "kind"), [("both", "softmax"), ("both", "sparsemax"), ("context_to_query", "softmax")]
)
@pytest.mark.quick("both-softmax")
def test_attention_flow_by_the_book(flow: str, kind: str):
    """From the contextual states on, against the paper's equations, with Python's own sums."""
    parts = {"score": {"kind": "trilinear"}, "normalizer": {"kind": kind}}
    config = ReaderConfig(**{**BIDAF, "flow": flow, "attention": parts})
    softmax = functools.partial(scipy.special.softmax, axis=-1)
    normalize = {"softmax": softmax, "sparsemax": lambda logits: normalizers.sparsemax(jnp.array(logits))}[kind]
    model = BidafReader(config, 20, 9)
    batch = inputs()
    variables = drawn(functools.partial(model.init, train=False), *batch)
    rng = np.random.default_rng(1)
    h, u = rng.normal(size=(2, 5, 12)).astype(np.float32), rng.normal(size=(2, 3, 12)).astype(np.float32)
    inside = jnp.arange(5)[None] < batch[1][:, None]
    arguments = jnp.array(h), jnp.array(u), jnp.array(u[:, 0]), inside, batch[3]
    flowing = jax.jit(lambda variables, *batch: model.apply(variables, *batch, False, method="_flow"))
    g, by_question, by_passage = flowing(variables, *arguments)
    w = {name: np.asarray(value) for name, value in variables["params"]["attention"]["score"].items()}
    for b, (t, j) in enumerate(zip((5, 3), (3, 2), strict=True)):
        scores = h[b, :t] @ w["w_query"]
        scores = scores[:, None] + u[b, :j] @ w["w_key"] + (h[b, :t] * w["w_product"]) @ u[b, :j].T
        alpha = normalize(scores)
        seen = alpha @ u[b, :j]
        beta = normalize(scores.max(1)[None])[0]
        regarded = beta @ h[b, :t]
        parts = [h[b, :t], seen, h[b, :t] * seen] + ([h[b, :t] * regarded] if flow == "both" else [])
        np.testing.assert_allclose(g[b, :t], np.concatenate(parts, axis=1), atol=1e-5)
        np.testing.assert_allclose(by_question[b, :t, :j], alpha, atol=1e-5)
        if flow == "both":
            np.testing.assert_allclose(by_passage[b, :t], beta, atol=1e-5)
        assert not np.any(by_question[b, :t, j:])


@pytest.mark.parametrize(
    "attention", [None, pytest.param({"score": {"kind": "additive", "hidden": 4}}, marks=pytest.mark.slow)]
)
def test_filler_and_padding_change_nothing(attention: dict | None):
    characters = {"embedding": 3, "filters": 4, "max_characters": 4}
    config = ReaderConfig(**{**BIDAF, "attention": attention, "exact_match": True, "characters": characters})
    model = BidafReader(config, 20, 9)
    batch = inputs()
    variables = drawn(functools.partial(model.init, train=False), *batch)
    apply = jax.jit(lambda variables, *batch: model.apply(variables, *batch, train=False))
    out = apply(variables, *batch)
    chex.assert_shape([out.start, out.end], (2, 6))
    assert np.isneginf(out.start[1, 4:]).all()
    rows = [jnp.pad(x, [(0, 1), (0, 2)] + [(0, 0)] * (x.ndim - 2)) if x.ndim > 1 else jnp.pad(x, (0, 1)) for x in batch]
    wider = apply(variables, *rows)
    np.testing.assert_allclose(wider.start[:2, :6], out.start, atol=1e-5)
    np.testing.assert_allclose(wider.end[:2, :6], out.end, atol=1e-5)

    def loss(variables):
        pointers = model.apply(variables, *rows, train=False)
        return -jnp.sum(jax.nn.log_softmax(pointers.start)[:2, 1] + jax.nn.log_softmax(pointers.end)[:2, 2])

    chex.assert_tree_all_finite(jax.jit(jax.grad(loss))(variables))


@pytest.mark.parametrize("model", [BIDAF, TRANSFORMER], ids=["bidaf", "transformer"])
@pytest.mark.quick("transformer")
def test_long_passages_are_read_in_windows_and_answers_merged(model: dict):
    config = experiment(model, window=8, stride=5, max_answer=3, unanswerable=True)
    examples = (
        *twin(6, 0),
        PassageQuestion("long", "red", "green is w1 . " * 9 + "red is w2 .", (AnswerSpan("w2", 133),)),
    )
    task = prepared(config, examples)
    params = parameters(task)
    windows = [window for window in task.passage_encoder.encode(examples) if window.number == 6]
    assert [(w.first, w.last) for w in windows] == [(n, min(n + 8, 40)) for n in range(0, 36, 5)]
    assert [w.target for w in windows if w.target != (0, 0)] == [(4, 4)]
    predictions = task.predict_spans(params, examples)
    for ranked, example in zip(predictions, examples, strict=True):
        assert {len(ranked)} <= {2, 3, 4}
        assert sum(span.text == "" for span in ranked) == 1
        spans = [span for span in ranked if span.text]
        assert all(span.text in example.passage and span.words[1] - span.words[0] < 3 for span in spans)
        assert [span.score for span in spans] == sorted((span.score for span in spans), reverse=True)
    alone = task.predict_spans(params, examples[6:])[0]
    np.testing.assert_allclose([span.score for span in alone], [span.score for span in predictions[6]], atol=1e-4)
    maps = task.attention_maps(params, examples[6])
    assert all(map_.weights.shape == (len(map_.row_labels), len(map_.column_labels)) for map_ in maps)
    assert maps[0].row_labels[0] == "red"
    assert (maps[0].question, maps[0].reference) == ("red", "w2")
    assert [maps[0].column_labels[column] for column in maps[0].evidence] == ["w2"]


@pytest.mark.parametrize(("model", "adds_up"), [(BIDAF, ["column", "row"]), (TRANSFORMER, ["", "row"])])
@pytest.mark.quick("model1-adds_up1")
def test_a_map_separates_rows_normalized_over_question_and_over_passage(model: dict, adds_up: list[str]):
    task = prepared(experiment(model), twin(4, 0))
    params = parameters(task, spread=0.0)
    example = task.parse_example(["red is w1 . green is w2 .", "red green"])
    of_question, of_passage = panels(task.attention_maps(params, example)[0])
    assert of_question.row_labels == ["red", "green"]
    assert of_passage.row_labels[-2:] == ["answer starts", "answer ends"]
    assert of_question.normalized_axis == adds_up[0]
    np.testing.assert_allclose(of_passage.weights[-2:].sum(axis=1), 8 / 9, rtol=1e-5)
    assert 'probabilities sum to 1 minus that of "no answer"' in of_passage.title
    attention = of_passage.weights[:-2]
    np.testing.assert_allclose(attention.sum(axis=1), np.ones(len(attention)), rtol=1e-5)


def test_a_threshold_decides_between_a_span_and_none():
    examples = twin(4, 0)
    texts, best = {}, {}
    for threshold in (-1e9, 1e9):
        task = prepared(experiment(BIDAF, unanswerable=True, null_threshold=threshold), examples)
        params = parameters(task)
        answers = [[span.text for span in ranked] for ranked in task.predict_spans(params, examples)]
        texts[threshold] = [ranked[0] for ranked in answers]
        assert all(len(set(ranked)) == len(ranked) for ranked in answers)
        scores = task.test_metrics(params, examples)
        best[threshold] = {name: scores[name] for name in scores if name.startswith("best_")}
    assert set(texts[-1e9]) == {""}
    assert all(texts[1e9])
    assert best[-1e9] == best[1e9]
    assert {"best_f1", "f1_ci95", "lexical_baseline_f1", "f1_over_baseline_ci95"} <= set(scores)
    assert set(scores["answers"]) == {"0", "1", "2", "3"}


def test_lines_and_arguments():
    task = prepared(experiment(BIDAF), twin(4, 0))
    params = parameters(task)
    lines = list(task.predict(params, ["red is w1 .\tred", "", "green is w2 .\tgreen"], 0, None))
    assert lines[1] == ""
    assert lines[0] in "red is w1 ."
    assert task.parse_example(["a b", "c?"]) == task.parse_example(["a b\tc?"]) == PassageQuestion("", "c?", "a b", ())
    with pytest.raises(UserError, match="line 3: expected a passage and a question"):
        list(task.predict(params, ["", "no tab"], 1, None))


def test_words_of_no_training_passage_are_named_in_passage_and_question():
    task = prepared(experiment(BIDAF), examples := twin(4, 0))
    params = parameters(task)
    known = f"{examples[0].passage}\t{examples[0].question}"
    assert task.unknown_words(["red is zebra .\tred gnu", known]) == ["zebra", "gnu"]
    unknown = task.parse_example(["red is zebra .", "red gnu"])
    assert task.attention_maps(params, unknown)[0].unknown_words == ("zebra", "gnu")


def test_the_summary_names_left_out_guessed_and_truncated_examples():
    misplaced = PassageQuestion("x", "red", "red is w1 .", (AnswerSpan("w9", 7),))
    guessed = PassageQuestion("y", "red", "red is w1 .", (AnswerSpan("w1", 7, False),))
    task = prepared(experiment(BIDAF, max_question=2), train := (*twin(4, 0), misplaced, guessed))
    truncated = PassageQuestion("z", "a b c", "a", (AnswerSpan("a", 0),))
    summary = "\n".join(task.training_batches((*train, truncated)).summary)
    assert "left out: 1 questions; of x the answer 'w9' is not at character 7 ('w1' is)" in summary
    assert "guessed positions: 1 answers" in summary
    assert "cut: 1 questions of more than 2" in summary


def test_no_trainable_question_is_an_error_with_its_reason():
    wrong = PassageQuestion("q7", "red", "red is w1 .", (AnswerSpan("w1", 3),))
    with pytest.raises(UserError, match=r"of q7 the answer 'w1' is not at character 3 \(' i' is\)"):
        prepared(experiment(BIDAF), twin(4, 0)).training_batches((wrong,))
    long = PassageQuestion("q8", "red", "red is w1 .", (AnswerSpan("red is w1", 0),))
    with pytest.raises(UserError, match=r"no answer is whole in a window of 2 tokens \(task.window\)"):
        prepared(experiment(BIDAF, window=2, stride=1, max_answer=2), twin(4, 0)).training_batches((long,))


@pytest.mark.slow
@pytest.mark.parametrize("model", [BIDAF, TRANSFORMER], ids=["bidaf", "transformer"])
@pytest.mark.optimized
def test_a_twin_that_attention_solves(model: dict):
    if model is BIDAF:
        config, examples = experiment({**BIDAF, "embedding": 24, "hidden": 24}, steps=500, rate=1e-2), 1500
    else:  # the answer is two tokens after the key: positions relative to each other
        encoder = TRANSFORMER["encoder"] | {
            "width": 32,
            "heads": 4,
            "feed_forward": 64,
            "positions": {"kind": "rotary"},
        }
        config, examples = experiment({**TRANSFORMER, "encoder": encoder}, steps=1200), 10_000
    task, params = trained(config, twin(examples, 0))
    assert task.test_metrics(params, twin(100, 1))["exact"] >= 90.0


@pytest.mark.slow
@pytest.mark.optimized
def test_unanswerable_questions_are_learned():
    config = experiment({**BIDAF, "embedding": 24, "hidden": 24}, steps=1200, rate=1e-2, unanswerable=True)
    task, params = trained(config, twin(1500, 0, share_without=0.4))
    scores = task.test_metrics(params, twin(100, 1, share_without=0.4))
    assert scores["HasAns_exact"] >= 85.0
    assert scores["NoAns_exact"] >= 85.0


def test_restore_reads_the_vocabularies_of_a_run(tmp_path: Path):
    config = experiment({**BIDAF, "characters": {"max_characters": 3}})
    task = prepared(config, twin(4, 0))
    for name, text in task.files().items():
        (tmp_path / name).write_text(text)
    again = ExtractiveQATask.restore(config, tmp_path)
    assert again.fingerprints() == task.fingerprints()
    assert json.loads((tmp_path / "letters.json").read_text()) == again.passage_encoder.letters
    (window,), (again_window,) = (
        encoder.encode(twin(1, 5)) for encoder in (task.passage_encoder, again.passage_encoder)
    )
    np.testing.assert_array_equal(window.passage.letters, again_window.passage.letters)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stride": 50}, "stride 50 exceeds"),
        ({"tokenizer": {"kind": "words", "lowercase": "source"}}, "lowercase source: .*valid: none, both"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        experiment(BIDAF, **changes)

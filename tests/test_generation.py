"""The base classes of tasks that generate text: a small new task needs its data and its metrics only."""

import itertools

import jax
import numpy as np
import pytest

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.translation.records import ParallelCorpus, SentencePair
from attnlab.tasks.base import Metric
from attnlab.tasks.layer_attention import Selection
from attnlab.tasks.seq2seq import Seq2SeqTask
from attnlab.training.steps import initial_state, make_train_step, shard_batch

LETTERS = "abcd"


def load(config, data_dir) -> ParallelCorpus:
    sequences = [" ".join(letters) for n in (1, 2, 3) for letters in itertools.product(LETTERS, repeat=n)]
    pairs = [SentencePair(text, text.upper()) for text in sequences]
    return ParallelCorpus(tuple(pairs), tuple(pairs[::9]), {"test": tuple(pairs[::5])}, "lower case", "upper case")


class UpperCaseTask(Seq2SeqTask):
    """Convert letters to upper case."""

    load_data = staticmethod(load)
    monitor = "dev_exact_match"
    loss_unit = "tokens"
    input_format = "letters with spaces between them"
    reported_metrics = (Metric("exact_match"),)

    def validation_metrics(self, params, examples, poll=lambda done=0, total=0: None):
        return {"dev_exact_match": self._exact_match(params, examples, self.greedy, poll)}

    def test_metrics(self, params, examples, poll=lambda done=0, total=0: None):
        return {"exact_match": self._exact_match(params, examples, self.decoding, poll)}

    def _exact_match(self, params, examples, decoding, poll) -> float:
        texts = self.texts(params, examples, decoding, poll)
        return 100 * float(np.mean([text == pair.target for text, pair in zip(texts, examples, strict=True)]))


CONFIG = Experiment.model_validate({
    "name": "upper_case",
    "task": {
        "kind": "translation", "data": {"kind": "dates"}, "tokenizer": {"kind": "words"}, "max_length": 4,
        "decoding": {"beam": 2, "max_length": 5},
    },
    "model": {
        "kind": "recurrent_seq2seq", "embedding": 16, "encoder": {"hidden": 16},
        "decoder": {"hidden": 32, "variant": "luong"}, "attention": {"score": {"kind": "additive", "hidden": 16}},
    },
    "training": {
        "steps": 150, "batch_tokens": 256, "buckets": 1, "optimizer": {"kind": "adamw", "learning_rate": 0.01},
    },
})  # fmt: skip


@pytest.fixture(scope="module")
def trained():
    splits = UpperCaseTask.load(CONFIG, None)
    task = UpperCaseTask.prepare(CONFIG, splits)
    state = initial_state(task.initialize, CONFIG.training, CONFIG.seed)
    step = make_train_step(task.loss, CONFIG.training, CONFIG.seed)
    batches = task.training_batches(splits.train).batches
    for number in range(CONFIG.training.steps):
        state, metrics = jax.block_until_ready(step(state, shard_batch(batches.batch(number))))
    assert metrics["nll"] < 0.2
    return task, state.params, splits


def test_a_new_task_learns_and_is_evaluated(trained, tmp_path):
    task, params, splits = trained
    polled = []
    scores = task.validation_metrics(params, splits.dev, lambda done=0, total=0: polled.append((done, total)))
    assert scores["dev_exact_match"] >= 80
    assert polled[0] == (0, len(splits.dev))
    assert polled[-1] == (len(splits.dev), len(splits.dev))
    for name, text in task.files().items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    restored = UpperCaseTask.restore(CONFIG, tmp_path)
    tests = splits.test["test"]
    assert restored.test_metrics(params, tests) == task.test_metrics(params, tests)
    assert task.token_lengths(tests[:2]) == {"source": [1, 2], "target": [1, 2]}


def test_lines_and_sources_without_tokens_have_empty_predictions(trained):
    task, params, _ = trained
    lines = list(task.predict(params, ["a b", " ", "c"], first=3, n_best=2))
    assert lines[0].startswith("3 ||| A B ||| ")
    assert lines[1].startswith("3 ||| ")
    assert lines[2:4] == ["4 |||  ||| 0.0000", "4 |||  ||| -inf"]
    assert lines[4].startswith("5 ||| C ||| ")
    assert list(task.predict(params, ["a b", "", "c"], 0, None)) == ["A B", "", "C"]
    empty, full = task.generate(params, [SentencePair("", "X"), SentencePair("d", "")], task.decoding)
    assert [hypothesis.text for hypothesis in (empty[0], full[0])] == ["", "D"]
    assert task.unknown_words(["a z"]) == ["z"]
    with pytest.raises(UserError, match=r"the sentence is empty; expected letters with spaces"):
        task.parse_example([" "])


def test_attention_has_a_row_for_each_token_of_the_output_and_its_end(trained):
    task, params, _ = trained
    example = task.parse_example(["a b c"])
    maps = task.attention_maps(params, example)
    assert maps[0].prediction == "A B C"
    assert len(maps) == 2, "as many as the beam is wide"
    assert (len(maps[0].row_labels), len(maps[0].column_labels)) == maps[0].weights.shape == (4, 4)
    selected = task.selected_attention_map(params, example, Selection("cross", 1, 1))
    (forced,) = task.attention(params, [SentencePair("a b c", "A B C")])
    for weights in (selected.weights, forced):
        np.testing.assert_allclose(weights, maps[0].weights, atol=1e-5)


def test_each_search_is_compiled_once(trained):
    task, params, _ = trained
    task.texts(params, [SentencePair("a", "")], task.greedy)
    search = task._decoders[task.greedy]
    task.texts(params, [SentencePair("b", "")], task.greedy.model_copy())
    assert task._decoders[task.greedy] is search

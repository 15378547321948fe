"""With and without a cache the same tokens are written, and what is measured is told."""

import json
from typing import Any

import jax
import pytest

from attnlab.bench.decoding import compare
from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.tasks.translation.task import TranslationTask

LAYERS = {"layers": 1}
TRANSFORMER = {"kind": "transformer_seq2seq", "width": 16, "heads": 2, "feed_forward": 16, "max_length": 24}
RECURRENT = {
    "kind": "recurrent_seq2seq", "embedding": 6, "encoder": {"cell": "gru", "hidden": 4},
    "decoder": {"cell": "gru", "hidden": 8, "variant": "luong"}, "attention": {"score": {"kind": "dot"}},
}  # fmt: skip


def translator(model: dict[str, Any]) -> tuple[TranslationTask, list[str]]:
    tree = {
        "name": "small",
        "task": {
            "kind": "translation",
            "data": {"kind": "dates", "train": 60, "dev": 5, "test": 7, "max_items": 2},
            "tokenizer": {"kind": "words"},
            "max_length": 20,
            "decoding": {"beam": 2, "max_length": 12},
        },
        "model": model,
        "training": {"steps": 1},
    }
    experiment = Experiment.model_validate_json(json.dumps(tree))
    corpus = TranslationTask.load(experiment, None)
    return TranslationTask.prepare(experiment, corpus), [pair.source for pair in corpus.test["test"]]


@pytest.mark.parametrize("length", [pytest.param(None, marks=pytest.mark.slow), 9])
def test_both_sides_write_the_same_tokens(length: int | None) -> None:
    task, texts = translator(TRANSFORMER | {"encoder": LAYERS, "decoder": LAYERS})
    found = compare(task, jax.jit(task.initialize)(jax.random.key(3)), texts, length, rounds=1)
    assert (found.sentences, found.equal, len(found.full_seconds)) == (7, 7, 1)
    assert found.tokens == 7 * 10 if length else found.tokens > 7
    assert found.largest_difference < 1e-4
    assert json.loads(str(found).splitlines()[-1])["ratio"] == found.ratio > 0
    assert "the same tokens in 7 of 7" in str(found)


def test_what_has_no_cache_is_refused_and_so_is_too_long_a_text() -> None:
    task, texts = translator(RECURRENT)
    with pytest.raises(UserError, match=r"recurrent_seq2seq has no cache .*transformer_seq2seq"):
        compare(task, {}, texts)
    task, texts = translator(TRANSFORMER | {"encoder": LAYERS, "decoder": LAYERS})
    with pytest.raises(UserError, match=r"24 tokens; the run's model\.max_length is 24"):
        compare(task, {}, texts, 24)

"""With and without a cache the same tokens are generated, and all measurements are printed."""

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
def test_both_sides_generate_the_same_tokens(length: int | None) -> None:
    task, texts = translator(TRANSFORMER | {"encoder": LAYERS, "decoder": LAYERS})
    comparison = compare(task, jax.jit(task.initialize)(jax.random.key(3)), texts, length, rounds=1)
    assert (comparison.sentences, comparison.equal, len(comparison.full_seconds)) == (7, 7, 1)
    assert comparison.tokens == 7 * 10 if length else comparison.tokens > 7
    assert comparison.largest_difference < 1e-4
    assert json.loads(str(comparison).splitlines()[-1])["ratio"] == comparison.ratio > 0
    assert "the same tokens in 7 of 7" in str(comparison)


def test_a_model_without_a_cache_and_too_long_a_text_are_refused() -> None:
    task, texts = translator(RECURRENT)
    with pytest.raises(UserError, match=r"recurrent_seq2seq .*transformer_seq2seq"):
        compare(task, {}, texts)
    task, texts = translator(TRANSFORMER | {"encoder": LAYERS, "decoder": LAYERS})
    with pytest.raises(UserError, match=r"24 tokens .*model\.max_length 24"):
        compare(task, {}, texts, 24)

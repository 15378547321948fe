"""Removal `drop`: a text without words is the shorter text, for every task whose input is made of tokens."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from attnlab.analysis.battery import Battery, battery_settings, run_battery
from attnlab.analysis.battery.settings import SHARES
from attnlab.analysis.explain import Explainer
from attnlab.analysis.faithfulness import RATIOS
from attnlab.config.errors import UserError
from attnlab.config.load import load
from attnlab.tasks.dropping import at_places_of_text, closed_up
from attnlab.tasks.explained_prediction import TargetSelection
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
MODELS = {
    "recurrent": ("classification/synthetic_sentiment_additive.yaml", ()),
    "transformer": ("classification/synthetic_sentiment_transformer.yaml", ("model.append_sep=true",)),
    "seq2seq": ("translation/dates_additive.yaml", ()),
    "seq2seq_transformer": ("translation/dates_transformer.yaml", ()),
    "memory": ("story_qa/story_qa_1_memory.yaml", ()),
    "sentences": ("story_qa/story_qa_2_sentences.yaml", ()),
    "words": ("story_qa/story_qa_1_transformer.yaml", ()),
    "bidaf": ("extractive_qa/passages_bidaf.yaml", ()),
    "image": ("captioning/scenes_soft.yaml", ()),
    "image_and_question": ("visual_qa/scenes_cross_attention.yaml", ()),
}
IMAGES = ("image", "image_and_question")
QUICK = ("transformer",)


@cache
def prepared(name: str) -> tuple[Explainer, Any, list[Any]]:
    file, changes = MODELS[name]
    config = load(EXPERIMENTS / file, changes, tiny=True)
    data = task_class(config).load(config, None)
    made = task_class(config).prepare(config, data)
    return Explainer(made), jax.jit(made.initialize)(jax.random.key(0)), list(data.dev[:3])


def rows(names: Any) -> list[Any]:
    return [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in names]


def test_what_follows_closes_up():
    removed = jnp.array([False, True, True, False, False])
    batch = jnp.array([[4, 5, 6, 7, 0], [1, 2, 3, 0, 0]])
    assert closed_up(batch, removed).tolist() == [[4, 7, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert closed_up(batch[..., None] * jnp.array([1, 10]), removed)[0, :2].tolist() == [[4, 40], [7, 70]]
    assert closed_up(batch, jnp.zeros(5, bool)).tolist() == batch.tolist()


def test_places_of_a_shortened_text_are_those_of_the_whole():
    removed = jnp.array([False, True, False, False])
    found = at_places_of_text(jnp.array([0.5, 2.0, -jnp.inf, -jnp.inf]), removed)
    assert found[jnp.array([0, 2])].tolist() == [0.5, 2.0]
    assert found[3] == -jnp.inf
    assert np.isfinite(found[1])
    assert float(jax.nn.softmax(found)[1]) < 1e-37


def shortened(name: str, batch: dict[str, Any], gone: list[np.ndarray]) -> dict[str, np.ndarray]:
    """Return a batch of the text without the removed tokens, cut with NumPy to its own width, without padding."""
    short = {key: np.array(value) for key, value in batch.items()}
    if name in ("memory", "sentences"):
        count = int(short["sentences"][0])
        sentences = gone[0] if name == "memory" else np.append(gone[0][1 : count + 1][::-1], gone[0][count + 1 :])
        question = gone[1][0] if name == "memory" else gone[0][0]
        short["story"] = short["story"][:, :count][:, ~sentences[:count]]
        short["sentences"] = short["sentences"] - sentences[:count].sum()
        short["question"] = short["question"] * (not question)
        return short
    texts = {
        "bidaf": [("passage_lengths", "passage", "passage_letters", "match"),
                  ("question_lengths", "question", "question_letters")],
        "words": [("lengths", "tokens", "types")],
    }.get(name) or [("source_lengths", "source") if "source" in short else ("lengths", "tokens")]  # fmt: skip
    for (lengths, *arrays), removed in zip(texts, gone, strict=True):
        count = int(short[lengths][0])
        start = 1 if name == "transformer" else 0
        kept = ~removed[start : start + count]
        for array in arrays:
            short[array] = short[array][:, :count][:, kept]
        short[lengths] = np.array([kept.sum()], np.int32)
    return short


@pytest.mark.parametrize("name", rows(name for name in MODELS if name not in IMAGES))
def test_the_rest_is_the_shorter_text(name: str):
    explainer, params, examples = prepared(name)
    adapter = explainer.task.adapter
    explained = explainer.task.explained_prediction(params, examples[0], TargetSelection())
    given = explainer.prepare(params, explained)
    number = np.flatnonzero(given.removable)
    removed = np.zeros(len(given.removable), bool)
    removed[[number[0], number[-1]]] = True
    (score,) = explainer.scores_without(params, explained, removed[None], removal="drop")
    gone = [removed[place] for place in given.layout.slices]
    logits = adapter.forward(params, shortened(name, dict(given.batch), gone), attention=False).logits
    if name == "bidaf":
        words = np.insert(np.where(gone[0], -np.inf, 0.0), 0, 0.0)
        full = np.full((1, 2, len(words)), -np.inf, np.float32)
        full[..., words == 0.0] = np.pad(logits, ((0, 0), (0, 0), (0, int((words == 0).sum()) - logits.shape[2])),
                                         constant_values=-np.inf)  # fmt: skip
        logits = jnp.asarray(full)
    expected = float(explained.target(logits, given.batch))
    assert np.isfinite(score)
    assert float(score) == pytest.approx(expected, abs=2e-5) or (expected == -np.inf and score < -80)
    (everything,) = explainer.scores_without(params, explained, given.removable[None], removal="drop")
    assert np.isfinite(everything)


@cache
def measured(name: str) -> tuple[Battery, list[Any]]:
    explainer, params, examples = prepared(name)
    settings, _ = battery_settings(explainer, ["input_x_gradient"], "drop")
    battery = Battery(explainer, params, replace(settings, permutations=4, steps=3, restarts=2))
    return battery, run_battery(battery, dict(enumerate(examples)))


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in MODELS if name not in IMAGES])
def test_the_battery_drops(name: str):
    battery, records = measured(name)
    json.dumps(records, allow_nan=False)
    summary = battery.summary(records)
    found, left_out = summary["methods"]["leave_one_out"], summary["left_out"]["metrics"]
    assert found["taucorr_loo"]["mean"] == pytest.approx(1.0)
    assert found["aopc_compr"]["n"] == 3
    assert found["deletion_auc"]["mean"] is not None
    assert not {"soft_comprehensiveness", "soft_sufficiency"} & set(found)
    assert "--removal zeros" in left_out["soft_sufficiency"]
    assert ("log_odds" in left_out) == (name == "bidaf") == ("log_odds" not in found)


@pytest.mark.slow
def test_special_tokens_neither_go_nor_count():
    """The values of a model with [CLS] and [SEP], from texts that are tokenized without the words that are removed."""
    explainer, params, examples = prepared("transformer")
    adapter, task = explainer.task.adapter, explainer.task
    for record, example in zip(measured("transformer")[1], examples, strict=True):
        explained = task.explained_prediction(params, example, TargetSelection())
        ids = np.asarray(explained.examples[0][0])
        n = len(ids)
        assert len(jax.tree.leaves(explained.inputs)[0].parts[0].labels) == n + 2
        label = int(explained.target.keywords["label"])

        def chances(texts: list[np.ndarray], label: int = label) -> np.ndarray:
            logits = adapter.forward(params, adapter.fill([(text, 0) for text in texts]), attention=False).logits
            return np.asarray(jax.nn.softmax(logits))[: len(texts), label]

        counts = [int(np.ceil(round(share * n, 6))) for share in SHARES]
        assert record["positions"] == n
        assert record["counts"] == counts
        full, *without = chances([ids, *(np.delete(ids, place) for place in range(n))])
        order = np.argsort(-(np.log(full) - np.log(without)), kind="stable")
        tops = [order[: counts[SHARES.index(ratio)]] for ratio in RATIOS]
        found = record["methods"]["leave_one_out"]
        compr = full - chances([np.delete(ids, top) for top in tops])
        suff = full - chances([ids[np.sort(top)] for top in tops])
        assert found["aopc_compr"] == pytest.approx(compr.mean(), abs=1e-5)
        assert found["aopc_suff"] == pytest.approx(suff.mean(), abs=1e-5)
        assert found["deletion_curve"][0] == pytest.approx(full, abs=1e-5)
        assert found["deletion_curve"][-1] == pytest.approx(chances([ids[:0]])[0], abs=1e-5)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in IMAGES])
def test_images_cannot_close_up(name: str):
    explainer, _, _ = prepared(name)
    with pytest.raises(UserError, match=r"drop.*cells.*pad"):
        battery_settings(explainer, None, "drop")


def test_a_position_moves_but_the_special_tokens_stay():
    """[CLS] a b c [SEP] without b is [CLS] a c [SEP], whose c has the position of b."""
    explainer, params, examples = prepared("transformer")
    explained = explainer.task.explained_prediction(params, examples[0], TargetSelection())
    given = explainer.prepare(params, explained)
    special = given.valid & ~given.removable
    assert np.flatnonzero(special).tolist() == [0, int(given.valid.sum()) - 1]
    score = lambda removed, how: explainer.scores_without(params, explained, removed[None], removal=how)  # noqa: E731
    assert score(special, "drop") == score(np.zeros_like(special), "drop")
    assert score(given.removable, "drop") != score(np.zeros_like(special), "drop")
    first = np.zeros_like(special)
    first[1] = True
    assert score(first, "drop") != pytest.approx(score(first, "mask"), abs=1e-6)

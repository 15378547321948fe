"""Attention maps with negative weights, their headings, and their checks."""

from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest

from attnlab.config.load import load
from attnlab.tasks.attention_map import AttentionMap
from attnlab.tasks.registry import task_class
from attnlab.viz import page
from attnlab.viz.panels import panels
from attnlab.viz.picture import draw
from attnlab.viz.text import heading

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@pytest.mark.parametrize(
    ("name", "change", "line"),
    [
        ("translation/dates_additive.yaml", "model.attention.normalizer={kind: linear}", "der dritte Mai"),
        (
            "classification/synthetic_sentiment_additive.yaml",
            "model.pooling.attention.normalizer={kind: linear}",
            "a good film , not bad",
        ),
    ],
)
def test_negative_weights_are_shown_as_they_are(tmp_path: Path, name: str, change: str, line: str):
    config = load(EXPERIMENTS / name, [change]).tiny()
    splits = task_class(config).load(config, None)
    task = task_class(config).prepare(config, splits, None)
    initialize = jax.jit(task.initialize)
    drawn = (jax.tree.map(lambda leaf: 3.0 * leaf, initialize(jax.random.key(seed))) for seed in range(20))
    views = (task.attention_maps(params, task.parse_example([line]))[0] for params in drawn)
    view = next(view for view in views if isinstance(view, AttentionMap) and (view.weights < 0).any())
    assert panels(view)[0].signed
    draw(view, tmp_path / "a.png")
    assert "negative weights are red" in page.render([view])


def test_a_heading_shows_the_reference_if_known():
    bare = AttentionMap(["a"], ["b"], np.ones((1, 1)), "cat", 0.0)
    assert heading(bare) == "cat"
    known = replace(bare, question="Who?", prediction="Ann", reference="Ann / she")
    assert heading(known) == "Q: Who?\nA: Ann    (reference: Ann / she)"


@pytest.mark.parametrize(
    ("name", "value"), [("weights", np.ones((1, 2))), ("weights", np.array([[np.nan]])), ("evidence", (1,))]
)
def test_labels_weights_and_evidence_have_to_fit(name, value):
    with pytest.raises(ValueError, match=name):
        replace(AttentionMap(["a"], ["b"], np.ones((1, 1)), "cat", 0.0), **{name: value})


def test_strongest_color_is_the_largest_of_small_and_of_large_weights():
    tops = [panels(AttentionMap(["c"], ["a", "b"], np.array([[low, high]]), "", 0.0))[0].top
            for low, high in ((0.1, 0.2), (0.4, 0.6), (0.0, 1.0 + 1e-6), (-3.0, 2.0), (0.0, 0.0))]  # fmt: skip
    assert tops == [0.2, 1.0, 1.0, 3.0, 1.0]

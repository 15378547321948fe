"""What a trained model's answers look like where a normalizer makes negative weights."""

from pathlib import Path

import jax
import numpy as np
import pytest

from attnlab import viz
from attnlab.config.load import load
from attnlab.tasks.attention_map import Attended, heading
from attnlab.tasks.registry import task_class
from attnlab.viz import page

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
    views = (task.views(params, task.example([line]))[0] for params in drawn)
    view = next(view for view in views if isinstance(view, Attended) and (view.weights < 0).any())
    assert view.panels[0].signed
    viz.alignment(view, tmp_path / "a.png")
    assert "below 0 is red" in page.page(view.source, [view])


def test_a_heading_tells_what_is_right_where_it_is_known():
    assert heading("", "cat", "") == heading("", "cat", []) == "cat"
    assert heading("Who?", "Ann", ["Ann", "she", "Ann"]) == "Q: Who?\nA: Ann    (gold: Ann / she)"


def test_strongest_color_is_the_largest_of_small_and_of_large_weights():
    tops = [Attended(["a", "b"], ["c"], np.array([[low, high]]), "", 0.0).panels[0].top
            for low, high in ((0.1, 0.2), (0.4, 0.6), (0.0, 1.0 + 1e-6), (-3.0, 2.0), (0.0, 0.0))]  # fmt: skip
    assert tops == [0.2, 1.0, 1.0, 3.0, 1.0]

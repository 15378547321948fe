"""Commands on inputs that the user gives: they neither read nor generate the data that a run was trained on."""

import io
from pathlib import Path

import pytest
from PIL import Image

from attnlab import cli, lab
from attnlab.config.load import load
from attnlab.tasks.registry import task_class

EXPERIMENTS = Path(__file__).parents[1] / "experiments"
INPUTS = {
    "classification/synthetic_sentiment_dot": ("the plot is dull.",),
    "translation/dates_dot": ("der dritte Mai",),
    "story_qa/story_qa_1_memory": ("Mary went to the kitchen. Where is Mary?",),
    "extractive_qa/passages_none": ("Ann took the lamp. Bo found the axe.", "Who took the lamp?"),
    "captioning/scenes_mean": ("red.png",),
    "visual_qa/scenes_cross_attention": ("red.png", "what color is the cross?"),
}
"""Inputs of an experiment of each task."""
FIRST, *OTHERS = INPUTS


@pytest.mark.parametrize("name", [FIRST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_predict_and_show_read_no_data(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    config = load(EXPERIMENTS / f"{name}.yaml", ["training.steps=1"], tiny=True)
    run = lab.train(config, tmp_path / "run", None)

    def load_data(*_: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr(task_class(config), "load_data", load_data)
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (64, 64), (200, 30, 30)).save("red.png")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("\t".join(INPUTS[name]).encode())))
    capsys.readouterr()
    assert cli.main(["predict", str(run)]) == 0
    assert capsys.readouterr().out.count("\n") == 1
    assert cli.main(["show", str(run), *INPUTS[name]]) == 0
    assert capsys.readouterr().out.startswith("prediction: ")

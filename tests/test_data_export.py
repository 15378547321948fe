"""Exported data: the readers of each task read the files back to the same examples."""

from pathlib import Path

import numpy as np
import pytest

from attnlab.cli import main
from attnlab.config.captioning import Scenes
from attnlab.config.classification import SyntheticSentiment
from attnlab.config.errors import UserError
from attnlab.config.extractive_qa import GeneratedPassages
from attnlab.config.story_qa import GeneratedStories
from attnlab.config.translation import Dates
from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.captioning.load import load as captioning
from attnlab.data.classification.load import load as classification
from attnlab.data.export import export
from attnlab.data.extractive_qa.load import load as extractive_qa
from attnlab.data.images.pixels import pixels
from attnlab.data.story_qa.load import load as story_qa
from attnlab.data.translation.load import load as translation
from attnlab.data.visual_qa.load import load as visual_qa

SIZES = {"train": 30, "dev": 5, "test": 7}
TASKS = {
    "translation_words": (Dates(**SIZES), translation, ("source", "target")),
    "translation_iso": (Dates(**SIZES, target="iso"), translation, ("source", "target")),
    "classification": (SyntheticSentiment(**SIZES), classification, ("text", "label")),
    "story_qa": (GeneratedStories(**SIZES, facts=3), story_qa, ("sentences", "question", "answer", "facts")),
    "extractive_qa": (GeneratedPassages(**SIZES), extractive_qa, ("id", "question", "passage", "answers")),
    "captioning": (Scenes(**SIZES), captioning, ("image", "captions")),
    "visual_qa": (SceneQuestions(**SIZES), visual_qa, ("image", "question", "answer")),
}


def content(example: object, fields: tuple[str, ...]) -> list[object]:
    values = [getattr(example, name) for name in fields]
    return [pixels(value, 64).tobytes() if isinstance(value, np.ndarray) else value for value in values]


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("most", [None, 3])
def test_what_is_exported_reads_back_the_same(task: str, most: int | None, tmp_path: Path):
    config, load, fields = TASKS[task]
    generated = load(config, None).splits()
    read = load(export(config, tmp_path / "files", most), tmp_path / "files").splits()
    assert read.keys() == generated.keys()
    for split, examples in generated.items():
        assert len(read[split]) == len(examples[:most]) > 0
        for example, other in zip(read[split], examples, strict=False):
            assert content(example, fields) == content(other, fields)


def test_the_command_prints_the_config_that_reads_the_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    files = tmp_path / "stories"
    experiment = "experiments/story_qa/story_qa_1_memory.yaml"
    assert main(["data", "export", experiment, str(files), "--examples", "4"]) == 0
    printed = capsys.readouterr().out
    override = next(part for part in printed.split("'") if part.startswith("task.data="))
    assert main(["data", "check", experiment, override, "--data", str(files)]) == 0
    assert (files / "train.txt").read_text().count("?") == 4


def test_only_generated_data_is_exported_and_no_file_is_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(UserError, match=r"task\.data\.kind easy_vqa .*valid: .*scene_questions"):
        export(visual_qa_files(), tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "mine.txt").write_text("kept")
    with pytest.raises(UserError, match="not empty"):
        export(Dates(**SIZES), tmp_path)
    assert (tmp_path / "mine.txt").read_text() == "kept"
    assert main(["data", "export", "experiments/classification/sst2_dot.yaml", str(tmp_path / "new")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def visual_qa_files():
    from attnlab.config.visual_qa import EasyVqa

    return EasyVqa()

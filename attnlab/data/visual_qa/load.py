"""Load the questions about images of an experiment."""

from pathlib import Path

from attnlab.config.visual_qa import ImageQuestionHub, QuestionData, SceneQuestions
from attnlab.data import directory
from attnlab.data.images.duplicates import warn_about_shared_images
from attnlab.data.records import Splits
from attnlab.data.visual_qa import easy_vqa, hub, scenes
from attnlab.data.visual_qa.records import ImageQuestion


def load(config: QuestionData, data_dir: Path | None) -> Splits[ImageQuestion]:
    """Read or generate all splits of questions about images.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data and the hub.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, SceneQuestions):
        return scenes.generate(config)
    if isinstance(config, ImageQuestionHub):
        splits = hub.read(config, data_dir)
    else:
        expected = f"{config.train}_questions.jsonl.gz"
        splits = easy_vqa.read(config, directory.require(data_dir, f"task.data.kind {config.kind}", expected))
    warn_about_shared_images(splits)
    return splits

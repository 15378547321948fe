"""Load the stories of an experiment."""

from pathlib import Path

from attnlab.config.story_qa import GeneratedStories, StoryData
from attnlab.data import directory
from attnlab.data.records import Splits
from attnlab.data.story_qa import babi, generated
from attnlab.data.story_qa.records import StoryQuestion


def load(config: StoryData, data_dir: Path | None) -> Splits[StoryQuestion]:
    """Read or generate all splits of questions about stories.

    Args:
        config: `task.data` of an experiment.
        data_dir: the directory that paths are relative to; may be None for generated data.

    Raises:
        UserError: a file is missing or invalid; the message names the file and the line.
    """
    if isinstance(config, GeneratedStories):
        return generated.generate(config)
    return babi.read(config, directory.require(data_dir, f"task.data.kind {config.kind}", config.train))

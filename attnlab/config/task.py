"""The config of a task: one of those below, selected by `kind`."""

from typing import Annotated

from pydantic import Field

from attnlab.config.captioning import Captioning
from attnlab.config.classification import Classification
from attnlab.config.extractive_qa import ExtractiveQA
from attnlab.config.story_qa import StoryQA
from attnlab.config.translation import Translation
from attnlab.config.visual_qa import VisualQA

Task = Annotated[
    Translation | Classification | Captioning | VisualQA | StoryQA | ExtractiveQA, Field(discriminator="kind")
]

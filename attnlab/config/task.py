"""Tasks: what a model is to do, with the data for it."""

from typing import Annotated

from pydantic import Field

from attnlab.config.classification import Classification
from attnlab.config.questions import Spans, Stories
from attnlab.config.translation import Translation
from attnlab.config.vision import Captioning, VisualQa

Task = Annotated[Translation | Classification | Captioning | VisualQa | Stories | Spans, Field(discriminator="kind")]

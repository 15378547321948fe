"""Tasks: what a model is to do, with the data for it."""

from typing import Annotated

from pydantic import Field

from attnlab.config.classification import Classification
from attnlab.config.translation import Translation

Task = Annotated[Translation | Classification, Field(discriminator="kind")]

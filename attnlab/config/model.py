"""Models: what is trained."""

from typing import Annotated

from pydantic import Field

from attnlab.config.classifier import RecurrentClassifier, TransformerClassifier
from attnlab.config.recurrent import RecurrentSeq2Seq

Model = Annotated[RecurrentSeq2Seq | RecurrentClassifier | TransformerClassifier, Field(discriminator="kind")]

"""Models: what is trained."""

from typing import Annotated

from pydantic import Field

from attnlab.config.classifier import RecurrentClassifier, TransformerClassifier
from attnlab.config.readers import BidafReader, MemoryNetwork, TransformerReader, TransformerStories
from attnlab.config.recurrent import RecurrentSeq2Seq
from attnlab.config.transformer import TransformerSeq2Seq
from attnlab.config.vision_models import ShowAttendTell, TransformerCaptioner, VisualAnswerer

Model = Annotated[
    RecurrentSeq2Seq
    | TransformerSeq2Seq
    | RecurrentClassifier
    | TransformerClassifier
    | ShowAttendTell
    | TransformerCaptioner
    | VisualAnswerer
    | MemoryNetwork
    | TransformerStories
    | BidafReader
    | TransformerReader,
    Field(discriminator="kind"),
]

"""Configs of models, selected by `kind`."""

from typing import Annotated

from pydantic import Field

from attnlab.config.models.captioner import ShowAttendTell, TransformerCaptioner
from attnlab.config.models.classifier import MlpClassifier, RecurrentClassifier, TransformerClassifier
from attnlab.config.models.extractive_qa import BidafReader, TransformerReader
from attnlab.config.models.recurrent import RecurrentSeq2Seq
from attnlab.config.models.story_qa import MemoryNetwork, TransformerStoryReader
from attnlab.config.models.transformer import TransformerSeq2Seq
from attnlab.config.models.visual_qa import VisualAnswerer

Model = Annotated[
    RecurrentSeq2Seq
    | TransformerSeq2Seq
    | RecurrentClassifier
    | TransformerClassifier
    | MlpClassifier
    | ShowAttendTell
    | TransformerCaptioner
    | VisualAnswerer
    | MemoryNetwork
    | TransformerStoryReader
    | BidafReader
    | TransformerReader,
    Field(discriminator="kind"),
]

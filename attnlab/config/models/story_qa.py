"""Configs of models for story question answering: a memory network, and a Transformer over words or sentences."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention, Dot, UnalignedAttention
from attnlab.config.base import Config, Probability
from attnlab.config.models.encoder_model import distinct_token_types
from attnlab.config.models.transformer import TransformerEncoder


class MemoryNetwork(Config):
    """End-to-end memory network (Sukhbaatar et al. 2015): the question attends to the sentences in several hops."""

    kind: Literal["memory_network"] = "memory_network"
    width: PositiveInt = 64
    """Width of the embeddings of questions and sentences."""
    hops: Annotated[int, Field(ge=1, le=12)] = 3
    """Number of hops, each with attention to all sentences."""
    tying: Literal["adjacent", "layer_wise"] = "adjacent"
    """Weight tying (section 2.2). adjacent: the output embedding of a hop is the input embedding of the next;
    layer_wise: all hops share their embeddings, with a learned matrix between hops."""
    encoding: Literal["bag", "position"] = "position"
    """Encoding of a sentence. bag: the sum of its word embeddings; position: that sum, weighted by the positions of the
    words (section 4.1)."""
    temporal_encoding: bool = True
    """Add an embedding of the age of each sentence (section 4.1, temporal encoding)."""
    time_noise: Probability = 0.1
    """Probability of a gap after each sentence in training, which increases the age of all earlier sentences (section
    4.1, random noise)."""
    attention: UnalignedAttention = Attention(score=Dot())
    """Attention of the question's state to the sentences."""
    dropout: Probability = 0.0
    """Dropout rate of the question's state before every hop."""

    def tiny(self) -> Self:
        """Shrink the width."""
        return super().tiny().with_limits(width=16)


class TransformerStoryReader(Config):
    """A Transformer encoder over question and story in one sequence; the state of the first position predicts the
    answer."""

    kind: Literal["transformer_story_reader"] = "transformer_story_reader"
    unit: Literal["word", "sentence"] = "word"
    """Unit of a position: a word, or a sentence, encoded as in a memory network (Dehghani et al. 2019, section 3.1)."""
    encoder: TransformerEncoder = TransformerEncoder(layers=3, width=128, feed_forward=256, token_types=2)
    """The Transformer encoder."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return distinct_token_types(self)

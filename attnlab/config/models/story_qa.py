"""Models for story question answering: the memory network, and a Transformer over words or sentences."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention, Dot
from attnlab.config.base import Config, Probability
from attnlab.config.models.encoder_model import distinct_token_types
from attnlab.config.models.transformer import TransformerEncoder


class MemoryNetwork(Config):
    """End-to-end memory network (Sukhbaatar et al. 2015): a question attends to sentences, hop by hop."""

    kind: Literal["memory_network"] = "memory_network"
    width: PositiveInt = 64
    """Of questions and memories."""
    hops: Annotated[int, Field(ge=1, le=12)] = 3
    """Number of times that the memory is read."""
    tying: Literal["adjacent", "layer_wise"] = "adjacent"
    """adjacent: what a hop reads is what the next one compares with; layer_wise: all hops share their embeddings,
    and a matrix stands between them (the paper's section 2.2)."""
    encoding: Literal["bag", "position"] = "position"
    """A sentence is the sum of its words, or that sum weighted by where in the sentence they stand (eq. 4)."""
    temporal_encoding: bool = True
    """Add an embedding of how long ago each sentence was (section 4.1, temporal encoding)."""
    time_noise: Probability = 0.1
    """In training, each sentence is followed by a gap with this probability, which shifts all that lies before it
    further into the past (section 4.1, random noise)."""
    attention: Attention = Attention(score=Dot())
    """The attention of the question's state over the sentences."""
    dropout: Probability = 0.0
    """Of the question's state before every hop."""

    @model_validator(mode="after")
    def _between_sequences(self) -> Self:
        self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        """Keep the hops."""
        return self.replace(width=min(self.width, 16), attention=self.attention.tiny())


class TransformerStoryReader(Config):
    """Question and story in one sequence through a Transformer; the first position's state says the answer."""

    kind: Literal["transformer_story_reader"] = "transformer_story_reader"
    unit: Literal["word", "sentence"] = "word"
    """What a position holds: a word, or a whole sentence, made of its words as in a memory network (Dehghani et al.
    2019, section 3.1)."""
    encoder: TransformerEncoder = TransformerEncoder(layers=3, width=128, feed_forward=256, token_types=2)
    """The Transformer encoder that reads the input."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return distinct_token_types(self)

    def tiny(self) -> Self:
        return self.replace(encoder=self.encoder.tiny())

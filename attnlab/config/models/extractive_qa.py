"""Models for extractive question answering: bidirectional attention flow, and a Transformer that points at the span."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention, Trilinear
from attnlab.config.base import Config, Probability
from attnlab.config.models.encoder_model import EncoderModel, distinct_token_types
from attnlab.config.models.transformer import TransformerEncoder


class Characters(Config):
    """A convolution over a word's letters, max-pooled (Kim 2014)."""

    embedding: PositiveInt = 16
    """Width of the character embeddings."""
    filters: PositiveInt = 64
    """Number of filters."""
    kernel_size: PositiveInt = 5
    """Letters that a filter sees."""
    max_characters: PositiveInt = 16
    """Letters of a word that are read."""

    def tiny(self) -> Self:
        return self.with_limits(embedding=4, filters=8)


class BidafReader(Config):
    """Bidirectional attention flow (Seo et al. 2017): every word of the passage attends to the question, and the
    question to the passage."""

    kind: Literal["bidaf_reader"] = "bidaf_reader"
    embedding: PositiveInt = 100
    """Width of the token embeddings."""
    characters: Characters | None = None
    """Character embeddings of words beside the word embeddings; null uses none."""
    exact_match: bool = False
    """Feature of each word of the passage: whether it occurs in the question (Chen et al. 2017)."""
    highway: Annotated[int, Field(ge=0, le=4)] = 2
    """Highway layers on the embeddings."""
    cell: Literal["gru", "lstm"] = "lstm"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 64
    """Units a direction."""
    attention: Attention | None = Attention(score=Trilinear())
    """null is the control without attention: every word of the passage sees the question as one vector."""
    flow: Literal["both", "context_to_query"] = "both"
    """context_to_query leaves out the attention of the question to the passage."""
    modeling_layers: Annotated[int, Field(ge=1, le=4)] = 2
    """Recurrent layers after the attention."""
    dropout: Probability = 0.2
    """Dropout rate of embeddings and states."""

    @model_validator(mode="after")
    def _between_sequences(self) -> Self:
        if self.attention is not None:
            self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        """Keep the layers."""
        return self.replace(
            embedding=min(self.embedding, 16),
            hidden=min(self.hidden, 8),
            characters=None if self.characters is None else self.characters.tiny(),
            attention=None if self.attention is None else self.attention.tiny(),
        )


class TransformerReader(EncoderModel):
    """Question and passage in one sequence through a Transformer; two linear maps point at the span (BERT)."""

    kind: Literal["transformer_reader"] = "transformer_reader"
    encoder: TransformerEncoder = TransformerEncoder(layers=4, token_types=2)
    """The Transformer encoder that reads the input."""
    exact_match: bool = False
    """Feature of each token of the passage: whether it occurs in the question (Chen et al. 2017)."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return distinct_token_types(self)

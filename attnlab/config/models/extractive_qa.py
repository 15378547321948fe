"""Configs of models for extractive question answering: bidirectional attention flow, and a Transformer encoder."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention, Trilinear, UnalignedAttention
from attnlab.config.base import Config, Probability
from attnlab.config.models.encoder_model import EncoderModel, distinct_token_types
from attnlab.config.models.transformer import TransformerEncoder


class Characters(Config):
    """Character embeddings of a word: a convolution over its characters, max-pooled (Kim 2014)."""

    embedding: PositiveInt = 16
    """Width of the character embeddings."""
    filters: PositiveInt = 64
    """Number of filters."""
    kernel_size: PositiveInt = 5
    """Width of the filters, in characters."""
    max_characters: PositiveInt = 16
    """Largest number of characters of a word; the rest is cut off."""

    def tiny(self) -> Self:
        return self.with_limits(embedding=4, filters=8)


class BidafReader(Config):
    """Bidirectional attention flow (Seo et al. 2017): attention of each word of the passage to the question, and of the
    question to the passage."""

    kind: Literal["bidaf_reader"] = "bidaf_reader"
    embedding: PositiveInt = 100
    """Width of the token embeddings."""
    characters: Characters | None = None
    """Character embeddings, added to the word embeddings as further features; null uses word embeddings only."""
    exact_match: bool = False
    """Add a feature to each word of the passage: whether it occurs in the question (Chen et al. 2017)."""
    highway: Annotated[int, Field(ge=0, le=4)] = 2
    """Number of highway layers after the embeddings."""
    cell: Literal["gru", "lstm"] = "lstm"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 64
    """Number of units per direction."""
    attention: UnalignedAttention | None = Attention(score=Trilinear())
    """Attention between passage and question. null is the control without attention: every word of the passage gets the
    question as one vector."""
    flow: Literal["both", "context_to_query"] = "both"
    """both: attention in both directions; context_to_query: without the attention of the question to the passage."""
    modeling_layers: Annotated[int, Field(ge=1, le=4)] = 2
    """Number of recurrent layers after the attention."""
    dropout: Probability = 0.2
    """Dropout rate of embeddings and states."""

    def tiny(self) -> Self:
        """Shrink the widths."""
        return super().tiny().with_limits(embedding=16, hidden=8)


class TransformerReader(EncoderModel):
    """A Transformer encoder over question and passage in one sequence, with linear layers for the start and the end of
    the span, as in BERT."""

    kind: Literal["transformer_reader"] = "transformer_reader"
    encoder: TransformerEncoder = TransformerEncoder(layers=4, token_types=2)
    """The Transformer encoder."""
    exact_match: bool = False
    """Add a feature to each token of the passage: whether it occurs in the question (Chen et al. 2017)."""

    @model_validator(mode="after")
    def _two_types_or_none(self) -> Self:
        return distinct_token_types(self)

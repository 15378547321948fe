"""The recurrent sequence-to-sequence model."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from attnlab.config.attention import ONE_WIDTH, Attention
from attnlab.config.base import Config, Probability


class Encoder(Config):
    """Bidirectional recurrent encoder; an annotation is 2 × hidden wide."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 256
    """Units a direction."""
    layers: PositiveInt = 1
    """Number of recurrent layers."""


class Decoder(Config):
    """Recurrent decoder of one layer that attends to the encoder's annotations at every step."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 256
    """Units of the recurrent state."""
    variant: Literal["bahdanau", "luong"] = "bahdanau"
    """bahdanau: attend with the previous state (Bahdanau et al. 2015);
    luong: attend with the current state and feed the attentional vector to the next step (Luong et al. 2015)."""


class RecurrentSeq2Seq(Config):
    """Recurrent sequence-to-sequence model, with attention or (`attention: null`) without."""

    kind: Literal["recurrent_seq2seq"] = "recurrent_seq2seq"
    embedding: PositiveInt = 256
    """Width of the token embeddings."""
    encoder: Encoder = Encoder()
    """The recurrent encoder."""
    decoder: Decoder = Decoder()
    """The recurrent decoder."""
    attention: Attention | None
    """null is the control without attention: at every step the decoder sees the encoder's final states."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""
    tie_embeddings: Literal["none", "output", "all"] = "output"
    """output: target embedding = output projection; all: the source embedding too (needs a joint vocabulary)."""

    @property
    def max_positions(self) -> None:
        """How many positions there are: any number."""

    @model_validator(mode="after")
    def _attends_step_by_step(self) -> Self:
        if self.attention is not None:
            self.attention.of_single_queries("attention")
        return self

    @model_validator(mode="after")
    def _dot_products_need_one_width(self) -> Self:
        if self.attention is not None and self.attention.score.kind in ONE_WIDTH:
            if self.decoder.hidden != 2 * self.encoder.hidden:
                raise ValueError(
                    f"attention.score.kind {self.attention.score.kind} needs decoder.hidden = 2 × encoder.hidden "
                    f"(an annotation's width): {self.decoder.hidden} is not {2 * self.encoder.hidden}"
                )
        return self

    def tiny(self) -> Self:
        """Keep the kinds, and the widths that a dot product needs."""
        return self.replace(
            embedding=min(self.embedding, 16),
            encoder=self.encoder.replace(hidden=16),
            decoder=self.decoder.replace(hidden=32),
            attention=None if self.attention is None else self.attention.tiny(),
        )

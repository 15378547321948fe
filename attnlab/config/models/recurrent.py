"""Config of the recurrent sequence-to-sequence model."""

from typing import Literal, Self

from pydantic import PositiveInt, model_validator

from attnlab.config.attention import CrossAttention
from attnlab.config.base import Config, Probability


class Encoder(Config):
    """Bidirectional recurrent encoder; its states have width 2 × hidden."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 256
    """Number of units per direction."""
    layers: PositiveInt = 1
    """Number of recurrent layers."""


class Decoder(Config):
    """Recurrent decoder with one layer, which attends to the states of the encoder at every step."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    hidden: PositiveInt = 256
    """Number of units."""
    variant: Literal["bahdanau", "luong"] = "bahdanau"
    """bahdanau: the previous state is the query (Bahdanau et al. 2015). luong: the current state is the query, and the
    attentional vector is an input of the next step (Luong et al. 2015)."""


class RecurrentSeq2Seq(Config):
    """Recurrent sequence-to-sequence model, with or without attention."""

    kind: Literal["recurrent_seq2seq"] = "recurrent_seq2seq"
    embedding: PositiveInt = 256
    """Width of the token embeddings."""
    encoder: Encoder = Encoder()
    """The recurrent encoder."""
    decoder: Decoder = Decoder()
    """The recurrent decoder."""
    attention: CrossAttention | None
    """Attention of the decoder to the states of the encoder. null is the control without attention: at every step the
    decoder gets the final states of the encoder."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""
    tie_embeddings: Literal["none", "output", "all"] = "output"
    """Embeddings that share their weights. none: no sharing; output: target embedding and output projection; all:
    source embedding too, which needs a joint vocabulary."""

    @property
    def max_positions(self) -> None:
        """Return the largest number of positions: None, as there is no limit."""

    @model_validator(mode="after")
    def _score_needs_equal_widths(self) -> Self:
        if self.attention is not None and self.attention.score.equal_widths:
            if self.decoder.hidden != 2 * self.encoder.hidden:
                raise ValueError(
                    f"attention.score.kind {self.attention.score.kind} needs decoder.hidden = 2 × encoder.hidden "
                    f"(the width of its states): {self.decoder.hidden} is not {2 * self.encoder.hidden}"
                )
        return self

    def tiny(self) -> Self:
        """Shrink the widths; keep those equal that a dot product needs."""
        return self.replace(
            embedding=min(self.embedding, 16),
            encoder=self.encoder.replace(hidden=16),
            decoder=self.decoder.replace(hidden=32),
            attention=None if self.attention is None else self.attention.tiny(),
        )

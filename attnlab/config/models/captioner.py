"""Configs of captioning models: Show, Attend and Tell, and a Transformer decoder."""

from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.attention import CrossAttention
from attnlab.config.base import Config, Probability
from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn
from attnlab.config.models.transformer import TransformerDecoder


class ShowAttendTell(Config):
    """An LSTM decoder that attends to the image before every word (Xu et al. 2015)."""

    kind: Literal["show_attend_tell"] = "show_attend_tell"
    image: ImageEncoder = SmallCnn()
    """Network that computes the features of the image."""
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    hidden: PositiveInt = 256
    """Number of units of the decoder."""
    attention: CrossAttention | None
    """Attention of the decoder to the cells of the image. null is the control without attention: the decoder gets the
    mean of all cells."""
    attention_type: Literal["soft", "hard"] = "soft"
    """soft: the weighted mean of the cells. hard: a single cell, sampled from the weights in training (with the
    straight-through gradient) and the one with the largest weight in evaluation."""
    gate: bool = True
    """Multiply the context vector by a gate β between 0 and 1, computed from the state (Xu et al. 2015, section
    4.2.1)."""
    doubly_stochastic: NonNegativeFloat = 0.0
    """λ of the loss term λ Σ_cells (1 − Σ_words weight)², which encourages attention to every cell (Xu et al. 2015,
    eq. 14); 0 disables it."""
    attention_supervision: NonNegativeFloat = 0.0
    """λ of the loss term −λ Σ_words log(weight within the word's gold region) (Liu et al. 2017); 0 disables it. Needs
    data with gold regions. Without it the decoder may attend to an object once and take later words from its state."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""

    @property
    def max_positions(self) -> None:
        """Return the largest number of positions: None, as there is no limit."""

    @model_validator(mode="after")
    def _fits_the_decoder(self) -> Self:
        if self.attention is not None:
            if self.attention.score.equal_widths and self.hidden != self.image.width:
                raise ValueError(
                    f"attention.score.kind {self.attention.score.kind} needs hidden equal to the width of the image's "
                    f"cells: {self.hidden} is not {self.image.width}"
                )
        elif self.attention_type == "hard" or self.attention_supervision or self.doubly_stochastic:
            raise ValueError(
                "attention_type hard, attention_supervision and doubly_stochastic need attention, which is null"
            )
        return self

    def tiny(self) -> Self:
        """Shrink the widths; keep those equal that a dot product needs."""
        image = self.image.tiny()
        return self.replace(
            image=image,
            embedding=min(self.embedding, 16),
            hidden=image.width if self.hidden == self.image.width else min(self.hidden, 32),
            attention=None if self.attention is None else self.attention.tiny(),
        )


class TransformerCaptioner(Config):
    """A Transformer decoder that attends to the cells of the image in every layer."""

    kind: Literal["transformer_captioner"] = "transformer_captioner"
    image: ImageEncoder = SmallCnn()
    """Network that computes the features of the image."""
    decoder: TransformerDecoder
    """The decoder that generates the caption."""

    @property
    def max_positions(self) -> int | None:
        """Return the length of the longest caption, including its start token; None if there is no limit."""
        return self.decoder.max_positions

    @model_validator(mode="after")
    def _memory_is_the_image(self) -> Self:
        width = self.decoder.memory_width or self.decoder.width
        if width != self.image.width:
            raise ValueError(f"decoder.memory_width must be {self.image.width}, the width of image, not {width}")
        return self

    def tiny(self) -> Self:
        """Shrink the image encoder and the decoder."""
        image = self.image.tiny()
        decoder = self.decoder.replace(memory_width=image.width).tiny()
        return self.replace(image=image, decoder=decoder)

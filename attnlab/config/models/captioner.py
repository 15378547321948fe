"""Captioning models: Show, Attend and Tell, and a Transformer decoder."""

from typing import Literal, Self

from pydantic import NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.attention import ONE_WIDTH, Attention
from attnlab.config.base import Config, Probability
from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn
from attnlab.config.models.transformer import TransformerDecoder


class ShowAttendTell(Config):
    """An LSTM that attends to the image before every word (Xu et al. 2015)."""

    kind: Literal["show_attend_tell"] = "show_attend_tell"
    image: ImageEncoder = SmallCnn()
    """What computes the features of the image."""
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    hidden: PositiveInt = 256
    """Units of the decoder's recurrent state."""
    attention: Attention | None
    """null is the control: before every word the decoder sees the mean of all cells."""
    attention_type: Literal["soft", "hard"] = "soft"
    """soft: the mean of the cells under the weights. hard: one cell, drawn by the weights in training (straight-through
    gradient of the weights) and the heaviest in use."""
    gate: bool = True
    """β: scale what was seen by a number between 0 and 1 that the state decides (Xu et al. 2015, section 4.2.1)."""
    doubly_stochastic: NonNegativeFloat = 0.0
    """λ of λ Σ_cells (1 − Σ_words weight)², which encourages attention to every cell (Xu et al. 2015, eq. 14)."""
    attention_supervision: NonNegativeFloat = 0.0
    """λ of −λ Σ_words log(weight within the word's gold region), where regions are known (Liu et al. 2017). Without it
    a word may come from memory: one look at an object tells all of it."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""

    @property
    def max_positions(self) -> None:
        """How many positions there are: any number."""

    @model_validator(mode="after")
    def _fits_the_decoder(self) -> Self:
        if self.attention is not None:
            self.attention.of_single_queries("attention")
            if self.attention.score.kind in ONE_WIDTH and self.hidden != self.image.width:
                raise ValueError(
                    f"attention.score.kind {self.attention.score.kind} needs hidden as wide as the image's cells: "
                    f"{self.hidden} is not {self.image.width}"
                )
        elif self.attention_type == "hard" or self.attention_supervision or self.doubly_stochastic:
            raise ValueError(
                "attention_type hard, attention_supervision and doubly_stochastic need an attention; attention is null"
            )
        return self

    def tiny(self) -> Self:
        """Keep the kinds, and the widths that a dot product needs."""
        image = self.image.tiny()
        return self.replace(
            image=image,
            embedding=min(self.embedding, 16),
            hidden=image.width if self.hidden == self.image.width else min(self.hidden, 32),
            attention=None if self.attention is None else self.attention.tiny(),
        )


class TransformerCaptioner(Config):
    """A Transformer decoder that attends to the image's cells in every layer."""

    kind: Literal["transformer_captioner"] = "transformer_captioner"
    image: ImageEncoder = SmallCnn()
    """What computes the features of the image."""
    decoder: TransformerDecoder
    """The Transformer decoder that writes the caption."""

    @property
    def max_positions(self) -> int | None:
        """Longest caption that can be read, its start token counted; None: any."""
        return self.decoder.max_positions

    @model_validator(mode="after")
    def _memory_is_the_image(self) -> Self:
        width = self.decoder.memory_width or self.decoder.width
        if width != self.image.width:
            raise ValueError(f"decoder.memory_width must be image's width {self.image.width}, not {width}")
        return self

    def tiny(self) -> Self:
        """Keep the kinds."""
        image = self.image.tiny()
        decoder = self.decoder.replace(memory_width=image.width).tiny()
        return self.replace(image=image, decoder=decoder)

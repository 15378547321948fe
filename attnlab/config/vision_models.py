"""Models of images: what makes features of an image, what describes it, what answers questions about it."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.attention import ONE_WIDTH, Attention
from attnlab.config.base import Config, Probability
from attnlab.config.transformer import TransformerDecoder


class SmallCnn(Config):
    """A convolutional network trained from scratch: 3×3 convolutions of stride 2, each followed by others of 1×1."""

    kind: Literal["small_cnn"] = "small_cnn"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=6)] = (32, 64, 128)
    """Of each stage; a stage halves height and width: three make a grid of 8×8 of 64 pixels a side, and a cell sees
    15 of them."""
    context: bool = False
    """End with a 3×3 convolution, by which a cell knows its neighbours."""

    @property
    def width(self) -> int:
        """Features of a cell."""
        return self.channels[-1]

    def side(self, image_size: int) -> int:
        """Cells a side of the grid."""
        return -(-image_size // 2 ** len(self.channels))

    def refuses(self, image_size: int) -> str | None:
        """Say why images of this size do not fit; None where they do."""
        return None

    def tiny(self) -> Self:
        return self.changed(channels=tuple(min(width, 32) for width in self.channels))


class EfficientNetLite0(Config):
    """EfficientNet-Lite0 trained on ImageNet, frozen (extra `vision`); its features are computed once and kept."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    layer: Literal["blocks", "head"] = "head"
    """blocks: 320 features of the last block; head: 1,280, after one more convolution and its ReLU6."""
    width: PositiveInt = 512
    """Features of a cell after a learned projection."""

    def side(self, image_size: int) -> int:
        """Cells a side of the grid: one for 32 pixels."""
        return -(-image_size // 32)

    @property
    def given(self) -> int:
        """Features of a cell before the projection."""
        return {"blocks": 320, "head": 1280}[self.layer]

    def refuses(self, image_size: int) -> str | None:
        """Say why images of this size do not fit; None where they do."""
        if image_size % 32:
            return f"task.image_size {image_size}: efficientnet_lite0 needs a multiple of 32 (it was trained at 224)"
        return None

    def tiny(self) -> Self:
        return self.at_most(width=32)


ImageEncoder = Annotated[SmallCnn | EfficientNetLite0, Field(discriminator="kind")]


class ShowAttendTell(Config):
    """An LSTM that looks at the image before every word (Xu et al. 2015)."""

    kind: Literal["show_attend_tell"] = "show_attend_tell"
    image: ImageEncoder = SmallCnn()
    """What computes the features of the image."""
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    hidden: PositiveInt = 256
    """Units of the decoder's recurrent state."""
    attention: Attention | None
    """null is the control: before every word the decoder sees the mean of all cells."""
    look: Literal["soft", "hard"] = "soft"
    """soft: the mean of the cells under the weights. hard: one cell, drawn by the weights in training (straight-through
    gradient of the weights) and the heaviest in use."""
    gate: bool = True
    """β: scale what was seen by a number between 0 and 1 that the state decides (Xu et al. 2015, section 4.2.1)."""
    doubly_stochastic: NonNegativeFloat = 0.0
    """λ of λ Σ_cells (1 − Σ_words weight)², which asks for every cell to be looked at (Xu et al. 2015, eq. 14)."""
    guided: NonNegativeFloat = 0.0
    """λ of −λ Σ_words log(weight within the word's gold region), where regions are known (Liu et al. 2017). Without it
    a word may come from memory: one look at an object tells all of it."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""

    @model_validator(mode="after")
    def _fits_the_decoder(self) -> Self:
        if self.attention is not None:
            self.attention.of_single_queries("attention")
            if self.attention.score.kind in ONE_WIDTH and self.hidden != self.image.width:
                raise ValueError(
                    f"attention.score.kind {self.attention.score.kind} needs hidden as wide as the image's cells: "
                    f"{self.hidden} is not {self.image.width}"
                )
        elif self.look == "hard" or self.guided or self.doubly_stochastic:
            raise ValueError("look hard, guided and doubly_stochastic need an attention; attention is null")
        return self

    def tiny(self) -> Self:
        """Keep the kinds, and the widths that a dot product needs."""
        image = self.image.tiny()
        return self.changed(
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
    def longest(self) -> int | None:
        """Longest caption that can be read, its start token counted; None: any."""
        return self.decoder.longest

    @model_validator(mode="after")
    def _memory_is_the_image(self) -> Self:
        width = self.decoder.memory_width or self.decoder.width
        if width != self.image.width:
            raise ValueError(f"decoder.memory_width must be image's width {self.image.width}, not {width}")
        return self

    def tiny(self) -> Self:
        """Keep the kinds."""
        image = self.image.tiny()
        decoder = self.decoder.changed(memory_width=image.width).tiny()
        return self.changed(image=image, decoder=decoder)


class QuestionEncoder(Config):
    """Bidirectional recurrent reader of the question; a state is 2 × hidden wide."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    embedding: PositiveInt = 64
    """Width of the token embeddings."""
    hidden: PositiveInt = 64
    """Units a direction."""

    def tiny(self) -> Self:
        return self.at_most(embedding=16, hidden=16)


class QuestionOnly(Config):
    """The control that sees no image."""

    kind: Literal["question_only"] = "question_only"


class ImageOnly(Config):
    """The control that sees no question."""

    kind: Literal["image_only"] = "image_only"


class Concat(Config):
    """[question; mean of the image's cells; their product]: no attention."""

    kind: Literal["concat"] = "concat"


class CoAttention(Config):
    """Alternating co-attention: the question looks at the image, then what was seen looks at the question
    (Lu et al. 2016, section 3.3)."""

    kind: Literal["co_attention"] = "co_attention"
    attention: Attention
    """Of either side by one query."""

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        self.attention.of_single_queries("attention")
        return self

    def tiny(self) -> Self:
        return self.changed(attention=self.attention.tiny())


class _Layers(Config):
    attention: Attention
    """The attention of the question's words over the image's cells."""
    heads: PositiveInt = 4
    """Number of attention heads."""
    layers: PositiveInt = 2
    """Number of layers."""

    @model_validator(mode="after")
    def _no_positions(self) -> Self:
        self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        return self.changed(attention=self.attention.tiny())


class CrossAttention(_Layers):
    """Every word of the question looks at the image, in layers of attention and feed-forward network."""

    kind: Literal["cross_attention"] = "cross_attention"


class GatedCrossAttention(_Layers):
    """The same; what a layer adds is multiplied by tanh of a learned number, 0 at first (Alayrac et al. 2022)."""

    kind: Literal["gated_cross_attention"] = "gated_cross_attention"


Fusion = Annotated[
    QuestionOnly | ImageOnly | Concat | CoAttention | CrossAttention | GatedCrossAttention,
    Field(discriminator="kind"),
]


class VisualAnswerer(Config):
    """Image and question in, one of the known answers out; how they meet is the fusion's affair."""

    kind: Literal["visual_answerer"] = "visual_answerer"
    image: ImageEncoder = SmallCnn()
    """What computes the features of the image."""
    question: QuestionEncoder = QuestionEncoder()
    """What reads the question."""
    fusion: Fusion
    """How image and question are combined."""
    hidden: PositiveInt = 128
    """Width in which image and question meet, and of the classifier's hidden layer."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        heads = getattr(self.fusion, "heads", 1)
        if self.hidden % heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of fusion.heads {heads}")
        return self

    def tiny(self) -> Self:
        """Keep the kinds, and heads of four features."""
        parts = {name: getattr(self, name).tiny() for name in ("image", "question", "fusion")}
        return self.changed(**parts, hidden=min(self.hidden, max(16, 4 * getattr(self.fusion, "heads", 1))))

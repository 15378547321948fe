"""Models for visual question answering: an encoder of the question, one of the image, and how they are fused."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config.attention import Attention
from attnlab.config.base import Config, Probability
from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn


class QuestionEncoder(Config):
    """Bidirectional recurrent reader of the question; a state is 2 × hidden wide."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    embedding: PositiveInt = 64
    """Width of the token embeddings."""
    hidden: PositiveInt = 64
    """Units a direction."""

    def tiny(self) -> Self:
        return self.with_limits(embedding=16, hidden=16)


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
    """Alternating co-attention: the question attends to the image, then the attended image to the question
    (Lu et al. 2016, section 3.3)."""

    kind: Literal["co_attention"] = "co_attention"
    attention: Attention
    """Of either side by one query."""

    @model_validator(mode="after")
    def _one_query(self) -> Self:
        self.attention.of_single_queries("attention")
        return self

    def tiny(self) -> Self:
        return self.replace(attention=self.attention.tiny())


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
        return self.replace(attention=self.attention.tiny())


class CrossAttention(_Layers):
    """Every word of the question attends to the image, in layers of attention and feed-forward network."""

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
        return self.replace(**parts, hidden=min(self.hidden, max(16, 4 * getattr(self.fusion, "heads", 1))))

"""Configs of models for visual question answering: encoders of question and image, and the fusion of both."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from attnlab.config import attention as attentions
from attnlab.config.base import Config, Probability
from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn


class QuestionEncoder(Config):
    """Bidirectional recurrent encoder of the question; its states have width 2 × hidden."""

    cell: Literal["gru", "lstm"] = "gru"
    """Kind of recurrent cell."""
    embedding: PositiveInt = 64
    """Width of the token embeddings."""
    hidden: PositiveInt = 64
    """Number of units per direction."""

    def tiny(self) -> Self:
        return self.with_limits(embedding=16, hidden=16)


class QuestionOnly(Config):
    """The control without the image."""

    kind: Literal["question_only"] = "question_only"


class ImageOnly(Config):
    """The control without the question."""

    kind: Literal["image_only"] = "image_only"


class Concat(Config):
    """Concatenation of the question, the mean of the image's cells, and their product; no attention."""

    kind: Literal["concat"] = "concat"


class CoAttention(Config):
    """Alternating co-attention: the question attends to the image, then the attended image to the question
    (Lu et al. 2016, section 3.3)."""

    kind: Literal["co_attention"] = "co_attention"
    attention: attentions.UnalignedAttention
    """Attention of a single query to the words of the question or to the cells of the image."""


class _CrossAttentionLayers(Config):
    """Settings of fusions by layers of cross-attention."""

    attention: attentions.UnalignedAttention
    """Attention of the words of the question to the cells of the image."""
    heads: PositiveInt = 4
    """Number of attention heads."""
    layers: PositiveInt = 2
    """Number of layers."""


class CrossAttention(_CrossAttentionLayers):
    """Layers of cross-attention from the words of the question to the image, and of a feed-forward network."""

    kind: Literal["cross_attention"] = "cross_attention"


class GatedCrossAttention(_CrossAttentionLayers):
    """Like `cross_attention`, but the output of a layer is multiplied by tanh of a learned scalar, 0 at first (Alayrac
    et al. 2022)."""

    kind: Literal["gated_cross_attention"] = "gated_cross_attention"


Fusion = Annotated[
    QuestionOnly | ImageOnly | Concat | CoAttention | CrossAttention | GatedCrossAttention,
    Field(discriminator="kind"),
]


class VisualAnswerer(Config):
    """A classifier of image and question over the answers of the training set."""

    kind: Literal["visual_answerer"] = "visual_answerer"
    image: ImageEncoder = SmallCnn()
    """Network that computes the features of the image."""
    question: QuestionEncoder = QuestionEncoder()
    """Encoder of the question."""
    fusion: Fusion
    """Combination of image and question."""
    hidden: PositiveInt = 128
    """Width of the fused features of image and question, and of the classifier's hidden layer."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings and states."""

    @model_validator(mode="after")
    def _heads_divide(self) -> Self:
        heads = getattr(self.fusion, "heads", 1)
        if self.hidden % heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of fusion.heads {heads}")
        return self

    def tiny(self) -> Self:
        """Shrink the widths; keep the number of heads, with at least four features each."""
        return super().tiny().with_limits(hidden=max(16, 4 * getattr(self.fusion, "heads", 1)))

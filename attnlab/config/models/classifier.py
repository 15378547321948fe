"""Text classifiers: an encoder, and a pooling of its states into one vector."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.attention import Attention
from attnlab.config.base import Config, Probability
from attnlab.config.models.encoder_model import EncoderModel
from attnlab.config.models.recurrent import Encoder
from attnlab.config.normalizers import Normalizer, Softmax


class Mean(Config):
    """The mean of all states: uniform attention, the control."""

    kind: Literal["mean"] = "mean"


class Max(Config):
    """The largest value of each feature (Conneau et al. 2017)."""

    kind: Literal["max"] = "max"


class Last(Config):
    """The last state of each direction; of a Transformer, the state of the last token."""

    kind: Literal["last"] = "last"


class First(Config):
    """The state of the token [CLS] that stands before the text (Devlin et al. 2019); Transformer only."""

    kind: Literal["first"] = "first"


class Attentive(Config):
    """Attention by learned queries, one a hop; the hops' results are joined (Yang et al. 2016 with one hop)."""

    kind: Literal["attention"] = "attention"
    attention: Attention
    """The attention of the learned queries over the states."""
    hops: PositiveInt = 1
    """Number of learned queries."""
    penalty: NonNegativeFloat = 0.0
    """Weight in the loss of ‖A Aᵀ − I‖², which keeps hops apart (Lin et al. 2017, eq. 8)."""

    @model_validator(mode="after")
    def _no_positions(self) -> Self:
        self.attention.over_another_sequence("attention")
        return self

    def tiny(self) -> Self:
        return self.replace(attention=self.attention.tiny())


class Structured(Config):
    """Structured self-attention: A = normalizer(W₂ tanh(W₁ Hᵀ)), one row a hop (Lin et al. 2017, eq. 6)."""

    kind: Literal["structured"] = "structured"
    hops: PositiveInt = 4
    """r, the rows of A."""
    hidden: PositiveInt = 128
    """d_a, the width of W₁."""
    penalty: NonNegativeFloat = 0.0
    """Weight in the loss of ‖A Aᵀ − I‖² (eq. 8)."""
    normalizer: Normalizer = Softmax()
    """How the logits of each hop become weights."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16).replace(normalizer=self.normalizer.tiny())


Pooling = Annotated[Mean | Max | Last | First | Attentive | Structured, Field(discriminator="kind")]


class RecurrentClassifier(Config):
    """Embed, read in both directions, pool, and classify."""

    kind: Literal["recurrent_classifier"] = "recurrent_classifier"
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    encoder: Encoder | None = Encoder(hidden=128)
    """null: the words alone are pooled, without their order."""
    pooling: Pooling
    """How the states of all tokens become one vector."""
    hidden: PositiveInt | None = None
    """Width of a layer between the pooled states and the classes; null: none."""
    word_dropout: Probability = 0.0
    """Probability that a token is read as an unknown one in training."""
    dropout: Probability = 0.0
    """Of embeddings, between layers, and before the classes."""

    @property
    def max_text_tokens(self) -> None:
        """How many tokens of a text can be read: any number."""

    @model_validator(mode="after")
    def _pooling_fits(self) -> Self:
        if self.pooling.kind == "first" or (self.encoder is None and self.pooling.kind == "last"):
            what = "a recurrent encoder" if self.encoder else "words alone"
            raise ValueError(f"pooling.kind {self.pooling.kind} has no meaning for {what}")
        return self

    def tiny(self) -> Self:
        return self.replace(
            embedding=min(self.embedding, 16),
            encoder=None if self.encoder is None else self.encoder.with_limits(hidden=16),
            pooling=self.pooling.tiny(),
            hidden=None if self.hidden is None else min(self.hidden, 16),
        )


class TransformerClassifier(EncoderModel):
    """A Transformer's encoder over the text (after [CLS] with the pooling `first`), pooled and classified."""

    kind: Literal["transformer_classifier"] = "transformer_classifier"
    pooling: Pooling = First()
    """How the states of all tokens become one vector."""
    hidden: PositiveInt | None = None
    """Width of a layer between the pooled states and the classes; null: none."""
    word_dropout: Probability = 0.0
    """Probability that a token is read as an unknown one in training."""
    dropout: Probability = 0.0
    """Before the classes; the encoder has its own."""

    @property
    def special_tokens_before(self) -> int:
        """Number of special tokens before the text."""
        return int(self.pooling.kind == "first" or self.pretrained is not None)

    @property
    def max_text_tokens(self) -> int | None:
        """How many tokens of a text there are positions for beside the marks; None: any number."""
        longest = self.encoder.max_positions
        return None if longest is None else longest - self.special_tokens_before - self.special_tokens_after

    def tiny(self) -> Self:
        """Keep pretrained weights whole."""
        hidden = None if self.hidden is None else min(self.hidden, 16)
        return super().tiny().replace(pooling=self.pooling.tiny(), hidden=hidden)

"""Configs of text classifiers: an encoder, and the pooling of its states into one vector."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.attention import UnalignedAttention
from attnlab.config.base import Config, Probability
from attnlab.config.base_run import tiny_directory
from attnlab.config.models.encoder_model import EncoderModel
from attnlab.config.models.recurrent import Encoder
from attnlab.config.normalizers import Normalizer, Softmax


class Mean(Config):
    """Mean of all states: the control, uniform attention."""

    kind: Literal["mean"] = "mean"


class Max(Config):
    """Maximum of each feature over all states (Conneau et al. 2017)."""

    kind: Literal["max"] = "max"


class Last(Config):
    """Final state of each direction; for a Transformer, the state of the last token."""

    kind: Literal["last"] = "last"


class First(Config):
    """State of the token [CLS] before the text (Devlin et al. 2019); Transformers only."""

    kind: Literal["first"] = "first"


class Attentive(Config):
    """Attention with a learned query per hop; the results of all hops are concatenated (Yang et al. 2016 has one
    hop)."""

    kind: Literal["attention"] = "attention"
    attention: UnalignedAttention
    """Attention of the learned queries to the states."""
    hops: PositiveInt = 1
    """Number of hops, each with a learned query."""
    penalty: NonNegativeFloat = 0.0
    """Weight of the loss term ‖A Aᵀ − I‖², where A are the weights of all hops; it encourages hops to attend to
    different tokens (Lin et al. 2017, eq. 8). 0 disables it."""


class Structured(Config):
    """Structured self-attention: A = normalizer(W₂ tanh(W₁ Hᵀ)), one row of A per hop (Lin et al. 2017, eq. 6)."""

    kind: Literal["structured"] = "structured"
    hops: PositiveInt = 4
    """r: number of hops, the rows of A."""
    hidden: PositiveInt = 128
    """d_a: width of the hidden layer."""
    penalty: NonNegativeFloat = 0.0
    """Weight of the loss term ‖A Aᵀ − I‖², which encourages hops to attend to different tokens (eq. 8). 0 disables
    it."""
    normalizer: Normalizer = Softmax()
    """Function that turns the logits of each hop into weights."""

    def tiny(self) -> Self:
        return super().tiny().with_limits(hidden=16)


class Frozen(Config):
    """Attention weights of another run's model for the same text, which are not trained: the guide of Wiegreffe &
    Pinter 2019, section 3.4. Of several hops the mean is used."""

    kind: Literal["frozen"] = "frozen"
    run: str
    """Run directory of that model, relative to the current directory. Training copies its parameters into the new run,
    whose tokenizer it determines. With --tiny the directory of the tiny run: runs/NAME-tiny-s1 for runs/NAME-s1."""

    def tiny(self) -> Self:
        """Name the tiny run of the same experiment."""
        return self.replace(run=tiny_directory(self.run))


Pooling = Annotated[Mean | Max | Last | First | Attentive | Structured, Field(discriminator="kind")]
GuidedPooling = Annotated[Mean | Attentive | Structured | Frozen, Field(discriminator="kind")]


class RecurrentClassifier(Config):
    """Token embeddings, a bidirectional recurrent encoder, pooling, and a linear layer over the classes."""

    kind: Literal["recurrent_classifier"] = "recurrent_classifier"
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    encoder: Encoder | None = Encoder(hidden=128)
    """The recurrent encoder; null pools the token embeddings themselves, without their order."""
    pooling: Pooling
    """Function that turns the states of all tokens into one vector."""
    hidden: PositiveInt | None = None
    """Width of a hidden layer after the pooling; null has no hidden layer."""
    word_dropout: Probability = 0.0
    """Probability of replacing a token by the unknown token in training."""
    dropout: Probability = 0.0
    """Dropout rate of embeddings, between layers, and before the last layer."""

    @property
    def max_text_tokens(self) -> None:
        """Return the largest number of tokens in a text: None, as there is no limit."""

    @model_validator(mode="after")
    def _pooling_fits(self) -> Self:
        if self.pooling.kind == "first" or (self.encoder is None and self.pooling.kind == "last"):
            inputs = "a recurrent encoder" if self.encoder else "encoder null"
            raise ValueError(f"pooling.kind {self.pooling.kind} is not defined for {inputs}")
        return self

    def tiny(self) -> Self:
        return self.replace(
            embedding=min(self.embedding, 16),
            encoder=None if self.encoder is None else self.encoder.with_limits(hidden=16),
            pooling=self.pooling.tiny(),
            hidden=None if self.hidden is None else min(self.hidden, 16),
        )


class MlpClassifier(Config):
    """Token embeddings, a hidden layer for each token by itself, pooling, and a linear layer over the classes: without
    context, so that the pooling weights are all that it learns about it (Wiegreffe & Pinter 2019, section 3.4)."""

    kind: Literal["mlp_classifier"] = "mlp_classifier"
    embedding: PositiveInt = 128
    """Width of the token embeddings."""
    hidden: PositiveInt = 128
    """Width of the hidden layer, whose activation is tanh."""
    pooling: GuidedPooling
    """Function that turns the hidden states of all tokens into one vector. mean has uniform weights, attention learns
    its own, frozen has those of another run's model."""
    word_dropout: Probability = 0.0
    """Probability of replacing a token by the unknown token in training."""
    dropout: Probability = 0.0
    """Dropout rate of the embeddings and before the last layer."""

    @property
    def max_text_tokens(self) -> None:
        """Return the largest number of tokens in a text: None, as there is no limit."""

    def tiny(self) -> Self:
        return super().tiny().with_limits(embedding=16, hidden=16)


class TransformerClassifier(EncoderModel):
    """A Transformer encoder, pooling, and a linear layer over the classes; the pooling `first` adds [CLS] to the
    text."""

    kind: Literal["transformer_classifier"] = "transformer_classifier"
    pooling: Pooling = First()
    """Function that turns the states of all tokens into one vector."""
    hidden: PositiveInt | None = None
    """Width of a hidden layer after the pooling; null has no hidden layer."""
    word_dropout: Probability = 0.0
    """Probability of replacing a token by the unknown token in training."""
    dropout: Probability = 0.0
    """Dropout rate before the last layer; the encoder has its own rates."""

    @property
    def special_tokens_before(self) -> int:
        """Return the number of special tokens before the text."""
        return int(self.pooling.kind == "first" or self.pretrained is not None)

    @property
    def max_text_tokens(self) -> int | None:
        """Return the largest number of tokens in a text, without special tokens; None if there is no limit."""
        longest = self.encoder.max_positions
        return None if longest is None else longest - self.special_tokens_before - self.special_tokens_after

    def tiny(self) -> Self:
        """Shrink the layers; an encoder with pretrained weights keeps its size."""
        hidden = None if self.hidden is None else min(self.hidden, 16)
        return super().tiny().replace(pooling=self.pooling.tiny(), hidden=hidden)

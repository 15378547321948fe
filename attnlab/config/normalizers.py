"""What makes weights of logits, chosen by its `kind`; each names the function of `functional.normalizers` it is."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config
from attnlab.config.custom import CustomNormalizer


class Softmax(Config):
    """weights = exp(logits) / Σ exp(logits) over the keys that may be attended."""

    kind: Literal["softmax"] = "softmax"


class SoftmaxPlusOne(Config):
    """weights = exp(logits) / (1 + Σ exp(logits)): a query may attend to nothing much (Miller 2023)."""

    kind: Literal["softmax_plus_one"] = "softmax_plus_one"


class SoftmaxWithSink(Config):
    """weights = exp(logits) / (exp(sink) + Σ exp(logits)), sink learned, one a head (OpenAI 2025)."""

    kind: Literal["softmax_with_sink"] = "softmax_with_sink"
    sink: float = 0.0
    """Where the learned sink starts."""


class Temperature(Config):
    """weights = softmax(logits / t) (Hinton et al. 2015)."""

    kind: Literal["temperature"] = "temperature"
    t: PositiveFloat = 1.0
    """Temperature; higher ones make the weights more uniform."""
    learned: bool = False
    """Learn t, one a head, starting there (its logarithm is what is learned)."""


class Sparsemax(Config):
    """The point of the simplex nearest to the logits: many weights are 0 (Martins & Astudillo 2016)."""

    kind: Literal["sparsemax"] = "sparsemax"


class Entmax15(Config):
    """1.5-entmax, half-way between softmax and sparsemax (Peters et al. 2019)."""

    kind: Literal["entmax15"] = "entmax15"


class Entmax(Config):
    """α-entmax: the softmax at α = 1, sparsemax at α = 2 (Peters et al. 2019; Correia et al. 2019)."""

    kind: Literal["entmax"] = "entmax"
    alpha: float = Field(1.5, ge=1.0)
    """α; higher values give more weights of exactly 0."""
    learned: bool = False
    """Learn α = 1 + sigmoid(a), one a head, starting there; then it lies between 1 and 2."""

    @model_validator(mode="after")
    def _learned_lies_between(self) -> Self:
        if self.learned and not 1.0 < self.alpha < 2.0:
            raise ValueError(f"alpha {self.alpha}: a learned one starts between 1 and 2")
        return self


class Sigmoid(Config):
    """weights = 1 / (1 + exp(−logits − bias)): keys do not compete (Ramapuram et al. 2024)."""

    kind: Literal["sigmoid"] = "sigmoid"
    bias: float = 0.0
    """About −log of the usual number of keys keeps the sum of a row near one at the start."""
    learned: bool = False
    """Learn the bias, one a head, starting there."""


class ReluOverLength(Config):
    """weights = max(logits, 0) / (number of allowed keys) (Wortsman et al. 2023)."""

    kind: Literal["relu_over_length"] = "relu_over_length"


class Linear(Config):
    """weights = logits, of any sign (Schlag et al. 2021)."""

    kind: Literal["linear"] = "linear"


class TopK(Config):
    """The softmax over the k largest logits (Gupta et al. 2021)."""

    kind: Literal["top_k"] = "top_k"
    k: PositiveInt
    """Number of keys that a query attends to."""


class Hardmax(Config):
    """All weight on the largest logit; the derivative is the softmax's (straight-through)."""

    kind: Literal["hardmax"] = "hardmax"


class GumbelSoftmax(Config):
    """The softmax of noisy logits, a draw that can be differentiated (Jang et al. 2017). No noise but in training."""

    kind: Literal["gumbel_softmax"] = "gumbel_softmax"
    temperature: PositiveFloat = 1.0
    """Temperature of the noisy softmax."""
    hard: bool = False
    """All weight on the key drawn, with the derivative of the soft weights."""


class LocalP(Config):
    """The softmax over a window around a predicted position, times a Gaussian (Luong et al. 2015, eq. 9 and 10)."""

    kind: Literal["local_p"] = "local_p"
    width: PositiveFloat = 10.0
    """D: positions on either side of the center."""
    hidden: PositiveInt = 64
    """Width of the layer that predicts the center."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


Normalizer = Annotated[
    Softmax
    | SoftmaxPlusOne
    | SoftmaxWithSink
    | Temperature
    | Sparsemax
    | Entmax15
    | Entmax
    | Sigmoid
    | ReluOverLength
    | Linear
    | TopK
    | Hardmax
    | GumbelSoftmax
    | LocalP
    | CustomNormalizer,
    Field(discriminator="kind"),
]

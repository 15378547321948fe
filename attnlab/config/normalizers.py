"""Configs of normalizers, selected by `kind`, the name of the function in `functional.normalizers`."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.custom import CustomNormalizer


class Softmax(Config):
    """weights = exp(logits) / Σ exp(logits) over the keys that may be attended."""

    kind: Literal["softmax"] = "softmax"


class SoftmaxPlusOne(Config):
    """weights = exp(logits) / (1 + Σ exp(logits)): the weights of a query may sum to less than 1 (Miller 2023)."""

    kind: Literal["softmax_plus_one"] = "softmax_plus_one"


class SoftmaxWithSink(Config):
    """weights = exp(logits) / (exp(sink) + Σ exp(logits)), with one learned sink per head (OpenAI 2025)."""

    kind: Literal["softmax_with_sink"] = "softmax_with_sink"
    sink: float = 0.0
    """Initial value of the sink, a logit."""


class Temperature(Config):
    """weights = softmax(logits / t) (Hinton et al. 2015)."""

    kind: Literal["temperature"] = "temperature"
    t: PositiveFloat = 1.0
    """Temperature, the initial value if `learned`; a higher one makes the weights more uniform."""
    learned: bool = False
    """Learn the logarithm of the temperature, one value per head."""


class Sparsemax(Config):
    """Projection of the logits onto the probability simplex; many weights are 0 (Martins & Astudillo 2016)."""

    kind: Literal["sparsemax"] = "sparsemax"


class Entmax15(Config):
    """1.5-entmax, between softmax and sparsemax (Peters et al. 2019)."""

    kind: Literal["entmax15"] = "entmax15"


class Entmax(Config):
    """α-entmax: softmax at α = 1, sparsemax at α = 2 (Peters et al. 2019; Correia et al. 2019)."""

    kind: Literal["entmax"] = "entmax"
    alpha: float = Field(1.5, ge=1.0)
    """α, the initial value if `learned`; a higher one gives more weights of exactly 0."""
    learned: bool = False
    """Learn α = 1 + sigmoid(a), one value per head; `alpha` must then lie strictly between 1 and 2."""

    @model_validator(mode="after")
    def _learned_lies_between(self) -> Self:
        if self.learned and not 1.0 < self.alpha < 2.0:
            raise ValueError(f"alpha {self.alpha}: must be above 1 and below 2 with learned: true")
        return self


class Sigmoid(Config):
    """weights = 1 / (1 + exp(−logits − bias)), independent of other keys (Ramapuram et al. 2024)."""

    kind: Literal["sigmoid"] = "sigmoid"
    bias: float = 0.0
    """Bias of the logits, the initial value if `learned`. With −log(number of keys) the weights of a query sum to about
    1 at the start of training."""
    learned: bool = False
    """Learn the bias, one value per head."""


class ReluOverLength(Config):
    """weights = max(logits, 0) / (number of allowed keys) (Wortsman et al. 2023)."""

    kind: Literal["relu_over_length"] = "relu_over_length"


class Linear(Config):
    """weights = logits, which may be negative (Schlag et al. 2021)."""

    kind: Literal["linear"] = "linear"


class TopK(Config):
    """Softmax over the `k` largest logits; all other weights are 0 (Gupta et al. 2021)."""

    kind: Literal["top_k"] = "top_k"
    k: PositiveInt
    """Largest number of keys with a weight above 0."""


class Hardmax(Config):
    """Weight 1 on the largest logit; the gradient is that of the softmax (straight-through)."""

    kind: Literal["hardmax"] = "hardmax"


class GumbelSoftmax(Config):
    """Softmax of logits with Gumbel noise, a differentiable sample (Jang et al. 2017). Noise is added only in
    training."""

    kind: Literal["gumbel_softmax"] = "gumbel_softmax"
    temperature: PositiveFloat = 1.0
    """Temperature of the softmax."""
    hard: bool = False
    """Put weight 1 on the sampled key; the gradient is that of the soft weights (straight-through)."""


class LocalP(Config):
    """Softmax over a window around a predicted position, times a Gaussian (Luong et al. 2015, eq. 9 and 10)."""

    kind: Literal["local_p"] = "local_p"
    width: PositiveFloat = 10.0
    """D: number of positions on each side of the center."""
    hidden: PositiveInt = 64
    """Width of the hidden layer that predicts the center."""

    def tiny(self) -> Self:
        return self.with_limits(hidden=16)


class Permuted(Config):
    """The weights of another normalizer in a random order of the keys that a query may attend to (Jain & Wallace 2019,
    here also in training). Every training step draws new orders. Otherwise the order is fixed by seed, layer, head and
    positions, so that batch and padding do not change it."""

    kind: Literal["permuted"] = "permuted"
    normalizer: "Normalizer" = Softmax()
    """The normalizer whose weights are permuted."""
    seed: Seed = 0
    """Seed of the order outside of training. The seed of a run does not change it."""


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
    | Permuted
    | CustomNormalizer,
    Field(discriminator="kind"),
]
Permuted.model_rebuild()


def kinds_of(normalizer: Normalizer) -> tuple[str, ...]:
    """Return the kind of a normalizer, and of the one that it permutes.

    >>> kinds_of(Permuted(normalizer=LocalP()))
    ('permuted', 'local_p')
    """
    inner = kinds_of(normalizer.normalizer) if isinstance(normalizer, Permuted) else ()
    return (normalizer.kind, *inner)

"""What attention is made of: a score and a normalizer, each chosen by its `kind`."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from attnlab.config.base import Config


class Dot(Config):
    """logits = query · key (Luong et al. 2015, "dot"); query and key have the same width."""

    kind: Literal["dot"] = "dot"


class ScaledDot(Config):
    """logits = query · key / √d (Vaswani et al. 2017); query and key have the same width."""

    kind: Literal["scaled_dot"] = "scaled_dot"


class General(Config):
    """logits = queryᵀ W key, W learned (Luong et al. 2015, "general")."""

    kind: Literal["general"] = "general"


class Additive(Config):
    """logits = vᵀ tanh(W_q query + W_k key), all learned (Bahdanau et al. 2015)."""

    kind: Literal["additive"] = "additive"
    hidden: PositiveInt = 256
    """Width of the hidden layer."""


Score = Annotated[Dot | ScaledDot | General | Additive, Field(discriminator="kind")]


class Softmax(Config):
    """weights = exp(logits) / Σ exp(logits) over the keys that may be attended."""

    kind: Literal["softmax"] = "softmax"


Normalizer = Softmax


class Attention(Config):
    """Attention over all source positions ("global" in Luong et al. 2015)."""

    score: Score
    normalizer: Normalizer = Softmax()

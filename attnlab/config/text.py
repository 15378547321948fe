"""Configs of tokenizers and of decoding."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from attnlab.config.base import Config
from attnlab.config.pretrained import Package, Source


class Words(Config):
    """Words and punctuation marks as tokens; rare words become the unknown token."""

    kind: Literal["words"] = "words"
    vocabulary: PositiveInt = 20_000
    """Largest number of tokens in the vocabulary."""
    min_frequency: PositiveInt = 1
    """Smallest number of times that a word must occur in the training data; rarer words become the unknown token."""
    joint: bool = False
    """Use one vocabulary for source and target."""
    lowercase: Literal["none", "source", "both"] = "none"
    """Which texts are converted to lower case."""

    def tiny(self) -> Self:
        """Shrink the vocabulary."""
        return self.with_limits(vocabulary=400)


class Bpe(Config):
    """Byte-pair encoding (Sennrich et al. 2016)."""

    kind: Literal["bpe"] = "bpe"
    vocabulary: Annotated[int, Field(ge=100)] = 4_000
    """Largest number of tokens in the vocabulary."""
    min_frequency: PositiveInt = 2
    """Smallest number of times that a pair must occur to be merged."""
    joint: bool = True
    """Use one vocabulary for source and target."""
    lowercase: Literal["none", "source", "both"] = "none"
    """Which texts are converted to lower case."""

    def tiny(self) -> Self:
        """Shrink the vocabulary."""
        return self.with_limits(vocabulary=400)


class PretrainedTokenizer(Config):
    """WordPiece with the vocabulary of pretrained weights (Wu et al. 2016); their files set case and accents."""

    kind: Literal["pretrained"] = "pretrained"
    source: Source = Package()
    """Source of the vocabulary."""


Tokenizer = Annotated[Words | Bpe, Field(discriminator="kind")]
"""Tokenizers that are learned from the training data."""
AnyTokenizer = Annotated[Words | Bpe | PretrainedTokenizer, Field(discriminator="kind")]


WIDEST_BEAM = 64


class Decoding(Config):
    """Beam search; a beam of 1 is greedy decoding."""

    beam: Annotated[int, Field(ge=1, le=WIDEST_BEAM)] = 5
    """Number of hypotheses that are kept at each step."""
    length_penalty: NonNegativeFloat = 1.0
    """α of the length normalization ((5 + length) / 6)^α (Wu et al. 2016, eq. 14); 0 disables it."""
    min_length: NonNegativeInt = 0
    """Smallest number of tokens in an output, without the end token."""
    max_length: PositiveInt = 100
    """Largest number of tokens in an output, without the end token."""
    n_best: PositiveInt = 1
    """Number of hypotheses that are returned, at most `beam`."""
    coverage_penalty: NonNegativeFloat = 0.0
    """β of the term β Σ_s log min(Σ_t weights[t, s], 1) in the score of a hypothesis (Wu et al. 2016, eq. 15); 0
    disables it."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_best > self.beam:
            raise ValueError(f"n_best ({self.n_best}) must not exceed beam ({self.beam})")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) must not exceed max_length ({self.max_length})")
        return self

    def tiny(self) -> Self:
        """Shrink the search."""
        return self.with_limits(beam=2, n_best=2, min_length=5, max_length=30)

"""Text: how it becomes tokens, and how a model is searched for the likeliest text."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from attnlab.config.base import Config, FileName
from attnlab.config.pretrained import Package, Source


def _named_apart(name: str) -> str:
    if name in ("train", "dev"):
        raise ValueError(f"{name} is the name of another split; a test set needs a name of its own")
    return name


_Name = Annotated[FileName, Field(pattern=r"^[\w.-]+$"), AfterValidator(_named_apart)]
TestSets = Annotated[dict[_Name, str], Field(min_length=1)]
"""Name of each test set (it names files too) -> where it is."""


class Words(Config):
    """Words and punctuation marks are the tokens; rare ones become the unknown token."""

    kind: Literal["words"] = "words"
    vocabulary: PositiveInt = 20_000
    """Largest vocabulary."""
    min_frequency: PositiveInt = 1
    """Words that occur less often in training become the unknown token."""
    joint: bool = False
    """One vocabulary for both sides."""
    lowercase: Literal["none", "source", "both"] = "none"
    """Texts that are converted to lower case."""

    def tiny(self) -> Self:
        """Keep few words."""
        return self.with_limits(vocabulary=400)


class Bpe(Config):
    """Byte-pair encoding (Sennrich et al. 2016)."""

    kind: Literal["bpe"] = "bpe"
    vocabulary: Annotated[int, Field(ge=100)] = 4_000
    """Largest vocabulary."""
    min_frequency: PositiveInt = 2
    """Pairs that occur less often are not merged."""
    joint: bool = True
    """One vocabulary for both sides."""
    lowercase: Literal["none", "source", "both"] = "none"
    """Texts that are converted to lower case."""

    def tiny(self) -> Self:
        """Keep few pieces."""
        return self.with_limits(vocabulary=400)


class PretrainedTokenizer(Config):
    """The vocabulary of pretrained weights, WordPiece (Wu et al. 2016); case and accents are as their files say."""

    kind: Literal["pretrained"] = "pretrained"
    source: Source = Package()
    """Where the vocabulary is."""


Tokenizer = Annotated[Words | Bpe, Field(discriminator="kind")]
"""Learned from the training texts."""
AnyTokenizer = Annotated[Words | Bpe | PretrainedTokenizer, Field(discriminator="kind")]


WIDEST_BEAM = 64


class Decoding(Config):
    """Beam search; beam 1 is greedy."""

    beam: Annotated[int, Field(ge=1, le=WIDEST_BEAM)] = 5
    """Number of hypotheses that are kept at each step."""
    length_penalty: NonNegativeFloat = 1.0
    """α of ((5 + length) / 6)^α (Wu et al. 2016, eq. 14); 0 does not normalize by length."""
    min_length: NonNegativeInt = 0
    """Shortest output, in tokens, end token not counted."""
    max_length: PositiveInt = 100
    """In tokens, end token not counted."""
    n_best: PositiveInt = 1
    """Number of hypotheses that are returned, at most `beam`."""
    coverage_penalty: NonNegativeFloat = 0.0
    """β of β Σ_s log min(Σ_t weights[t, s], 1), added to a hypothesis's score (Wu et al. 2016, eq. 15); 0: none."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_best > self.beam:
            raise ValueError(f"n_best ({self.n_best}) must not exceed beam ({self.beam})")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) must not exceed max_length ({self.max_length})")
        return self

    def tiny(self) -> Self:
        """Search little."""
        return self.with_limits(beam=2, n_best=2, min_length=5, max_length=30)

"""Tasks: the data, how it becomes tokens, and how the answer is decoded."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt, model_validator

from attnlab.config.base import Config

TestSets = Annotated[dict[Annotated[str, Field(pattern=r"^[\w.-]+$")], str], Field(min_length=1)]
"""Name of each test set (it names files too) -> where it is."""


class Dates(Config):
    """Generated: German dates and numbers in words, to English words or ISO, with gold alignments (no download)."""

    kind: Literal["dates"] = "dates"
    target: Literal["words", "iso"] = "words"
    train: PositiveInt = 20_000
    dev: PositiveInt = 500
    test: PositiveInt = 1_000
    max_items: Annotated[int, Field(ge=1, le=12)] = 4
    """Longest list of dates and numbers in one sentence."""
    seed: NonNegativeInt = 0


class ParallelText(Config):
    """Two files a split, line i of one translating line i of the other (plain or .gz), relative to the data directory.

    A prefix `multi30k/train` with languages de and en means multi30k/train.de and multi30k/train.en
    (or the same with .gz).
    """

    kind: Literal["parallel_text"] = "parallel_text"
    source: str
    """Language of the source: the files' ending, e.g. de."""
    target: str
    train: str
    dev: str
    test: TestSets


class Tsv(Config):
    """Tab-separated files with a header line; `source` and `target` name columns. Relative to the data directory."""

    kind: Literal["tsv"] = "tsv"
    source: str
    target: str
    train: str
    dev: str
    test: TestSets


class Hub(Config):
    """A dataset of the Hugging Face hub, or a local folder in its layout (needs the extra `hub`)."""

    kind: Literal["hub"] = "hub"
    path: str
    revision: str | None = None
    """A commit of the dataset, to pin it; null is the newest."""
    name: str | None = None
    """The dataset's configuration."""
    source: str
    """Column of the source; a dotted name reaches into a dictionary column, e.g. translation.de."""
    target: str
    train: str = "train"
    dev: str = "validation"
    test: TestSets = {"test": "test"}


Data = Annotated[Dates | ParallelText | Tsv | Hub, Field(discriminator="kind")]


class Words(Config):
    """Words and punctuation marks are the tokens; rare ones become the unknown token."""

    kind: Literal["words"] = "words"
    vocabulary: PositiveInt = 20_000
    """Largest vocabulary."""
    min_frequency: PositiveInt = 1
    joint: bool = False
    """One vocabulary for both sides."""
    lowercase: Literal["none", "source", "both"] = "none"


class Bpe(Config):
    """Byte-pair encoding (Sennrich et al. 2016)."""

    kind: Literal["bpe"] = "bpe"
    vocabulary: Annotated[int, Field(ge=100)] = 4_000
    min_frequency: PositiveInt = 2
    joint: bool = True
    lowercase: Literal["none", "source", "both"] = "none"


Tokenizer = Annotated[Words | Bpe, Field(discriminator="kind")]


class Decoding(Config):
    """Beam search; beam 1 is greedy."""

    beam: Annotated[int, Field(ge=1, le=64)] = 5
    length_penalty: NonNegativeFloat = 1.0
    """α of ((5 + length) / 6)^α (Wu et al. 2016, eq. 14); 0 does not normalise by length."""
    min_length: NonNegativeInt = 0
    max_length: PositiveInt = 100
    """In tokens, end token not counted."""
    n_best: PositiveInt = 1

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.n_best > self.beam:
            raise ValueError(f"n_best ({self.n_best}) must not exceed beam ({self.beam})")
        if self.min_length > self.max_length:
            raise ValueError(f"min_length ({self.min_length}) must not exceed max_length ({self.max_length})")
        return self


class Translation(Config):
    """Translate a sentence; scored by BLEU and chrF (sacrebleu)."""

    kind: Literal["translation"] = "translation"
    data: Data
    tokenizer: Tokenizer
    max_length: PositiveInt = 100
    """A training pair with more tokens than this on a side is left out (counted and said)."""
    decoding: Decoding = Decoding()


Task = Translation

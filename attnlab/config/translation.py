"""Translation: the data, how they become tokens, and how the answer is decoded."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.text import Decoding, TestSets, Tokenizer


class Dates(Config):
    """Generated: German dates and numbers in words, to English words or ISO, with gold alignments (no download)."""

    kind: Literal["dates"] = "dates"
    target: Literal["words", "iso"] = "words"
    """Language of the target: English words, or ISO dates and digits."""
    train: PositiveInt = 20_000
    """Number of training examples to generate."""
    dev: PositiveInt = 500
    """Number of validation examples to generate."""
    test: PositiveInt = 1_000
    """Number of test examples to generate."""
    max_items: Annotated[int, Field(ge=1, le=12)] = 4
    """Longest list of dates and numbers in one sentence."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    def tiny(self) -> Self:
        """Generate little; files of a person's own are read whole: what is in them decides what is tested."""
        return self.with_limits(train=400, dev=40, test=60, max_items=2)


class ParallelText(Config):
    """Two files a split, line i of one translating line i of the other (plain or .gz), relative to the data directory.

    A prefix `multi30k/train` with languages de and en means multi30k/train.de and multi30k/train.en
    (or the same with .gz).
    """

    kind: Literal["parallel_text"] = "parallel_text"
    source: str
    """Language of the source: the files' ending, e.g. de."""
    target: str
    """Language of the target: the files' ending, e.g. en."""
    train: str
    """Prefix of the two training files."""
    dev: str
    """Prefix of the two validation files."""
    test: TestSets
    """Test sets: name -> prefix of the two files."""


class Tsv(Config):
    """Tab-separated files with a header line; `source` and `target` name columns. Relative to the data directory."""

    kind: Literal["tsv"] = "tsv"
    source: str
    """Column of the source."""
    target: str
    """Column of the target."""
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Test sets: name -> file."""


class TranslationHub(Config):
    """A dataset of the Hugging Face hub, or a local folder in its layout (needs the extra `hub`)."""

    kind: Literal["hub"] = "hub"
    path: str
    """Name of the dataset on the hub, such as OWNER/NAME, or a local folder."""
    revision: str | None = None
    """A commit of the dataset, to pin it; null is the newest."""
    name: str | None = None
    """The dataset's configuration."""
    source: str
    """Column of the source; a dotted name reaches into a dictionary column, e.g. translation.de."""
    target: str
    """Column of the target."""
    train: str = "train"
    """Split to train on."""
    dev: str = "validation"
    """Split to validate on."""
    test: TestSets = {"test": "test"}
    """Test sets: name -> split."""


class TsvToSplit(Config):
    """One tab-separated file with a header line, to be split here: equal sentences never stand in two splits."""

    kind: Literal["tsv_to_split"] = "tsv_to_split"
    source: str
    """Column of the source."""
    target: str
    """Column of the target."""
    file: str
    """The file."""
    group_by: str
    """The column whose equal sentences stay together."""
    dev: PositiveInt = 1_000
    """Rows, at least; one more where the last sentence has several translations."""
    test: PositiveInt = 2_000
    """Rows of the test set, at least, as for `dev`."""
    seed: Seed = 0
    """Seed of the split, independent of the run's seed."""

    @model_validator(mode="after")
    def _group_by_source_or_target(self) -> Self:
        if self.group_by not in (self.source, self.target):
            raise ValueError(f"group_by {self.group_by} is neither source {self.source} nor target {self.target}")
        return self


TranslationData = Annotated[Dates | ParallelText | Tsv | TsvToSplit | TranslationHub, Field(discriminator="kind")]


class Translation(Config):
    """Translate a sentence; scored by BLEU and chrF (sacrebleu)."""

    models: ClassVar[tuple[str, ...]] = ("recurrent_seq2seq", "transformer_seq2seq")
    kind: Literal["translation"] = "translation"
    data: TranslationData
    """Where the examples come from."""
    tokenizer: Tokenizer
    """How texts become tokens."""
    guided_alignment: NonNegativeFloat = 0.0
    """Weight of the cross entropy of attention to gold alignment in the loss (Garg et al. 2019); 0: attention is free.
    Needs data with gold alignment."""
    max_length: PositiveInt = 100
    """A training pair with more tokens than this on a side is left out (counted and said)."""
    decoding: Decoding = Decoding()
    """How the output is searched for."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot translate; valid: {', '.join(self.models)}"
        if model.tie_embeddings == "all" and not self.tokenizer.joint:
            return "model.tie_embeddings all needs task.tokenizer.joint: true"
        if self.guided_alignment and self.data.kind != "dates":
            return f"task.guided_alignment needs gold alignment, which task.data.kind {self.data.kind} has none of"
        if model.kind == "recurrent_seq2seq" and model.attention is None:
            needed = {"guided_alignment": self.guided_alignment}
            needed["decoding.coverage_penalty"] = self.decoding.coverage_penalty
            for name, value in needed.items():
                if value:
                    return f"task.{name} needs model.attention"
        if model.kind == "transformer_seq2seq":
            longest = max(self.max_length, self.decoding.max_length) + 1
            if model.max_length < longest:
                return (
                    f"model.max_length {model.max_length} is below {longest}, the longest sentence "
                    "(task.max_length, task.decoding.max_length) with its end token"
                )
        return None

    def tiny(self) -> Self:
        """Shrink what the data, the vocabulary and the search take."""
        parts = {name: getattr(self, name).tiny() for name in ("data", "tokenizer", "decoding")}
        return self.replace(**parts, max_length=min(self.max_length, 30))

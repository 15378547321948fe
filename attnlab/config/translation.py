"""Config of translation: data, tokenizer and decoding."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator

from attnlab.config.base import Config, Seed
from attnlab.config.data import DataSeed, DevSize, HubDataset, TestSets, TestSize, TrainSize
from attnlab.config.text import Decoding, Tokenizer


class Dates(Config):
    """Generated German dates and numbers in words, to be translated into English words or ISO format, with gold
    alignments."""

    kind: Literal["dates"] = "dates"
    target: Literal["words", "iso"] = "words"
    """Format of the target. words: English words; iso: ISO dates and digits."""
    train: TrainSize = 20_000
    dev: DevSize = 500
    test: TestSize = 1_000
    max_items: Annotated[int, Field(ge=1, le=12)] = 4
    """Largest number of dates and numbers in a sentence."""
    seed: DataSeed = 0

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=400, dev=40, test=60, max_items=2)


Alignments = Annotated[dict[str, str], Field(exclude_if=lambda files: not files)]
"""Location of the alignment file of each split by its name. Without any, a config is written as it was before this key
existed, so that older runs stay in its group."""


def _alignments_of_splits(data: Any) -> Any:
    """Check that every alignment file is of a split."""
    splits = ["train", "dev", *data.test]
    for name in data.alignments:
        if name not in splits:
            raise ValueError(f"alignments.{name}: no such split; the splits are {', '.join(splits)}")
    return data


class ParallelText(Config):
    """Two files per split with a sentence per line, which translate each other line by line; plain or .gz.

    With languages de and en, the prefix `multi30k/train` stands for multi30k/train.de and multi30k/train.en, or for the
    same names with .gz.
    """

    kind: Literal["parallel_text"] = "parallel_text"
    source: str
    """Source language: the suffix of its files, e.g. de."""
    target: str
    """Target language: the suffix of its files, e.g. en."""
    train: str
    """Prefix of the two training files."""
    dev: str
    """Prefix of the two validation files."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to prefixes of the two files."""
    alignments: Alignments = {}
    """Word alignments for guided alignment and the alignment error rate: a mapping of `train`, `dev` and names of test
    sets to files in the format Pharaoh, which fast_align writes: a line for each pair with its links source-target,
    `0-0 1-2`, of words separated by single spaces, from 0. A link `1p2` is only possible: it does not guide attention,
    and counts for the precision alone. Splits without a file have no alignments."""

    _check_alignments = model_validator(mode="after")(_alignments_of_splits)


class Tsv(Config):
    """Tab-separated files with a header line."""

    kind: Literal["tsv"] = "tsv"
    source: str
    """Name of the source column."""
    target: str
    """Name of the target column."""
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""
    alignments: Alignments = {}
    """Word alignments for guided alignment and the alignment error rate: a mapping of `train`, `dev` and names of test
    sets to files in the format Pharaoh, which fast_align writes: a line for each pair with its links source-target,
    `0-0 1-2`, of words separated by single spaces, from 0. A link `1p2` is only possible: it does not guide attention,
    and counts for the precision alone. Splits without a file have no alignments."""

    _check_alignments = model_validator(mode="after")(_alignments_of_splits)


class TranslationHub(HubDataset):
    """A dataset of sentence pairs from the Hugging Face hub, or a local folder; needs the extra `hub`."""

    source: str
    """Name of the source column; a dotted name is a key of a dictionary column, e.g. translation.de."""
    target: str
    """Name of the target column."""


class TsvToSplit(Config):
    """A tab-separated file with a header line that is split into training, validation and test sets; rows with the same
    sentence stay in one split."""

    kind: Literal["tsv_to_split"] = "tsv_to_split"
    source: str
    """Name of the source column."""
    target: str
    """Name of the target column."""
    file: str
    """Path of the file."""
    group_by: str
    """Column whose equal sentences stay in one split: the value of `source` or of `target`."""
    alignments: Annotated[str | None, Field(exclude_if=lambda file: file is None)] = None
    """Path of a file of word alignments in the format Pharaoh with a line for each row, for guided alignment and the
    alignment error rate: links source-target, `0-0 1-2`, of words separated by single spaces, from 0; a link `1p2` is
    only possible, and does not guide attention. Null for none."""
    dev: PositiveInt = 1_000
    """Smallest number of rows in the validation set; there are more if its last sentence has several translations."""
    test: PositiveInt = 2_000
    """Smallest number of rows in the test set, as for `dev`."""
    seed: Seed = 0
    """Seed of the split, below 2³² and independent of the run's seed."""

    @model_validator(mode="after")
    def _group_by_source_or_target(self) -> Self:
        if self.group_by not in (self.source, self.target):
            raise ValueError(f"group_by {self.group_by} is neither source {self.source} nor target {self.target}")
        return self


TranslationData = Annotated[Dates | ParallelText | Tsv | TsvToSplit | TranslationHub, Field(discriminator="kind")]


def _without_alignments(data: Dates | ParallelText | Tsv | TsvToSplit | TranslationHub) -> str | None:
    """Return how the training pairs get word alignments if they have none, or None if they have some."""
    match data:
        case TsvToSplit(alignments=None):
            return "task.data.alignments: FILE adds"
        case ParallelText() | Tsv() if "train" not in data.alignments:
            return "task.data.alignments.train: FILE adds"
        case TranslationHub():
            return "task.data.kind hub does not have"
    return None


class Translation(Config):
    """Translate a sentence. Metrics: BLEU and chrF (sacrebleu)."""

    models: ClassVar[tuple[str, ...]] = ("recurrent_seq2seq", "transformer_seq2seq")
    kind: Literal["translation"] = "translation"
    data: TranslationData
    """The data."""
    tokenizer: Tokenizer
    """The tokenizer."""
    guided_alignment: NonNegativeFloat = 0.0
    """Weight of the loss term for guided alignment, the cross entropy between attention and gold alignment (Garg et al.
    2019); 0 disables it. Needs data with alignments: `dates`, or `task.data.alignments`."""
    max_length: PositiveInt = 100
    """Largest number of tokens in the source or target of a training pair; longer pairs are left out, and their number
    is reported."""
    decoding: Decoding = Decoding()
    """The search for the output."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot translate; valid: {', '.join(self.models)}"
        if model.tie_embeddings == "all" and not self.tokenizer.joint:
            return "model.tie_embeddings all needs task.tokenizer.joint: true"
        if self.guided_alignment and (lacking := _without_alignments(self.data)):
            return f"task.guided_alignment needs gold alignments, which {lacking}"
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
        """Shrink the data, the vocabulary and the search."""
        return super().tiny().with_limits(max_length=30)

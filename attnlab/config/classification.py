"""Classification of texts: the data, how they become tokens, and how long ones are cut."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config, Seed
from attnlab.config.pretrained import vocabulary_mismatch
from attnlab.config.text import AnyTokenizer, TestSets, Words


class SyntheticSentiment(Config):
    """Generated sentences about films with negation, intensifiers and contrast, with gold rationales (no download)."""

    kind: Literal["synthetic_sentiment"] = "synthetic_sentiment"
    train: PositiveInt = 12_000
    """Number of training examples to generate."""
    dev: PositiveInt = 500
    """Number of validation examples to generate."""
    test: PositiveInt = 2_000
    """Number of test examples to generate."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    def tiny(self) -> Self:
        """Generate little."""
        return self.with_limits(train=400, dev=40, test=60)


class Trees(Config):
    """Trees with a label of 0 to 4 at every node, one a line: the Stanford Sentiment Treebank (plain or .gz)."""

    kind: Literal["trees"] = "trees"
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Test sets: name -> file."""
    classes: Literal[2, 5] = 2
    """5: SST-5. 2: SST-2, negative (0, 1) and positive (3, 4), neutral nodes left out."""
    phrases: bool = True
    """Train on every labeled node, each text once; dev and test are whole sentences always."""


class LabeledTextFiles(Config):
    """Texts with labels: JSON lines (.jsonl, .json), or a table with a header (.csv, .tsv); plain or .gz."""

    kind: Literal["labeled_text"] = "labeled_text"
    train: str
    """Training file."""
    dev: str | None = None
    """null: `dev_share` of train is held out, by a hash of the text."""
    dev_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Fraction of the training examples that is held out for validation where `dev` is null."""
    test: TestSets
    """Test sets: name -> file."""
    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the label: text or a whole number."""
    label_names: dict[str, str] = {}
    """Label in the file -> what it is called, e.g. {"0": negative, "1": positive}; the others keep their own."""


class LabeledTextHub(Config):
    """A dataset of the Hugging Face hub, or a local folder in its layout (needs the extra `hub`)."""

    kind: Literal["hub"] = "hub"
    path: str
    """Name of the dataset on the hub, such as OWNER/NAME, or a local folder."""
    revision: str | None = None
    """A commit of the dataset, to pin it; null is the newest."""
    name: str | None = None
    """The dataset's configuration."""
    train: str = "train"
    """Split to train on."""
    dev: str | None = "validation"
    """null: `dev_share` of train is held out, by a hash of the text."""
    dev_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Fraction of the training examples that is held out for validation where `dev` is null."""
    test: TestSets = {"test": "test"}
    """Test sets: name -> split."""
    text: str = "text"
    """Column of the text."""
    label: str = "label"
    """Column of the label."""
    label_names: dict[str, str] = {}
    """Label in the data -> what it is called; the others keep the names that the dataset gives them."""


ClassificationData = Annotated[
    SyntheticSentiment | Trees | LabeledTextFiles | LabeledTextHub, Field(discriminator="kind")
]


class Classification(Config):
    """Classify texts; scored by accuracy, macro-F1 and calibration."""

    models: ClassVar[tuple[str, ...]] = ("recurrent_classifier", "transformer_classifier")
    kind: Literal["classification"] = "classification"
    data: ClassificationData
    """Where the examples come from."""
    tokenizer: AnyTokenizer = Words(lowercase="both")
    """How texts become tokens."""
    split_contractions: bool = True
    """Read don't as do n't, as the Penn treebank writes it: the negation is a token wherever it stands."""
    max_length: PositiveInt = 400
    """Longer texts are cut to this many tokens, in training and in tests (counted and said)."""
    truncation: Literal["head", "tail", "both"] = "head"
    """What is kept of a text that is too long; both: the first quarter of `max_length` from its head, the rest from
    its tail (Sun et al. 2019)."""
    calibration_bins: Annotated[int, Field(ge=1, le=100)] = 15
    """Bins of equal width of the calibration error."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot classify; valid: {', '.join(self.models)}"
        if model.max_text_tokens is not None and model.max_text_tokens < self.max_length:
            return (
                f"model.encoder.max_length {model.encoder.max_length} must exceed task.max_length {self.max_length} by "
                f"{model.special_tokens_before + model.special_tokens_after}, for the special tokens [CLS] and [SEP]"
            )
        return vocabulary_mismatch(model, self.tokenizer)

    def tiny(self) -> Self:
        """Shrink what the data and the vocabulary take."""
        return self.replace(data=self.data.tiny(), tokenizer=self.tokenizer.tiny(), max_length=min(self.max_length, 30))

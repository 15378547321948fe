"""Config of text classification: data, tokenizer and truncation."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt

from attnlab.config.base import Config
from attnlab.config.base_run import tiny_directory
from attnlab.config.data import DataSeed, DevSize, HubDataset, TestSets, TestSize, TrainSize
from attnlab.config.pretrained import vocabulary_mismatch
from attnlab.config.text import AnyTokenizer, Words


class SyntheticSentiment(Config):
    """Generated sentences about films with negation, intensifiers and contrast, and with gold rationales."""

    kind: Literal["synthetic_sentiment"] = "synthetic_sentiment"
    train: TrainSize = 12_000
    dev: DevSize = 500
    test: TestSize = 2_000
    seed: DataSeed = 0

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=400, dev=40, test=60)


class Trees(Config):
    """Files with a tree per line and a label of 0 to 4 at each node: the Stanford Sentiment Treebank (plain or .gz)."""

    kind: Literal["trees"] = "trees"
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""
    classes: Literal[2, 5] = 2
    """Number of classes. 5: SST-5; 2: SST-2, negative (0, 1) and positive (3, 4), without neutral nodes."""
    phrases: bool = True
    """Train on the phrases of all labeled nodes, without duplicates; false trains on whole sentences only. Validation
    and test examples are always whole sentences."""


class LabeledTextFiles(Config):
    """Files of texts with labels: JSON lines (.jsonl, .json), or tables with a header (.csv, .tsv); plain or .gz."""

    kind: Literal["labeled_text"] = "labeled_text"
    train: str
    """Training file."""
    dev: str | None = None
    """Validation file; null holds out `dev_share` of the training examples, selected by a hash of the text."""
    dev_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Fraction of the training examples that is held out for validation if `dev` is null; between 0 and 1."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""
    text: str = "text"
    """Name of the text column."""
    label: str = "label"
    """Name of the label column, which contains texts or integers."""
    label_names: dict[str, str] = {}
    """Names of labels, e.g. {"0": negative, "1": positive}; other labels keep the names in the file."""


class LabeledTextHub(HubDataset):
    """A dataset of texts with labels from the Hugging Face hub, or a local folder; needs the extra `hub`."""

    dev: str | None = "validation"
    """Name of the validation split; null holds out `dev_share` of the training examples, selected by a hash of the
    text."""
    dev_share: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.1
    """Fraction of the training examples that is held out for validation if `dev` is null; between 0 and 1."""
    text: str = "text"
    """Name of the text column."""
    label: str = "label"
    """Name of the label column."""
    label_names: dict[str, str] = {}
    """Names of labels, e.g. {"0": negative, "1": positive}; other labels keep the names in the dataset."""


ClassificationData = Annotated[
    SyntheticSentiment | Trees | LabeledTextFiles | LabeledTextHub, Field(discriminator="kind")
]


class ModelConsistent(Config):
    """Train an adversary of a base model: like predictions, other attention weights. For each text it minimizes
    TVD(ŷ, ŷ_base) − λ KL(α ‖ α_base); labels are not used (Wiegreffe & Pinter 2019, section 4)."""

    kind: Literal["model_consistent"] = "model_consistent"
    base: str
    """Run directory of the base model, relative to the current directory; it must have as many hops as the model. It is
    needed in training only, and determines the tokenizer. With --tiny the directory of the tiny run: runs/NAME-tiny-s1
    for runs/NAME-s1."""
    strength: NonNegativeFloat
    """λ, the weight of the divergence of the attention weights; 0 only imitates the predictions."""

    def tiny(self) -> Self:
        """Name the tiny run of the base model."""
        return self.replace(base=tiny_directory(self.base))


class Classification(Config):
    """Classify a text. Metrics: accuracy, macro-F1 and expected calibration error."""

    models: ClassVar[tuple[str, ...]] = ("recurrent_classifier", "transformer_classifier", "mlp_classifier")
    kind: Literal["classification"] = "classification"
    data: ClassificationData
    """The data."""
    tokenizer: AnyTokenizer = Words(lowercase="both")
    """The tokenizer."""
    split_contractions: bool = True
    """Split contractions as in the Penn Treebank, such as don't into do n't, so that the negation is a token."""
    max_length: PositiveInt = 400
    """Largest number of tokens in a text; longer texts are truncated, and their number is reported."""
    truncation: Literal["head", "tail", "both"] = "head"
    """Part of a long text that is kept. head: its first tokens; tail: its last tokens; both: a quarter of `max_length`
    tokens from its head and the rest from its tail (Sun et al. 2019)."""
    calibration_bins: Annotated[int, Field(ge=1, le=100)] = 15
    """Number of bins of equal width for the expected calibration error."""
    objective: Annotated[ModelConsistent | None, Field(exclude_if=lambda objective: objective is None)] = None
    """What training minimizes; null is the cross-entropy of the labels."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot classify; valid: {', '.join(self.models)}"
        if model.max_text_tokens is not None and model.max_text_tokens < self.max_length:
            return (
                f"model.encoder.max_length {model.encoder.max_length} must exceed task.max_length {self.max_length} by "
                f"{model.special_tokens_before + model.special_tokens_after}, for the special tokens [CLS] and [SEP]"
            )
        if self.objective is not None and model.pooling.kind not in ("attention", "structured"):
            return (
                f"model.pooling.kind {model.pooling.kind} has no weights that task.objective.kind "
                f"{self.objective.kind} could train; valid: attention, structured"
            )
        return vocabulary_mismatch(model, self.tokenizer)

    def tiny(self) -> Self:
        """Shrink the data, the vocabulary and the length of texts."""
        return super().tiny().with_limits(max_length=30)

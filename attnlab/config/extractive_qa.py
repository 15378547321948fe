"""Extractive question answering: the answer is a span of a passage, or there is none."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config, Seed
from attnlab.config.pretrained import vocabulary_mismatch
from attnlab.config.text import AnyTokenizer, TestSets, Words


class GeneratedPassages(Config):
    """Generated: the passage tells who got what, the question who is tall and what is old (no download)."""

    kind: Literal["generated"] = "generated"
    people: Annotated[int, Field(ge=3, le=20)] = 5
    """In each passage, and as many things; the more there are, the less of the question can be kept in one vector."""
    train: PositiveInt = 10_000
    """Number of training examples to generate."""
    dev: PositiveInt = 500
    """Number of validation examples to generate."""
    test: PositiveInt = 1_000
    """Number of test examples to generate."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    def tiny(self) -> Self:
        """Generate little."""
        return self.with_limits(train=400, dev=40, test=60)


class SquadJson(Config):
    """Files in the JSON of SQuAD 1.1 or 2.0 (plain or .gz), relative to the data directory."""

    kind: Literal["squad"] = "squad"
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Test sets: name -> file."""


class SubjQa(Config):
    """JSON lines `question context answer answer_start` (plain or .gz); an answer null is unanswerable."""

    kind: Literal["subjqa"] = "subjqa"
    train: tuple[str, ...] = Field(min_length=1)
    """One or several files, read one after the other."""
    dev: tuple[str, ...] = Field(min_length=1)
    """One or several validation files."""
    test: TestSets
    """Test sets: name -> file."""


class PassageQuestionHub(Config):
    """A dataset of the Hugging Face hub with SQuAD's columns, or a local folder (needs the extra `hub`)."""

    kind: Literal["hub"] = "hub"
    path: str
    """Name of the dataset on the hub, such as OWNER/NAME, or a local folder."""
    revision: str | None = None
    """A commit of the dataset, to pin it; null is the newest."""
    name: str | None = None
    """The dataset's configuration."""
    train: str = "train"
    """Split to train on."""
    dev: str = "validation"
    """Split to validate on."""
    test: TestSets = {"test": "test"}
    """Test sets: name -> split."""


ExtractiveQAData = Annotated[GeneratedPassages | SquadJson | SubjQa | PassageQuestionHub, Field(discriminator="kind")]


class ExtractiveQA(Config):
    """Answer a question by a span of a passage; scored by exact match and F1 as SQuAD's own program does."""

    models: ClassVar[tuple[str, ...]] = ("bidaf_reader", "transformer_reader")
    kind: Literal["extractive_qa"] = "extractive_qa"
    data: ExtractiveQAData
    """Where the examples come from."""
    tokenizer: AnyTokenizer = Words(lowercase="both")
    """How texts become tokens."""
    window: PositiveInt = 400
    """Tokens of a passage that are read at once; a longer one is read in overlapping windows."""
    stride: PositiveInt = 128
    """Tokens from the start of one window to that of the next."""
    max_question: PositiveInt = 60
    """A longer question is cut to its first tokens (counted and said)."""
    max_answer: PositiveInt = 20
    """Tokens in an answer that is given, at most."""
    unanswerable: bool = False
    """Allow the answer that there is none; false always gives a span."""
    null_threshold: float = 0.0
    """There is no answer where the score of none exceeds that of the best span by more than this (in nats)."""
    n_best: PositiveInt = 3
    """Answers that `show` puts on its page."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if self.stride > self.window:
            return f"task.stride {self.stride} exceeds task.window {self.window}: tokens between windows would be lost"
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot point at spans; valid: {', '.join(self.models)}"
        if getattr(self.tokenizer, "lowercase", "") == "source":
            return "task.tokenizer.lowercase source: passage and question are read alike; valid: none, both"
        encoder = getattr(model, "encoder", None)
        if encoder is not None and getattr(encoder.positions, "kind", "") == "learned":
            needed = self.window + self.max_question + 2 + getattr(model, "special_tokens_after", 0)
            if encoder.max_length < needed:
                return f"model.encoder.max_length {encoder.max_length} is below {needed}: window, question and marks"
        return vocabulary_mismatch(model, self.tokenizer)

    def tiny(self) -> Self:
        """Shrink the vocabulary and the windows; a file of a person's own is read whole."""
        small = self.with_limits(window=60, stride=30, max_question=20, max_answer=8)
        return small.replace(tokenizer=self.tokenizer.tiny(), data=self.data.tiny())

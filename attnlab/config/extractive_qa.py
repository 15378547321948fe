"""Config of extractive question answering: the answer is a span of a passage, or the question is unanswerable."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config
from attnlab.config.data import DataSeed, DevSize, HubDataset, TestSets, TestSize, TrainSize
from attnlab.config.pretrained import vocabulary_mismatch
from attnlab.config.text import AnyTokenizer, Words


class GeneratedPassages(Config):
    """Generated passages that say who got what, with questions that say who is tall and what is old."""

    kind: Literal["generated"] = "generated"
    people: Annotated[int, Field(ge=3, le=20)] = 5
    """Number of people, and of objects, in each passage; more of them make it harder to keep the question in one
    vector."""
    train: TrainSize = 10_000
    dev: DevSize = 500
    test: TestSize = 1_000
    seed: DataSeed = 0

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=400, dev=40, test=60)


class SquadJson(Config):
    """JSON files in the format of SQuAD 1.1 or 2.0, plain or .gz."""

    kind: Literal["squad"] = "squad"
    train: str
    """Training file."""
    dev: str
    """Validation file."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""


class SubjQa(Config):
    """JSON lines with `question`, `context`, `answer` and `answer_start`, plain or .gz; `answer` is null if the
    question is unanswerable."""

    kind: Literal["subjqa"] = "subjqa"
    train: tuple[str, ...] = Field(min_length=1)
    """Training files."""
    dev: tuple[str, ...] = Field(min_length=1)
    """Validation files."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""


class PassageQuestionHub(HubDataset):
    """A dataset with the columns of SQuAD from the Hugging Face hub, or a local folder; needs the extra `hub`."""


ExtractiveQAData = Annotated[GeneratedPassages | SquadJson | SubjQa | PassageQuestionHub, Field(discriminator="kind")]


class ExtractiveQA(Config):
    """Answer a question with a span of a passage. Metrics: exact match and F1, as in SQuAD's evaluation script."""

    models: ClassVar[tuple[str, ...]] = ("bidaf_reader", "transformer_reader")
    kind: Literal["extractive_qa"] = "extractive_qa"
    data: ExtractiveQAData
    """The data."""
    tokenizer: AnyTokenizer = Words(lowercase="both")
    """The tokenizer."""
    window: PositiveInt = 400
    """Largest number of tokens of a passage in an input; longer passages are split into overlapping windows."""
    stride: PositiveInt = 128
    """Number of tokens between the starts of successive windows; at most `window`."""
    max_question: PositiveInt = 60
    """Largest number of tokens in a question; longer ones are truncated, and their number is reported."""
    max_answer: PositiveInt = 20
    """Largest number of tokens in a predicted answer."""
    unanswerable: bool = False
    """Allow predicting that a question is unanswerable; false always predicts a span."""
    null_threshold: float = 0.0
    """Predict that a question is unanswerable if the score of no answer exceeds that of the best span by more than
    this, in nats."""
    n_best: PositiveInt = 3
    """Number of answers on the page that `attnlab show` writes."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if self.stride > self.window:
            return (
                f"task.stride {self.stride} exceeds task.window {self.window}: tokens between windows would be skipped"
            )
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot predict spans; valid: {', '.join(self.models)}"
        if getattr(self.tokenizer, "lowercase", "") == "source":
            return "task.tokenizer.lowercase source: passage and question share the setting; valid: none, both"
        encoder = getattr(model, "encoder", None)
        if encoder is not None and getattr(encoder.positions, "kind", "") == "learned":
            needed = self.window + self.max_question + 2 + getattr(model, "special_tokens_after", 0)
            if encoder.max_length < needed:
                return (
                    f"model.encoder.max_length {encoder.max_length} is below {needed}, the length of window, question "
                    "and special tokens"
                )
        return vocabulary_mismatch(model, self.tokenizer)

    def tiny(self) -> Self:
        """Shrink the generated data, the vocabulary and the windows; files are read in full."""
        return super().tiny().with_limits(window=60, stride=30, max_question=20, max_answer=8)

"""Config of story question answering: one-word answers to questions about short stories (bAbI tasks 1 to 3)."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config
from attnlab.config.data import DataSeed, DevSize, TestSets, TestSize, TrainSize


class GeneratedStories(Config):
    """Generated stories of people who move between places and carry objects, as in bAbI tasks 1 to 3."""

    kind: Literal["generated"] = "generated"
    facts: Literal[1, 2, 3] = 1
    """Number of facts that a question needs. 1: where is a person? 2: where is an object? 3: where was an object before
    it came to a place?"""
    max_sentences: PositiveInt | None = None
    """Largest number of sentences in a story; null uses 12, 24 or 40 for one, two or three facts."""
    train: TrainSize = 10_000
    dev: DevSize = 500
    test: TestSize = 1_000
    seed: DataSeed = 0

    @property
    def longest_story(self) -> int:
        """Return the largest number of sentences in a story."""
        return self.max_sentences or {1: 12, 2: 24, 3: 40}[self.facts]

    def tiny(self) -> Self:
        """Shrink the generated data."""
        return self.with_limits(train=400, dev=40, test=60)


class Babi(Config):
    """Files of the bAbI tasks (Weston et al. 2015), plain or .gz."""

    kind: Literal["babi"] = "babi"
    train: str
    """Training file."""
    dev: str | None = None
    """Validation file; null holds out every tenth story of the training file."""
    test: TestSets
    """Files to test on: a mapping of names of test sets to files."""


StoryData = Annotated[GeneratedStories | Babi, Field(discriminator="kind")]


class StoryQA(Config):
    """Answer a question about a story with one word. Metrics: accuracy, and the attention to the supporting facts."""

    models: ClassVar[tuple[str, ...]] = ("memory_network", "transformer_story_reader")
    kind: Literal["story_qa"] = "story_qa"
    data: StoryData = GeneratedStories()
    """The data."""
    memory: PositiveInt = 50
    """Largest number of sentences, the latest ones, that the model gets (50 in Sukhbaatar et al. 2015); the number of
    stories with more sentences is reported."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot answer questions about stories; valid: {', '.join(self.models)}"
        return None

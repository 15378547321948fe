"""Story question answering: one-word answers to questions about short stories (bAbI tasks 1 to 3)."""

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config, Seed
from attnlab.config.text import TestSets


class GeneratedStories(Config):
    """Generated: people walk about and carry things; a question needs one, two or three facts (no download)."""

    kind: Literal["generated"] = "generated"
    facts: Literal[1, 2, 3] = 1
    """1: where is a person? 2: where is a thing? 3: where was a thing before it came to a place?"""
    max_sentences: PositiveInt | None = None
    """Sentences in a story, at most; null is 12, 24 or 40 for one, two or three facts."""
    train: PositiveInt = 10_000
    """Number of training examples to generate."""
    dev: PositiveInt = 500
    """Number of validation examples to generate."""
    test: PositiveInt = 1_000
    """Number of test examples to generate."""
    seed: Seed = 0
    """Seed of the generator of the data, independent of the run's seed."""

    @property
    def longest_story(self) -> int:
        """Sentences in a story, at most."""
        return self.max_sentences or {1: 12, 2: 24, 3: 40}[self.facts]

    def tiny(self) -> Self:
        """Generate little."""
        return self.with_limits(train=400, dev=40, test=60)


class Babi(Config):
    """Files of the bAbI tasks (Weston et al. 2015), plain or .gz, relative to the data directory."""

    kind: Literal["babi"] = "babi"
    train: str
    """Training file."""
    dev: str | None = None
    """null: every tenth story of train is held out."""
    test: TestSets
    """Test sets: name -> file."""


StoryData = Annotated[GeneratedStories | Babi, Field(discriminator="kind")]


class StoryQA(Config):
    """Answer a question about a story in one word; scored by accuracy and by the attention on the gold facts."""

    models: ClassVar[tuple[str, ...]] = ("memory_network", "transformer_story_reader")
    kind: Literal["story_qa"] = "story_qa"
    data: StoryData = GeneratedStories()
    """Where the examples come from."""
    memory: PositiveInt = 50
    """Sentences that are kept, the latest ones (Sukhbaatar et al. 2015 keep 50); what is cut is counted and said."""

    def incompatibility(self, model: Any) -> str | None:
        """Return why a model cannot be trained on the task, or None."""
        if model.kind not in self.models:
            return f"model.kind {model.kind} cannot answer about stories; valid: {', '.join(self.models)}"
        return None

    def tiny(self) -> Self:
        """Shrink the data."""
        return self.replace(data=self.data.tiny())

"""Questions about passages, as readers hand them on, and which answers a model is trained to point at."""

from collections import Counter
from dataclasses import dataclass

from attnlab.data.records import Span


@dataclass(frozen=True)
class Answer:
    """A right answer; `start` is where it stands in the passage, in characters."""

    text: str
    start: int
    certain: bool = True
    """False where `start` was guessed among several places."""

    @property
    def span(self) -> Span:
        """Where the answer stands."""
        return self.start, self.start + len(self.text)


@dataclass(frozen=True)
class Question:
    """A question about a passage; without answers it has none there."""

    id: str
    question: str
    passage: str
    answers: tuple[Answer, ...]

    @property
    def target(self) -> Answer | None:
        """The answer to be trained on: of the certain ones that stand where they say the most frequent, the first of
        several; where none is certain, so of the guessed ones. None where there is none.

        >>> Question("", "?", "a b a", (Answer("a", 4, False), Answer("b", 2))).target
        Answer(text='b', start=2, certain=True)
        """
        standing = [one for one in self.answers if self.passage.startswith(one.text, one.start) and one.text]
        chosen = [one for one in standing if one.certain] or standing
        counts = Counter(one.span for one in chosen)
        return max(chosen, key=lambda one: counts[one.span], default=None)

"""Examples of story question answering: questions about stories."""

from dataclasses import dataclass


@dataclass(frozen=True)
class StoryQuestion:
    """A story, a question about it, its one-word answer, and the supporting facts: ascending indices of sentences."""

    sentences: tuple[str, ...]
    question: str
    answer: str
    facts: tuple[int, ...]

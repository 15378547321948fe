"""Questions about passages, as readers hand them on, and which answers a model is trained to point at."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from attnlab.config.errors import UserError
from attnlab.data.records import Span


@dataclass(frozen=True)
class AnswerSpan:
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
class PassageQuestion:
    """A question about a passage; without answers it has none there."""

    id: str
    question: str
    passage: str
    answers: tuple[AnswerSpan, ...]

    @property
    def target(self) -> AnswerSpan | None:
        """The answer to be trained on: of the certain ones that stand where they say the most frequent, the first of
        several; where none is certain, so of the guessed ones. None where there is none.

        >>> PassageQuestion("", "?", "a b a", (AnswerSpan("a", 4, False), AnswerSpan("b", 2))).target
        AnswerSpan(text='b', start=2, certain=True)
        """
        standing = [one for one in self.answers if self.passage.startswith(one.text, one.start) and one.text]
        chosen = [one for one in standing if one.certain] or standing
        counts = Counter(one.span for one in chosen)
        return max(chosen, key=lambda one: counts[one.span], default=None)


def parse_answer(text: object, start: object, where: str, certain: bool = True) -> AnswerSpan:
    """Make an answer of what a file says of it, after checks.

    Args:
        text: the answer.
        start: where it stands in the passage, in characters from 0 on.
        where: what stands before the name of a field in an error, such as `FILE: data[0].…answers[0].`.
        certain: whether `start` is known rather than guessed.
    Raises:
        UserError: it is no text, or its place is no whole number from 0 on.
    """
    if not isinstance(text, str):
        raise UserError(f"{where}text: is {type(text).__name__}, not text")
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < 2**31:
        raise UserError(
            f"{where}answer_start: expected a number of characters from 0 on, not {repr(start)[:40]}; "
            "no answer at all says that there is none"
        )
    return AnswerSpan(text, start, certain)


def parse_id(given: object, where: str) -> str:
    """Take the name (`id`) of a question, text or a number; without one it is called by where it stands."""
    if given is None:
        return where
    if isinstance(given, bool) or not isinstance(given, str | int):
        raise UserError(f"{where}: the id is {type(given).__name__}; expected text or a number")
    return str(given)


def refuse_repeated_ids(questions: Iterable[PassageQuestion], where: str) -> None:
    """Refuse a part in which two questions have one name, by which answers are told apart (as in SQuAD's program)."""
    counts = Counter(question.id for question in questions)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise UserError(
            f"{where}: {counts[repeated[0]]} questions have the id {repeated[0][:80]!r}"
            f"{f', and {len(repeated) - 1:,} more ids are not single' if repeated[1:] else ''}; give each its own"
        )


def unique_ids(names: Iterable[str]) -> list[str]:
    """Number the names that come again, as SubjQA's do, where several people answered.

    >>> unique_ids(["a", "b", "a", "a"])
    ['a', 'b', 'a#2', 'a#3']
    """
    found: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for name in names:
        free = name
        while free in found:
            counts[name] += 1
            free = f"{name}#{counts[name] + 1}"
        found[free] = None
    return list(found)

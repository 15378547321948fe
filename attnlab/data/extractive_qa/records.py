"""Examples of extractive question answering: questions about passages, and the answers that a model is trained on."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from attnlab.config.errors import UserError
from attnlab.data.records import Span


@dataclass(frozen=True)
class AnswerSpan:
    """A correct answer; `start` is its offset in the passage, in characters."""

    text: str
    start: int
    certain: bool = True
    """False if `start` was guessed among several occurrences."""

    @property
    def span(self) -> Span:
        """Return the span of the answer in the passage."""
        return self.start, self.start + len(self.text)


@dataclass(frozen=True)
class PassageQuestion:
    """A question about a passage; without answers it is unanswerable."""

    id: str
    question: str
    passage: str
    answers: tuple[AnswerSpan, ...]

    @property
    def target(self) -> AnswerSpan | None:
        """Return the answer to train on, or None: the most frequent answer that matches the passage at its start.

        Answers with a guessed start are considered only if there are no others; of equally frequent ones the first is
        returned.

        >>> PassageQuestion("", "?", "a b a", (AnswerSpan("a", 4, False), AnswerSpan("b", 2))).target
        AnswerSpan(text='b', start=2, certain=True)
        """
        matching = [a for a in self.answers if a.text and self.passage.startswith(a.text, a.start)]
        candidates = [answer for answer in matching if answer.certain] or matching
        counts = Counter(answer.span for answer in candidates)
        return max(candidates, key=lambda answer: counts[answer.span], default=None)


def parse_answer(text: object, start: object, where: str, certain: bool = True) -> AnswerSpan:
    """Return an answer from the fields of a file, after checks.

    Args:
        text: the answer.
        start: its offset in the passage, in characters from 0 on.
        where: prefix of the name of a field in an error, such as `FILE: data[0].…answers[0].`.
        certain: whether `start` is known rather than guessed.
    Raises:
        UserError: `text` is not text, or `start` is not an integer of at least 0.
    """
    if not isinstance(text, str):
        raise UserError(f"{where}text: is {type(text).__name__}, not text")
    if not isinstance(start, int) or isinstance(start, bool) or not 0 <= start < 2**31:
        raise UserError(
            f"{where}answer_start: expected a number of characters from 0 on, not {repr(start)[:40]}; "
            "an unanswerable question has no answers"
        )
    return AnswerSpan(text, start, certain)


def parse_id(value: object, where: str) -> str:
    """Return the id of a question, which is text or an integer; without an id, return `where`."""
    if value is None:
        return where
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise UserError(f"{where}: the id is {type(value).__name__}; expected a string or an integer")
    return str(value)


def refuse_repeated_ids(questions: Iterable[PassageQuestion], where: str) -> None:
    """Raise if two questions have the same id, which identifies the answers in SQuAD's evaluation script."""
    counts = Counter(question.id for question in questions)
    if repeated := [name for name, count in counts.items() if count > 1]:
        raise UserError(
            f"{where}: {counts[repeated[0]]} questions have the id {repeated[0][:80]!r}"
            f"{f', and {len(repeated) - 1:,} more ids are repeated' if repeated[1:] else ''}; ids must be unique"
        )


def unique_ids(names: Iterable[str]) -> list[str]:
    """Add numbers to repeated ids, such as those of SubjQA, where several people answered a question.

    >>> unique_ids(["a", "b", "a", "a"])
    ['a', 'b', 'a#2', 'a#3']
    """
    ids: dict[str, None] = {}
    counts: Counter[str] = Counter()
    for name in names:
        unused = name
        while unused in ids:
            counts[name] += 1
            unused = f"{name}#{counts[name] + 1}"
        ids[unused] = None
    return list(ids)

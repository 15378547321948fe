"""Read Yelp-HAT: restaurant reviews in which several people marked the words that speak for their judgment.

A line of a file is an object with `text`, `tokens` (the words of the text between white space), `maps` (the marks of
each annotator, 0 or 1 a word) and `annotator_labels` ("yes" for positive, "no" for negative, anything else for no
judgment). The label of a review is the one that more than half of its annotators chose; a word is evidence if more than
half of them marked it.

Reference: Sen, Hartvigsen, Yin, Kong & Rundensteiner 2020, "Human attention maps for text classification".
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from attnlab.config.errors import UserError
from attnlab.config.json_text import parse
from attnlab.data import directory
from attnlab.data.classification.records import LabeledText
from attnlab.data.records import EvaluationSet, Span
from attnlab.data.text.lines import find, read_lines, refuse_broken

NAME = "yelp_hat"
FILES = {part: f"{NAME}/yelp-hat-{part}.jsonl" for part in ("50", "100", "part7")}
"""The parts, which differ in the length of the reviews and in their annotators."""
CHOICES = {"no": "negative", "yes": "positive"}
"""The class that each answer of an annotator means."""
LEAST_ANNOTATORS = 2
"""Fewest annotators of a review: what one person marks is no agreement."""
EXPECTED = 'an object such as {"text": "Fine!", "tokens": ["Fine!"], "maps": [[1]], "annotator_labels": ["yes"]}'


class Review(NamedTuple):
    """A review with the marks of all its annotators."""

    text: str
    maps: tuple[tuple[int, ...], ...]
    choices: tuple[str, ...]
    stars: str
    """The class that the stars of the review mean; "" if the file does not say."""

    @property
    def label(self) -> str | None:
        """The class that more than half of the annotators chose; None if there is none."""
        ((choice, count),) = Counter(self.choices).most_common(1)
        return CHOICES.get(choice) if 2 * count > len(self.choices) else None

    @property
    def evidence(self) -> tuple[Span, ...]:
        """The spans of the words that more than half of the annotators marked."""
        words = word_spans(self.text)
        return tuple(
            span for span, marks in zip(words, zip(*self.maps, strict=True), strict=True) if 2 * sum(marks) > len(marks)
        )


def readers(labels: Sequence[str]) -> dict[str, Callable[[Path | None], EvaluationSet[LabeledText]]]:
    """Return the function that reads each set of reviews: all of them, and its parts.

    Args:
        labels: the classes of a model.
    """
    parts = {f"{NAME}_{part}": (part,) for part in FILES}
    return {name: partial(read, chosen, labels) for name, chosen in ({NAME: tuple(FILES)} | parts).items()}


def read(parts: Sequence[str], labels: Sequence[str], data_dir: Path | None) -> EvaluationSet[LabeledText]:
    """Read the reviews of some parts, with the labels and the evidence that most annotators agree on.

    Args:
        parts: keys of `FILES`.
        labels: the two classes of a model, negative and positive.
        data_dir: directory of the datasets.
    Raises:
        UserError: a file is missing or broken, or the model has other classes.
    """
    names = _class_names(labels)
    folder = directory.require(data_dir, f"--split {NAME}", FILES[parts[0]])
    reviews = [review for part in parts for review in read_reviews(find(folder, FILES[part]))]
    several = [review for review in reviews if len(review.maps) >= LEAST_ANNOTATORS]
    kept = [review for review in several if review.label is not None]
    examples = tuple(LabeledText(r.text, names[r.label or ""], evidence=r.evidence) for r in kept)
    unmarked = sum(not example.evidence for example in examples)
    other = sum(review.stars not in ("", review.label) for review in kept)
    notes = (
        f"{len(reviews):,} reviews, of which {len(examples):,} are used; left out: {len(several) - len(kept):,} "
        f"without a label that most annotators chose, {len(reviews) - len(several):,} with a single annotator",
        f"{unmarked:,} of them have no word that most annotators marked: they count for the task's metrics alone; "
        f"{other:,} have another label than their stars",
    )
    return EvaluationSet(examples, notes)


def read_reviews(path: Path) -> list[Review]:
    """Read the reviews of a file; the first invalid line is an error that names it."""
    return [parse_review(line, f"{path}:{number}") for number, line in enumerate(read_lines(path), start=1)]


def parse_review(line: str, where: str) -> Review:
    """Parse a line; runs of white space in the text become a single space.

    Args:
        line: the object.
        where: file and line, for the error.
    """
    row = parse(line, where, f"expected {EXPECTED}")
    if not isinstance(row, dict) or not isinstance(row.get("text"), str) or not row["text"].split():
        raise UserError(f"{where}: expected {EXPECTED}")
    words = row["text"].split()
    tokens, maps, choices = (_list(row, name, where) for name in ("tokens", "maps", "annotator_labels"))
    if len(tokens) != len(words):
        raise UserError(f"{where}: {len(tokens)} tokens, but the text has {len(words)} words between white space")
    if not maps or len(maps) != len(choices):
        raise UserError(f"{where}: {len(maps)} maps and {len(choices)} annotator_labels; expected one of each a person")
    for number, marks in enumerate(maps, start=1):
        if not isinstance(marks, list) or len(marks) != len(words) or any(mark not in (0, 1) for mark in marks):
            raise UserError(f"{where}: map {number} is not {len(words)} numbers 0 or 1, one for each word")
    refuse_broken(text := " ".join(words), where)
    stars = next((name for number, name in enumerate(CHOICES.values()) if row.get("label") == number), "")
    return Review(text, tuple(map(tuple, maps)), tuple(map(str, choices)), stars)


def word_spans(text: str) -> list[Span]:
    """Return the spans of the words of a text with single spaces.

    >>> word_spans("a fine day")
    [(0, 1), (2, 6), (7, 10)]
    """
    spans, start = [], 0
    for word in text.split(" "):
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def _list(row: Mapping[str, Any], name: str, where: str) -> list[Any]:
    if not isinstance(row.get(name), list):
        raise UserError(f"{where}: {name!r} is not a list; expected {EXPECTED}")
    return row[name]


def _class_names(labels: Sequence[str]) -> dict[str, str]:
    """Return the name that the model has for each class of the reviews."""
    found = {label.casefold(): label for label in labels}
    if set(found) != set(CHOICES.values()) or len(labels) != len(found):
        raise UserError(
            f"--split {NAME}: the reviews are negative or positive, and the classes of the run are "
            f"{', '.join(labels)[:200]}; it needs a run with the classes negative and positive (task.data.label_names)"
        )
    return found

"""Examples of classification: labeled texts, and the splits of a dataset with the order of its classes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches

from attnlab.config.errors import UserError
from attnlab.data.labels import parse_label
from attnlab.data.records import ANNOTATION, Span, Splits
from attnlab.data.text.letters import composed


@dataclass(frozen=True)
class LabeledText:
    """A text and its label.

    Attributes:
        text: the text.
        label: the name of its class; "" if it is unknown.
        rationale: the spans that determine the label, by the construction of the text; None if unknown.
        evidence: the words that people give as reasons for the label, a span each; None if nobody was asked.
    """

    text: str
    label: str
    rationale: tuple[Span, ...] | None = None
    evidence: tuple[Span, ...] | None = field(default=None, metadata=ANNOTATION)

    @property
    def marked(self) -> tuple[Span, ...] | None:
        """The spans that are marked as reasons for the label; None if nothing is known of them."""
        return self.evidence if self.rationale is None else self.rationale


@dataclass(frozen=True)
class LabeledTextSplits(Splits[LabeledText]):
    """The splits of a classification dataset, and its classes in order."""

    labels: tuple[str, ...]


def labeled_splits(
    splits: Mapping[str, Sequence[LabeledText]], places: Mapping[str, str], names: Mapping[str, str], dev_share: float
) -> LabeledTextSplits:
    """Return splits with ordered labels (numbers by value, others alphabetically), replaced by their names.

    Args:
        splits: "train", optionally "dev", and the test sets.
        places: file or dataset of each split, for errors.
        names: name of the class of each label; labels with the same name become one class.
        dev_share: fraction of train that is held out if there is no "dev".

    Raises:
        UserError: a split has a label that is not in train, or there are fewer than two classes or too few texts.
    """
    known = {example.label for example in splits["train"]}
    for name, examples in splits.items():
        for example in examples:
            if example.label not in known:
                label, valid = example.label[:80], [name[:80] for name in sorted(known)]
                near = get_close_matches(label, valid, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"{places[name]}: the label {label!r} is not in train ({', '.join(valid[:8])}){hint}")
    numbers = all(label.isascii() and label.isdecimal() for label in known)
    ordered = sorted(known, key=_size if numbers else None)
    names = {
        composed(label): parse_label(name, f"the name of {label!r} (task.data.label_names)")
        for label, name in names.items()
    }
    labels = tuple(dict.fromkeys(names.get(label, label) for label in ordered))
    if len(labels) < 2:
        raise UserError(f"{places['train']}: the only labels are {list(labels)!r}; expected at least two classes")
    named = {
        split: tuple(replace(example, label=names.get(example.label, example.label)) for example in examples)
        for split, examples in splits.items()
    }
    train, dev = named.pop("train"), named.pop("dev", None)
    if dev is None:
        texts, distinct = len(train), len({example.text for example in train})
        train, dev = hold_out(train, dev_share)
        if not (train and dev):
            raise UserError(
                f"{places['train']}: {texts:,} texts ({distinct:,} distinct) are too few to hold out {dev_share:.0%} "
                "for dev, as equal texts stay together; set task.data.dev"
            )
    return LabeledTextSplits(train, dev, named, labels=labels)


def _size(number: str) -> tuple[int, str]:
    """Return the sort key of an integer of any length; of equal integers the shorter text comes first."""
    digits = number.lstrip("0")
    return len(digits), f"{digits} {len(number)}"


def hold_out(examples: Iterable[LabeledText], share: float) -> tuple[tuple[LabeledText, ...], tuple[LabeledText, ...]]:
    """Split examples into train and dev by a hash of the text, so that equal texts stay together.

    >>> train, dev = hold_out([LabeledText(str(n), "") for n in range(1000)], 0.1)
    >>> len(train), len(dev)
    (894, 106)
    """
    parts: tuple[list[LabeledText], list[LabeledText]] = ([], [])
    for example in examples:
        digest = hashlib.sha256(example.text.encode("utf-8", "surrogatepass")).digest()
        parts[int.from_bytes(digest[:8], "big") < share * 2**64].append(example)
    return tuple(parts[0]), tuple(parts[1])

"""Labeled texts, and the splits of a classification data set with the order of the classes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from attnlab.config.errors import UserError
from attnlab.data.labels import parse_label
from attnlab.data.records import Span, Splits
from attnlab.data.text.letters import composed


@dataclass(frozen=True)
class LabeledText:
    """A text and its label; `rationale` holds the spans of the text that decide the label, None where unknown."""

    text: str
    label: str
    rationale: tuple[Span, ...] | None = None


@dataclass(frozen=True)
class LabeledTextSplits(Splits[LabeledText]):
    """The splits of a classification data set, and the classes in their order."""

    labels: tuple[str, ...]


def labeled_splits(
    splits: Mapping[str, Sequence[LabeledText]], places: Mapping[str, str], names: Mapping[str, str], dev_share: float
) -> LabeledTextSplits:
    """Assemble splits: order the labels (numbers by size, others alphabetically) and give them their names.

    Args:
        splits: "train", optionally "dev", and the test sets.
        places: name of each split -> the file or dataset that it comes from, for errors.
        names: label -> name of its class; labels with the same name become one class.
        dev_share: fraction of train that is held out where there is no "dev".

    Raises:
        UserError: a split has a label that is not in train, there are fewer than two classes, or too few texts.
    """
    known = {example.label for example in splits["train"]}
    for name, examples in splits.items():
        for example in examples:
            if example.label not in known:
                label, there = example.label[:80], [one[:80] for one in sorted(known)]
                near = get_close_matches(label, there, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"{places[name]}: the label {label!r} is not in train ({', '.join(there[:8])}){hint}")
    numbers = all(label.isascii() and label.isdecimal() for label in known)
    ordered = sorted(known, key=_size if numbers else None)
    names = {
        composed(label): parse_label(name, f"the name of {label!r} (task.data.label_names)")
        for label, name in names.items()
    }
    labels = tuple(dict.fromkeys(names.get(label, label) for label in ordered))
    if len(labels) < 2:
        raise UserError(f"{places['train']}: there are no labels but {list(labels)!r}; two classes at least are needed")
    named = {
        split: tuple(replace(example, label=names.get(example.label, example.label)) for example in examples)
        for split, examples in splits.items()
    }
    train, dev = named.pop("train"), named.pop("dev", None)
    if dev is None:
        texts, different = len(train), len({example.text for example in train})
        train, dev = hold_out(train, dev_share)
        if not (train and dev):
            raise UserError(
                f"{places['train']}: {texts:,} texts, {different:,} different ones among them, are too few to hold out "
                f"{dev_share:.0%} for dev (equal texts stay together); name a file in task.data.dev"
            )
    return LabeledTextSplits(train, dev, named, labels=labels)


def _size(number: str) -> tuple[int, str]:
    """Return a sort key of a whole number of any length; of equal numbers the shorter text comes first."""
    digits = number.lstrip("0")
    return len(digits), f"{digits} {len(number)}"


def hold_out(examples: Iterable[LabeledText], share: float) -> tuple[tuple[LabeledText, ...], tuple[LabeledText, ...]]:
    """Split examples into train and dev by a hash of the text, so that equal texts stay together on every machine.

    >>> train, dev = hold_out([LabeledText(str(n), "") for n in range(1000)], 0.1)
    >>> len(train), len(dev)
    (894, 106)
    """
    parts: tuple[list[LabeledText], list[LabeledText]] = ([], [])
    for example in examples:
        digest = hashlib.sha256(example.text.encode("utf-8", "surrogatepass")).digest()
        parts[int.from_bytes(digest[:8], "big") < share * 2**64].append(example)
    return tuple(parts[0]), tuple(parts[1])

"""Texts with labels: the record that readers and generators hand on, and the labels' order."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from attnlab.config.errors import UserError
from attnlab.data.records import Span, Splits


@dataclass(frozen=True)
class Labelled:
    """A text and its class; `rationale` are the pieces of the text that decide it, None where that is not known."""

    text: str
    label: str
    rationale: tuple[Span, ...] | None = None


@dataclass(frozen=True)
class LabelledTexts(Splits[Labelled]):
    """All splits of a classification, and the classes in their order."""

    labels: tuple[str, ...]


def assembled(
    splits: Mapping[str, Sequence[Labelled]], places: Mapping[str, str], names: Mapping[str, str], dev_share: float
) -> LabelledTexts:
    """Put splits together: labels of train in order (numbers by size, others by the alphabet) and by their names.

    Args:
        splits: "train", perhaps "dev", and the test sets; a label that train lacks is refused.
        places: name of a split -> where it was read.
        names: label -> what it is called; labels of one name become one class.
        dev_share: of train, held out where there is no "dev".
    """
    known = {example.label for example in splits["train"]}
    for name, examples in splits.items():
        for example in examples:
            if example.label not in known:
                few = ", ".join(sorted(known)[:8])
                raise UserError(f"{places[name]}: the label {example.label!r} is not in train ({few})")
    numbers = all(label.isascii() and label.isdecimal() for label in known)
    ordered = sorted(known, key=int) if numbers else sorted(known)
    labels = tuple(dict.fromkeys(names.get(label, label) for label in ordered))
    if len(labels) < 2:
        raise UserError(f"{places['train']}: there are no labels but {list(labels)!r}; two classes at least are needed")
    named = {
        split: tuple(replace(example, label=names.get(example.label, example.label)) for example in examples)
        for split, examples in splits.items()
    }
    train, dev = named.pop("train"), named.pop("dev", None)
    if dev is None:
        train, dev = hold_out(train, dev_share)
        if not (train and dev):
            raise UserError(f"{places['train']}: too few texts to hold out {dev_share:.0%} for dev")
    return LabelledTexts(train, dev, named, labels=labels)


def hold_out(examples: Iterable[Labelled], share: float) -> tuple[tuple[Labelled, ...], tuple[Labelled, ...]]:
    """Divide into train and dev by a hash of the text alone, so that equal texts stay together, on any machine.

    >>> train, dev = hold_out([Labelled(str(n), "") for n in range(1000)], 0.1)
    >>> len(train), len(dev)
    (894, 106)
    """
    parts: tuple[list[Labelled], list[Labelled]] = ([], [])
    for example in examples:
        digest = hashlib.sha256(example.text.encode("utf-8", "surrogatepass")).digest()
        parts[int.from_bytes(digest[:8], "big") < share * 2**64].append(example)
    return tuple(parts[0]), tuple(parts[1])

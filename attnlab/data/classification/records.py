"""Texts with labels: the record that readers and generators hand on, and the labels' order."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from attnlab.config.errors import UserError
from attnlab.data.records import Span, Splits
from attnlab.data.text.letters import attached, composed

_NEGATIVE = re.compile(r"-\d+")
_UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of controls, marks of direction, separators of lines and paragraphs, and half characters."""


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
                label, there = example.label[:80], [one[:80] for one in sorted(known)]
                near = get_close_matches(label, there, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else ""
                raise UserError(f"{places[name]}: the label {label!r} is not in train ({', '.join(there[:8])}){hint}")
    numbers = all(label.isascii() and label.isdecimal() for label in known)
    ordered = sorted(known, key=_size if numbers else None)
    names = {
        composed(label): class_name(name, f"the name of {label!r} (task.data.names)") for label, name in names.items()
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
    return LabelledTexts(train, dev, named, labels=labels)


def class_name(given: object, where: str) -> str:
    """Take a label as the name of a class: on one line, blanks around it taken away, its letters composed.

    Args:
        given: text or a whole number from 0 on.
        where: file, line and column, for the error.

    >>> class_name(" very  good ", "here"), class_name(1, "here")
    ('very good', '1')
    """
    name = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
    shown = ascii(given) if isinstance(given, str) and not given.isprintable() else repr(given)
    if not name or _NEGATIVE.fullmatch(name):
        raise UserError(f"{where} is {shown[:80]}; expected a name or a whole number from 0 on")
    if unseen := [character for character in name if _unseen(character)]:
        plain = "".join(character if not _unseen(character) else " " for character in name)
        raise UserError(
            f"{where} is {shown[:80]}: U+{ord(unseen[0]):04X} in it cannot be seen, or breaks its line; "
            f"{' '.join(plain.split())[:80]!r} would be right"
        )
    return composed(" ".join(name.split()))


def _unseen(character: str) -> bool:
    plain = character == " " or attached(character)
    return not plain and (character.isspace() or unicodedata.category(character) in _UNSEEN)


def _size(number: str) -> tuple[int, str]:
    """Order whole numbers by their size, however many digits they have; of equal ones the shorter comes first."""
    digits = number.lstrip("0")
    return len(digits), f"{digits} {len(number)}"


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

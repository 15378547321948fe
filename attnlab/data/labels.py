"""Parse the labels of classes, and answers that a model predicts as classes."""

import re
import unicodedata

from attnlab.config.errors import UserError
from attnlab.data.text.letters import attached, composed

_NEGATIVE = re.compile(r"-\d+")
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of control characters, direction marks, line and paragraph separators, and surrogates."""


def parse_label(label: object, where: str) -> str:
    """Return a label without surrounding spaces and runs of spaces, with composed characters (NFC).

    Args:
        label: text, or an integer of at least 0.
        where: file, line and column, for the error.

    Raises:
        UserError: the label is empty, negative, neither text nor an integer, or contains invisible characters.

    >>> parse_label(" very  good ", "here"), parse_label(1, "here")
    ('very good', '1')
    """
    name = str(label).strip() if isinstance(label, str | int) and not isinstance(label, bool) else ""
    quoted = ascii(label) if isinstance(label, str) and not label.isprintable() else repr(label)
    if not name or _NEGATIVE.fullmatch(name):
        raise UserError(f"{where} is {quoted[:80]}; expected a name or an integer of at least 0")
    if invisible := [character for character in name if _invisible(character)]:
        plain = "".join(character if not _invisible(character) else " " for character in name)
        raise UserError(
            f"{where} is {quoted[:80]}, which contains the invisible character U+{ord(invisible[0]):04X}; "
            f"did you mean {' '.join(plain.split())[:80]!r}?"
        )
    return composed(" ".join(name.split()))


def _invisible(character: str) -> bool:
    plain = character == " " or attached(character)
    return not plain and (character.isspace() or unicodedata.category(character) in _INVISIBLE)

"""Labels of classes, and answers that a model chooses among like classes."""

import re
import unicodedata

from attnlab.config.errors import UserError
from attnlab.data.text.letters import attached, composed

_NEGATIVE = re.compile(r"-\d+")
_INVISIBLE = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode categories of controls, direction marks, separators of lines and paragraphs, and surrogates."""


def parse_label(given: object, where: str) -> str:
    """Normalize a label: strip it, collapse runs of spaces, and compose its letters (NFC).

    Args:
        given: text or a whole number from 0 on.
        where: file, line and column, for the error.

    Raises:
        UserError: the label is empty, negative, not a text or whole number, or holds invisible characters.

    >>> parse_label(" very  good ", "here"), parse_label(1, "here")
    ('very good', '1')
    """
    name = str(given).strip() if isinstance(given, str | int) and not isinstance(given, bool) else ""
    shown = ascii(given) if isinstance(given, str) and not given.isprintable() else repr(given)
    if not name or _NEGATIVE.fullmatch(name):
        raise UserError(f"{where} is {shown[:80]}; expected a name or a whole number from 0 on")
    if invisible := [character for character in name if _invisible(character)]:
        plain = "".join(character if not _invisible(character) else " " for character in name)
        raise UserError(
            f"{where} is {shown[:80]}: U+{ord(invisible[0]):04X} in it cannot be seen, or breaks its line; "
            f"{' '.join(plain.split())[:80]!r} would be right"
        )
    return composed(" ".join(name.split()))


def _invisible(character: str) -> bool:
    plain = character == " " or attached(character)
    return not plain and (character.isspace() or unicodedata.category(character) in _INVISIBLE)

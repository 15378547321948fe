"""Text as it is displayed: printable characters and the direction of reading."""

import unicodedata
from collections.abc import Iterable

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Unicode control characters that change the direction of text."""


def printable(text: str, keep: str = "") -> str:
    """Replace control characters, lone surrogates and direction marks by `�`, except the characters of `keep`."""
    return "".join("�" if _is_hidden(character) and character not in keep else character for character in text)


def direction(tokens: Iterable[str]) -> str:
    """Return the reading direction of tokens, which is that of the first letter with a direction.

    >>> direction(["12", "שלום"]), direction(["Haus"])
    ('rtl', 'ltr')
    """
    kinds = (unicodedata.bidirectional(character) for token in tokens for character in token)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS

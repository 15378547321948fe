"""Letters written in several characters: which characters belong to the one before, and the composed spelling (NFC).

`ë` may be one character or an `e` with U+0308 after it, and 한 one character or three jamo; the two spellings are the
same text (Unicode Standard Annex 15). Texts that are only read, written or compared are composed where they enter.
Passages that answers are cut from stay as they are, so that offsets count in the original.
"""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner: they shape the letter before (the end of a Malayalam chillu)."""


def composed(text: str) -> str:
    """Write each letter in as few characters as Unicode has for it (NFC).

    >>> composed("Zoe\\u0308") == "Zo\\u00eb"
    True
    """
    return unicodedata.normalize("NFC", text)


def attached(character: str) -> bool:
    """Tell whether a character is a part of the letter before it: a mark, a jamo that is no initial, or a joiner.

    >>> [attached(character) for character in "e\\u0308\\u0e35\\u1161a"]
    [False, True, True, True, False]
    """
    return (
        unicodedata.category(character).startswith("M")
        or "\u1160" <= character <= "\u11ff"
        or "\ud7b0" <= character <= "\ud7ff"
        or character in _JOINERS
    )


_PLACES = (*range(0x300, 0x1F000), *range(0xE0100, 0xE01F0))
MARKS = "".join(character for character in map(chr, _PLACES) if attached(character))
"""All attached characters, to be put into a class of a regular expression; Python's `\\w` has few of them."""

WORD = rf"\w[\w{MARKS}]*"
"""Regular expression of a word with its marks: `\\w+` makes three words of हिन्दी, and none whole of ที่นี่."""

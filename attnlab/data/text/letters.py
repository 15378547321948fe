"""Letters of several characters: which characters belong to the letter before, and composition (NFC).

`ë` may be one character or an `e` followed by U+0308, and 한 one character or three jamo; both are the same text
(Unicode Standard Annex 15). Texts are composed when they are loaded, except passages with answer spans, so that offsets
refer to the original passage.
"""

import unicodedata

_JOINERS = "\u200c\u200d"
"""Zero width non-joiner and joiner, which shape the letter before, such as the end of a Malayalam chillu."""


def composed(text: str) -> str:
    """Return text with composed characters (NFC).

    >>> composed("Zoe\\u0308") == "Zo\\u00eb"
    True
    """
    return unicodedata.normalize("NFC", text)


def attached(character: str) -> bool:
    """Return whether a character is part of the letter before it: a mark, a jamo that is not an initial, or a joiner.

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
"""All attached characters, for a character class of a regular expression; Python's `\\w` lacks most of them."""

WORD = rf"\w[\w{MARKS}]*"
"""Regular expression of a word with its marks; `\\w+` would split हिन्दी and ที่นี่ into several words."""

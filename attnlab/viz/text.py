"""Text in pictures and on pages: printable characters, reading direction, headings, and unknown words."""

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from attnlab.tasks.attention_map import AnyAttentionMap

DIRECTIONS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Unicode characters that change the direction of the text after them, or end that."""
CAVEAT = "Attention is not an explanation"
CAVEAT_DETAILS = (
    "a weight is the share of a state in an average, not how much the prediction depends on it "
    "(docs/attention/explanation.md)"
)


def heading(attention_map: AnyAttentionMap) -> str:
    """Return the lines above a picture: the question, if there is one, the prediction, and the reference."""
    known = f"    (reference: {attention_map.reference})" if attention_map.reference else ""
    if attention_map.question:
        return f"Q: {attention_map.question}\nA: {attention_map.prediction}{known}"
    return f"{attention_map.prediction}{known}"


def contains_word(text: str, words: Collection[str]) -> bool:
    """Return whether a token is one of the words, or a sentence contains one of them.

    >>> contains_word("Amira went to the garden.", {"garden"}), contains_word("gardens", {"garden"})
    (True, False)
    """
    return text in words or any(word in words for word in re.findall(r"\w+", text))


def unknown_words_message(words: Sequence[str], most: int = 10) -> str:
    """Return a line that names the words outside the model's vocabulary; empty for none.

    >>> unknown_words_message(["garden", "orchard"])
    'not in the vocabulary, read as unknown: garden, orchard'
    """
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return f"not in the vocabulary, read as unknown: {', '.join(words[:most])}{more}" if words else ""


def printable(text: str, keep: str = "") -> str:
    """Replace control characters, half surrogates and marks that change the text direction with `�`, except `keep`."""
    return "".join("�" if _is_hidden(character) and character not in keep else character for character in text)


def direction(tokens: Iterable[str]) -> str:
    """Return the direction in which tokens follow one another: that of the first letter that has one.

    >>> direction(["12", "שלום"]), direction(["Haus"])
    ('rtl', 'ltr')
    """
    kinds = (unicodedata.bidirectional(character) for token in tokens for character in token)
    return "rtl" if next((kind for kind in kinds if kind in ("L", "R", "AL")), "L") != "L" else "ltr"


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in ("Cc", "Cs") or character in DIRECTIONS

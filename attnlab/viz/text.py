"""Text in pictures and on pages: headings, unknown words, and the caveat."""

import re
from collections.abc import Collection, Sequence

from attnlab.tasks.attention_map import AnyAttentionMap

CAVEAT = "Attention is not an explanation"
CAVEAT_DETAILS = (
    "a weight is the share of a state in a weighted mean, not a measure of its effect on the prediction "
    "(docs/attention/explanation.md)"
)


def caveat() -> str:
    """Return the note that stands below every picture of attention.

    >>> caveat()[:32]
    'Attention is not an explanation:'
    """
    return f"{CAVEAT}: {CAVEAT_DETAILS}."


def heading(attention_map: AnyAttentionMap) -> str:
    """Return the heading of a picture: the question, if any, the prediction, and the reference."""
    known = f"    (reference: {attention_map.reference})" if attention_map.reference else ""
    if attention_map.question:
        return f"Q: {attention_map.question}\nA: {attention_map.prediction}{known}"
    return f"{attention_map.prediction}{known}"


def contains_word(text: str, words: Collection[str]) -> bool:
    """Return whether a text is one of the words or contains one of them as a whole word.

    >>> contains_word("Amira went to the garden.", {"garden"}), contains_word("gardens", {"garden"})
    (True, False)
    """
    return text in words or any(word in words for word in re.findall(r"\w+", text))


def unknown_words_message(words: Sequence[str], limit: int = 10) -> str:
    """Return a message that names words outside the vocabulary, at most `limit` of them; empty for none.

    >>> unknown_words_message(["garden", "orchard"])
    'not in the vocabulary, replaced by the unknown token: garden, orchard'
    """
    more = f" and {len(words) - limit} more" if len(words) > limit else ""
    return f"not in the vocabulary, replaced by the unknown token: {', '.join(words[:limit])}{more}" if words else ""

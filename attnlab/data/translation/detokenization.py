"""Text as it is usually written from the words of a tokenized sentence, with the place of each word in it."""

from collections.abc import Sequence

from attnlab.data.records import Span

NO_SPACE_BEFORE = frozenset(",.;:!?)]}…")
NO_SPACE_AFTER = frozenset("([{¿¡")
QUOTES = frozenset("\"'„“”‚‘’«»")
"""Marks that open a quotation and close it; which of both depends on the language, so that the first one opens."""
SUFFIXES = frozenset(
    f"{apostrophe}{ending}" for apostrophe in "'’" for ending in ("s", "t", "re", "ve", "ll", "d", "m")
) | {"n't", "n’t"}
"""The ends of English contractions and possessives that tokenizers separate."""


def detokenize(words: Sequence[str]) -> tuple[str, list[Span]]:
    """Join words and punctuation marks to the text that a tokenizer has split, as far as that can be known.

    No space is written before , . ; : ! ? and closing brackets, after opening brackets, inside quotation marks, or
    before 's, n't and the like. Spaces around hyphens, slashes and percent signs stay.

    Args:
        words: the words of the sentence, punctuation marks among them; none is empty.
    Returns: the text, and the (start, end) of each word in it.

    >>> detokenize(["Das", ",", "was", "\\"", "wir", "\\"", "sagen", "."])
    ('Das, was "wir" sagen.', [(0, 3), (3, 4), (5, 8), (9, 10), (10, 13), (13, 14), (15, 20), (20, 21)])
    """
    text, spans, quoted, joined = "", [], False, True
    for word in words:
        closes = word in QUOTES and quoted
        if not (joined or closes or word in NO_SPACE_BEFORE or word.lower() in SUFFIXES):
            text += " "
        spans.append((len(text), len(text) + len(word)))
        text += word
        joined = word in NO_SPACE_AFTER or (word in QUOTES and not quoted)
        quoted = quoted != (word in QUOTES)
    return text, spans

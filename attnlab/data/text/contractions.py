"""Split English contractions as in the Penn Treebank: don't into do n't, it's into it 's."""

import re
from collections.abc import Sequence

from attnlab.data.records import Span

_SECOND = re.compile(r"(?<=[^\W\d_])(?=(?:n't|'(?:s|re|ve|ll|d|m))\b)", re.IGNORECASE)


def split(text: str) -> str:
    """Insert a space before the second word of each contraction; ’ becomes '. Contractions that are split stay.

    >>> split("Don’t say it's bad, you can't do n't.")
    "Do n't say it 's bad, you ca n't do n't."
    """
    return _SECOND.sub(" ", text.replace("’", "'"))


def moved(text: str, spans: Sequence[Span]) -> list[Span]:
    """Convert spans of a text to spans of the result of `split`.

    >>> text = "it's bad"
    >>> [split(text)[start:end] for start, end in moved(text, [(5, 8)])]
    ['bad']
    """
    places = [match.start() for match in _SECOND.finditer(text.replace("’", "'"))]
    before = lambda position: sum(place <= position for place in places)  # noqa: E731
    return [(start + before(start), end + before(end - 1)) for start, end in spans]


def restored(text: str, spans: Sequence[Span]) -> list[Span]:
    """Convert spans of the result of `split` to spans of the text; the inverse of `moved`.

    >>> text = "it's bad"
    >>> [text[start:end] for start, end in restored(text, [(0, 2), (3, 5), (6, 9)])]
    ['it', "'s", 'bad']
    """
    matches = _SECOND.finditer(text.replace("’", "'"))
    inserted = [match.start() + number for number, match in enumerate(matches)]
    before = lambda position: sum(place < position for place in inserted)  # noqa: E731
    return [(start - before(start), end - before(end)) for start, end in spans]

"""Phrases of generated translation data: pieces of German, words of the target, and their alignment."""

from dataclasses import dataclass

from attnlab.data.records import Span
from attnlab.data.translation.records import Link, SentencePair


@dataclass(frozen=True)
class Piece:
    """A token of text; if `glued`, there is no space before it."""

    text: str
    glued: bool = False


@dataclass(frozen=True)
class Word(Piece):
    """A token of the target with its sure and possible links to source pieces, which are indices in its phrase."""

    sure: tuple[int, ...] = ()
    possible: tuple[int, ...] = ()

    def shifted(self, by: int) -> "Word":
        """Return the word with shifted indices of source pieces."""
        return Word(self.text, self.glued, tuple(i + by for i in self.sure), tuple(i + by for i in self.possible))


@dataclass(frozen=True)
class Phrase:
    """Source pieces and their translation, with alignment."""

    source: tuple[Piece, ...]
    target: tuple[Word, ...]

    def __add__(self, other: "Phrase") -> "Phrase":
        shifted = tuple(word.shifted(len(self.source)) for word in other.target)
        return Phrase(self.source + other.source, self.target + shifted)


def _write(pieces: tuple[Piece, ...]) -> tuple[str, list[Span]]:
    text, spans = "", []
    for piece in pieces:
        text += "" if piece.glued or not text else " "
        spans.append((len(text), len(text) + len(piece.text)))
        text += piece.text
    return text, spans


def pair(phrase: Phrase) -> SentencePair:
    """Return a phrase as a sentence pair with links between spans of characters."""
    source, source_spans = _write(phrase.source)
    target, target_spans = _write(phrase.target)
    links = [
        Link(source_spans[index], span, sure)
        for word, span in zip(phrase.target, target_spans, strict=True)
        for indices, sure in ((word.sure, True), (word.possible, False))
        for index in indices
    ]
    return SentencePair(source, target, tuple(links))

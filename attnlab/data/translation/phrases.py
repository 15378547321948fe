"""Phrases of generated translation data: parts of a sentence pair with their alignment."""

from collections.abc import Iterable
from typing import NamedTuple

from attnlab.data.records import Span
from attnlab.data.translation.records import Link, SentencePair


class Word(NamedTuple):
    """A token of the target, and the source spans of its sure and possible links; if `glued`, no space precedes it."""

    text: str
    glued: bool = False
    sure: tuple[Span, ...] = ()
    possible: tuple[Span, ...] = ()


class Phrase(NamedTuple):
    """A text, its translation, and their alignment.

    A text starts with a space unless it is glued to the text before. The links are those of smaller phrases with the
    offsets of these phrases in source and target, so that joining phrases does not change any link.
    """

    source: str
    target: str
    links: tuple[tuple[int, int, tuple[Link, ...]], ...] = ()

    def glued(self) -> "Phrase":
        """Return the phrase without the space before its translation."""
        return Phrase(
            self.source, self.target[1:], tuple((source, target - 1, links) for source, target, links in self.links)
        )


def phrase(source: str, words: Iterable[Word]) -> Phrase:
    """Return a source text with the words of its translation; spans outside the text are in the text before it."""
    target, links = "", []
    for word in words:
        target += word.text if word.glued else f" {word.text}"
        span = (len(target) - len(word.text), len(target))
        links += [Link(source_span, span, True) for source_span in word.sure]
        links += [Link(source_span, span, False) for source_span in word.possible]
    return Phrase(source, target, ((0, 0, tuple(links)),))


def join(*phrases: Phrase) -> Phrase:
    """Concatenate phrases, which have the same order in source and target."""
    source, target, links = "", "", []
    for part_source, part_target, part_links in phrases:
        for before_source, before_target, some in part_links:
            links.append((len(source) + before_source, len(target) + before_target, some))
        source += part_source
        target += part_target
    return Phrase(source, target, tuple(links))


def swap(first: Phrase, second: Phrase) -> Phrase:
    """Concatenate two phrases whose translations are in reverse order."""
    links = [(len(first.source) + source, target, links) for source, target, links in second.links]
    links += [(source, len(second.target) + target, links) for source, target, links in first.links]
    return Phrase(first.source + second.source, second.target + first.target, tuple(links))


def pair(phrase: Phrase) -> SentencePair:
    """Return a phrase as a sentence pair, without the spaces before its texts."""
    links = [
        ((start + source - 1, end + source - 1), (target_start + target - 1, target_end + target - 1), sure)
        for source, target, relative in phrase.links
        for (start, end), (target_start, target_end), sure in relative
    ]
    return SentencePair(phrase.source[1:], phrase.target[1:], tuple(map(Link._make, links)))

"""Word alignment of a sentence pair: links between words, and the spans of characters they stand for."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Self

from attnlab.data.records import Span
from attnlab.data.text.letters import WORD
from attnlab.data.translation.records import Link, SentencePair

PART = re.compile(rf"{WORD}|\S")
"""What `split_punctuation` does not split."""

Pairs = frozenset[tuple[int, int]]
"""Aligned positions (source, target), counted from 0."""


def by_word(pairs: Collection[tuple[int, int]], source_words: Sequence[int], target_words: Sequence[int]) -> Pairs:
    """Convert links between subwords to links between words: two words are linked if any of their subwords are.

    >>> sorted(by_word({(0, 0), (1, 0), (2, 1)}, source_words=[0, 0, 1], target_words=[0, 1]))
    [(0, 0), (1, 1)]
    """
    return frozenset((source_words[s], target_words[t]) for s, t in pairs)


@dataclass(frozen=True)
class Gold:
    """Gold alignment of a sentence pair: sure links, and possible links, which include the sure ones."""

    sure: Pairs
    possible: Pairs

    def __post_init__(self) -> None:
        if not self.sure <= self.possible:
            raise ValueError("every sure link must also be a possible link")

    def reversed(self) -> Self:
        """Return the links (target, source)."""
        sure, possible = (frozenset((t, s) for s, t in pairs) for pairs in (self.sure, self.possible))
        return type(self)(sure=sure, possible=possible)

    def by_word(self, source_words: Sequence[int], target_words: Sequence[int]) -> Self:
        """Return the links between words: sure if any pair of their subwords is sure, likewise for possible."""
        sure, possible = (by_word(pairs, source_words, target_words) for pairs in (self.sure, self.possible))
        return type(self)(sure=sure, possible=possible)


@dataclass(frozen=True)
class AlignedSentence:
    """A sentence pair whose words are separated by single spaces, with its gold alignment between words."""

    source: str
    target: str
    gold: Gold

    def reversed(self) -> Self:
        """Return the pair with source and target exchanged."""
        return type(self)(self.target, self.source, self.gold.reversed())

    def pair(self) -> SentencePair:
        """Return the sentence pair with its links between characters, as the task of translation reads it.

        >>> gold = Gold(sure=frozenset({(1, 0)}), possible=frozenset({(1, 0)}))
        >>> AlignedSentence("das Haus", "house", gold).pair().alignment
        (Link(source=(4, 8), target=(0, 5), sure=True),)
        """
        source, target = word_spans(self.source), word_spans(self.target)
        links = [Link(source[s], target[t], sure=(s, t) in self.gold.sure) for s, t in sorted(self.gold.possible)]
        return SentencePair(self.source, self.target, tuple(links))


def words_of(sentence: str) -> list[str]:
    """Split a sentence on single spaces, as gold alignments count words; other white space belongs to a word.

    Raises:
        ValueError: there is an empty word (two spaces in a row, or a space at an end), which would shift all links
            after it.

    >>> words_of("10 % ."), words_of("")
    (['10', '%', '.'], [])
    """
    if not sentence:
        return []
    words = sentence.split(" ")
    if "" in words:
        raise ValueError(
            f"word {words.index('')} is empty: words must be separated by single spaces, with none at the ends"
        )
    return words


def word_spans(sentence: str) -> list[Span]:
    """Return the (start, end) of each word in characters; words are separated by single spaces (see `words_of`).

    >>> word_spans("das Haus")
    [(0, 3), (4, 8)]
    """
    spans, start = [], 0
    for word in words_of(sentence):
        spans.append((start, start + len(word)))
        start += len(word) + 1
    return spans


def spans_of_any_text(text: str) -> list[Span]:
    """Return the (start, end) of each word of a text that may have several spaces in a row, or spaces at its ends.

    Of a text with single spaces it is `word_spans`.

    >>> spans_of_any_text(" das  Haus")
    [(1, 4), (6, 10)]
    """
    return [found.span() for found in re.finditer("[^ ]+", text)]


def split_punctuation(words: Sequence[str]) -> tuple[list[str], list[int]]:
    """Split words into letters and digits on the one hand and single other characters on the other.

    Statistical aligners know the words of a text so, whether or not a tokenizer has separated its punctuation marks.

    Returns: the parts, and the index of the word that each is of.

    >>> split_punctuation(["don't", "go", "."])
    (['don', "'", 't', 'go', '.'], [0, 0, 0, 1, 2])
    """
    parts = [(part, index) for index, word in enumerate(words) for part in re.findall(PART, word)]
    return [part for part, _ in parts], [index for _, index in parts]


def words_of_tokens(words: Sequence[Span], offsets: Sequence[Span], sentence: str = "the sentence") -> list[int]:
    """Return the index of the word that each token belongs to: the first word that it overlaps.

    A token without characters (of a space alone) belongs to the word that it is in or before, or else to the last one.
    A no-break space does not separate words, as it does not in gold alignments.

    Args:
        words: (start, end) of each word (see `word_spans`).
        offsets: (start, end) of each token, in order; without start, end or padding tokens.
        sentence: name of the sentence in an error.

    Raises:
        ValueError: a token overlaps no word.

    >>> words_of_tokens([(0, 4), (5, 11)], [(0, 4), (4, 4), (4, 8), (8, 11)])
    [0, 1, 1, 1]
    """
    indices = []
    for number, (start, end) in enumerate(offsets):
        if start == end:
            overlapping = [index for index, (_, high) in enumerate(words) if start < high] or [*range(len(words))][-1:]
        else:
            overlapping = [index for index, (low, high) in enumerate(words) if low < end and start < high]
        if not overlapping:
            raise ValueError(f"{sentence}: token {number + 1}, characters {start} to {end}, overlaps no word")
        indices.append(overlapping[0])
    return indices


def covered_exactly(words: Sequence[Span], offsets: Sequence[Span]) -> bool:
    """Return whether every token overlaps one word, and every word a token: `words_of_tokens` then loses nothing.

    >>> covered_exactly([(0, 4), (5, 11)], [(0, 4), (5, 8), (8, 11)]), covered_exactly([(0, 2), (2, 4)], [(0, 4)])
    (True, False)
    """
    overlaps = [
        [index for index, (low, high) in enumerate(words) if low < end and start < high] for start, end in offsets
    ]
    single = all(len(found) == 1 for found, (start, end) in zip(overlaps, offsets, strict=True) if start < end)
    return single and {index for found in overlaps for index in found} == set(range(len(words)))

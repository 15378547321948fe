"""Word alignment: from gold links and from attention to pairs of positions, and how far the two agree."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from attnlab.data.translation.records import Link

Span = tuple[int, int]
Pairs = frozenset[tuple[int, int]]
"""Aligned positions (source, target), counted from 0."""


@dataclass(frozen=True)
class Gold:
    """Gold alignment of one sentence pair: sure links, and the possible ones that contain them."""

    sure: Pairs
    possible: Pairs

    def __post_init__(self) -> None:
        if not self.sure <= self.possible:
            raise ValueError("every sure link must be possible as well")

    def by_word(self, source_words: Sequence[int], target_words: Sequence[int]) -> Self:
        """Return the links between words; a pair of words is linked as its best linked pair of subwords is."""
        sure, possible = (by_word(pairs, source_words, target_words) for pairs in (self.sure, self.possible))
        return type(self)(sure=sure, possible=possible)


@dataclass(frozen=True)
class AlignmentScore:
    """Agreement with gold, pooled over a corpus, in percent."""

    aer: float
    """Alignment error rate; lower is better."""
    precision: float
    recall: float


def gold_pairs(links: Iterable[Link], source_offsets: Sequence[Span], target_offsets: Sequence[Span]) -> Gold:
    """Turn gold links between stretches of text into links between tokens.

    A source and a target token are linked when some link touches a character of both.

    Args:
        links: by offsets of characters into the two sentences.
        source_offsets: (start, end) of each source token, end exclusive; without begin, end or padding tokens.
        target_offsets: the same of the target.

    Returns: token pairs; possible ones include the sure ones.
    """
    sure, possible = set(), set()
    for link in links:
        pairs = [(s, t) for s in _touched(link.source, source_offsets) for t in _touched(link.target, target_offsets)]
        possible.update(pairs)
        if link.sure:
            sure.update(pairs)
    return Gold(sure=frozenset(sure), possible=frozenset(possible))


def hard(weights: np.ndarray, source_length: int, target_length: int) -> Pairs:
    """Link each target token to the source token with the largest weight.

    Columns from `source_length` on and rows from `target_length` on (end and padding tokens) are left out before the
    largest is looked for; of equal ones the first is taken. A row without any weight on the source tokens (a model
    without attention, an empty row) gets no link.

    Args:
        weights: [t s], row i for target token i (the step that wrote it, "alignment at output").
        source_length: number of real source tokens, which come first.
        target_length: number of real target tokens, which come first.

    Returns: at most one pair a target token.

    >>> sorted(hard(np.array([[0.1, 0.7, 0.2], [0.3, 0.1, 0.6]]), source_length=2, target_length=2))
    [(0, 1), (1, 0)]
    """
    if source_length > weights.shape[1] or target_length > weights.shape[0]:
        raise ValueError(f"weights {weights.shape} are too small for {target_length} × {source_length} tokens")
    real = weights[:target_length, :source_length]
    if not np.isfinite(real).all():
        raise ValueError("weights must be finite")
    if source_length == 0:
        return frozenset()
    best = real.argmax(axis=1)
    return frozenset((int(s), t) for t, s in enumerate(best) if real[t, s] > 0)


def diagonal(source_length: int, target_length: int) -> Pairs:
    """Link target token j to source token ⌊(j + ½) · source_length / target_length⌋: the trivial baseline of any AER.

    >>> sorted(diagonal(2, 4))
    [(0, 0), (0, 1), (1, 2), (1, 3)]
    """
    if source_length == 0:
        return frozenset()
    return frozenset(((2 * t + 1) * source_length // (2 * target_length), t) for t in range(target_length))


def word_of_token(text: str, offsets: Sequence[Span]) -> list[int]:
    """Tell for each token which white-space separated word of the text it belongs to (by its first visible character).

    >>> word_of_token("zwei Katzen", [(0, 4), (4, 8), (8, 11)])
    [0, 1, 1]
    """
    words = []
    for start, end in offsets:
        while start < end and text[start].isspace():
            start += 1
        words.append(len((text[:start] + "|").split()) - 1)
    return words


def by_word(pairs: Collection[tuple[int, int]], source_words: Sequence[int], target_words: Sequence[int]) -> Pairs:
    """Turn links between subwords into links between words: two words are linked if any of their subwords are.

    >>> sorted(by_word({(0, 0), (1, 0), (2, 1)}, source_words=[0, 0, 1], target_words=[0, 1]))
    [(0, 0), (1, 1)]
    """
    return frozenset((source_words[s], target_words[t]) for s, t in pairs)


def alignment_score(hypotheses: Sequence[Collection[tuple[int, int]]], golds: Sequence[Gold]) -> AlignmentScore:
    """Compare alignments with gold over a whole corpus.

    precision = |A ∩ P| / |A|,  recall = |A ∩ S| / |S|,  AER = 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|)

    with A the links proposed, S the sure and P ⊇ S the possible gold links, each count summed over all sentences
    before dividing (not a mean over sentences). AER is comparable only between systems scored on the same gold.

    Args:
        hypotheses: proposed pairs of each sentence.
        golds: gold of the same sentences in the same order; between tokens, or words, as the pairs are.

    Returns: percent. Precision is 0 when nothing is proposed, recall 0 when nothing is sure.

    Reference: Och & Ney 2003, section 4.2.

    >>> alignment_score([{(0, 0), (1, 1)}], [Gold(sure=frozenset({(0, 0)}), possible=frozenset({(0, 0), (1, 1)}))])
    AlignmentScore(aer=0.0, precision=100.0, recall=100.0)
    """
    if len(hypotheses) != len(golds):
        raise ValueError(f"{len(hypotheses)} alignments for {len(golds)} gold ones")
    proposed = sum(len(set(a)) for a in hypotheses)
    sure = sum(len(g.sure) for g in golds)
    if proposed + sure == 0:
        raise ValueError("no links to score: nothing is proposed and no gold link is sure")
    in_sure = sum(len(g.sure & set(a)) for a, g in zip(hypotheses, golds, strict=True))
    in_possible = sum(len(g.possible & set(a)) for a, g in zip(hypotheses, golds, strict=True))
    return AlignmentScore(
        aer=100.0 * (1.0 - (in_sure + in_possible) / (proposed + sure)),
        precision=100.0 * in_possible / proposed if proposed else 0.0,
        recall=100.0 * in_sure / sure if sure else 0.0,
    )


def _touched(span: Span, offsets: Sequence[Span]) -> list[int]:
    start, end = span
    return [i for i, (token_start, token_end) in enumerate(offsets) if token_start < end and start < token_end]

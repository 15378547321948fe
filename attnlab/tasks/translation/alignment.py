"""Word alignment from gold links and from attention weights, and the alignment error rate."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from attnlab.data.records import Span
from attnlab.data.text.tokenizer import Encoding
from attnlab.data.translation.records import Link, SentencePair
from attnlab.data.translation.word_alignment import Gold, Pairs, by_word, spans_of_any_text, words_of_tokens


@dataclass(frozen=True)
class AlignmentScore:
    """Agreement with gold alignment, pooled over a corpus, in percent."""

    aer: float
    """Alignment error rate; lower is better."""
    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall (F with α = ½ of Fraser & Marcu 2007); 0 if both are 0."""
        total = self.precision + self.recall
        return 2.0 * self.precision * self.recall / total if total else 0.0


def gold_pairs(links: Iterable[Link], source_offsets: Sequence[Span], target_offsets: Sequence[Span]) -> Gold:
    """Convert gold links between spans of characters to links between tokens.

    A source and a target token are linked if some link overlaps both of them.

    Args:
        links: links between spans of characters of the two sentences.
        source_offsets: (start, end) of each source token, end exclusive; without start, end or padding tokens.
        target_offsets: likewise for the target.

    Returns: pairs of tokens; the possible ones include the sure ones.
    """
    sure, possible = set(), set()
    for link in links:
        pairs = [
            (s, t) for s in _overlapping(link.source, source_offsets) for t in _overlapping(link.target, target_offsets)
        ]
        possible.update(pairs)
        if link.sure:
            sure.update(pairs)
    return Gold(sure=frozenset(sure), possible=frozenset(possible))


def hard(weights: np.ndarray, source_length: int, target_length: int) -> Pairs:
    """Link each target token to the source token with the largest weight.

    Columns from `source_length` on and rows from `target_length` on (end and padding tokens) are removed first; of
    equal weights the first wins. A row without any positive weight on the source tokens (a model without attention, an
    empty row) has no link.

    Args:
        weights: [t s], row i is the attention of the step that generated target token i.
        source_length: number of source tokens, without end token and padding.
        target_length: number of target tokens, without end token and padding.

    Returns: at most one pair for each target token.

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


def alignment_score(predicted: Sequence[Collection[tuple[int, int]]], golds: Sequence[Gold]) -> AlignmentScore:
    """Compare alignments with gold alignments over a whole corpus.

    precision = |A ∩ P| / |A|,  recall = |A ∩ S| / |S|,  AER = 1 − (|A ∩ S| + |A ∩ P|) / (|A| + |S|)

    with A the predicted links, S the sure and P ⊇ S the possible gold links, each count summed over all sentences
    before the division (not a mean over sentences). AER is comparable only between systems with the same gold.

    Args:
        predicted: predicted links of each sentence.
        golds: gold alignment of the same sentences, between tokens or words as the predicted links are.

    Returns: percentages. Precision is 0 without predicted links, recall 0 without sure links.

    Reference: Och & Ney 2003.

    >>> alignment_score([{(0, 0), (1, 1)}], [Gold(sure=frozenset({(0, 0)}), possible=frozenset({(0, 0), (1, 1)}))])
    AlignmentScore(aer=0.0, precision=100.0, recall=100.0)
    """
    return pooled_score(alignment_counts(predicted, golds))


def alignment_counts(predicted: Sequence[Collection[tuple[int, int]]], golds: Sequence[Gold]) -> Int[np.ndarray, "n 4"]:
    """Return what each sentence contributes to the AER: |A|, |S|, |A ∩ S| and |A ∩ P|.

    Args:
        predicted: predicted links A of each sentence.
        golds: sure links S and possible links P ⊇ S of the same sentences.

    >>> alignment_counts([{(0, 0), (1, 1)}], [Gold(sure=frozenset({(0, 0)}), possible=frozenset({(0, 0), (1, 1)}))])
    array([[2, 1, 1, 2]])
    """
    if len(predicted) != len(golds):
        raise ValueError(f"{len(predicted)} alignments for {len(golds)} gold alignments")
    rows = [
        (len(links), len(gold.sure), len(gold.sure & links), len(gold.possible & links))
        for links, gold in zip(map(frozenset, predicted), golds, strict=True)
    ]
    return np.array(rows, np.int64).reshape(-1, 4)


def aer(counts: Int[np.ndarray, "n 4"]) -> float:
    """Return the alignment error rate in percent from the counts of sentences; 0 if there are no links at all.

    >>> aer(np.array([[2, 1, 1, 1]])) == 100 * (1 - 2 / 3)
    True
    """
    count, sure, in_sure, in_possible = counts.sum(axis=0).tolist()
    return 100.0 * (1.0 - (in_sure + in_possible) / (count + sure)) if count + sure else 0.0


def pooled_score(counts: Int[np.ndarray, "n 4"]) -> AlignmentScore:
    """Return AER, precision and recall of a corpus from the counts of its sentences (see `alignment_score`).

    >>> pooled_score(np.array([[2, 1, 1, 2]]))
    AlignmentScore(aer=0.0, precision=100.0, recall=100.0)
    """
    count, sure, in_sure, in_possible = counts.sum(axis=0).tolist()
    if count + sure == 0:
        raise ValueError("no links to score: neither predicted links nor sure gold links")
    return AlignmentScore(
        aer=aer(counts),
        precision=100.0 * in_possible / count if count else 0.0,
        recall=100.0 * in_sure / sure if sure else 0.0,
    )


def links_whole_words(pairs: Sequence[SentencePair]) -> bool:
    """Return whether every gold link is between whole words, which spaces separate, rather than parts of them.

    >>> links_whole_words([SentencePair("ein Tag", "a day", (Link((0, 3), (0, 1)),))])
    True
    >>> links_whole_words([SentencePair("1. Mai", "05-01", (Link((3, 6), (0, 2)),))])
    False
    """
    for pair in pairs:
        sides = [spans_of_any_text(text) for text in (pair.source, pair.target)]
        for link in pair.alignment or ():
            for (start, end), spans in zip((link.source, link.target), sides, strict=True):
                if not any(start == low for low, _ in spans) or not any(end == high for _, high in spans):
                    return False
    return True


def attention_alignment(
    weights: Sequence[np.ndarray],
    pairs: Sequence[SentencePair],
    source: Sequence[Encoding],
    target: Sequence[Encoding],
    words: bool,
) -> AlignmentScore:
    """Compare the links of attention weights (see `hard`) with gold alignment.

    Args:
        weights: [t s] of each pair, with its target as input of the model.
        pairs: sentence pairs with gold alignment.
        source: their encoded sources.
        target: their encoded targets.
        words: compare links between words, which spaces separate, rather than tokens.
    """
    encoded = list(zip(pairs, source, target, strict=True))
    links = [hard(w, len(s.ids), len(t.ids)) for w, (_, s, t) in zip(weights, encoded, strict=True)]
    golds = [gold_pairs(pair.alignment or (), s.offsets, t.offsets) for pair, s, t in encoded]
    if words:
        indices = [
            (
                words_of_tokens(spans_of_any_text(pair.source), s.offsets, f"source sentence {number}"),
                words_of_tokens(spans_of_any_text(pair.target), t.offsets, f"target sentence {number}"),
            )
            for number, (pair, s, t) in enumerate(encoded, start=1)
        ]
        links = [by_word(tokens, *sides) for tokens, sides in zip(links, indices, strict=True)]
        golds = [gold.by_word(*sides) for gold, sides in zip(golds, indices, strict=True)]
    return alignment_score(links, golds)


def _overlapping(span: Span, offsets: Sequence[Span]) -> list[int]:
    start, end = span
    return [i for i, (token_start, token_end) in enumerate(offsets) if token_start < end and start < token_end]

"""Gold alignment as targets for the supervision of attention."""

from collections.abc import Sequence

import numpy as np

from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import Encoding
from attnlab.data.translation.records import SentencePair
from attnlab.data.translation.word_alignment import Pairs
from attnlab.tasks.translation.alignment import gold_pairs


def gold_links(
    pairs: Sequence[SentencePair], source: Sequence[Encoding], target: Sequence[Encoding], max_length: int
) -> list[Pairs]:
    """Return the sure gold links (source, target) between tokens of each pair, and between its end tokens.

    Args:
        pairs: sentence pairs with gold alignment.
        source: their encoded sources.
        target: their encoded targets.
        max_length: pairs with more tokens on either side are left out.
    """
    links = []
    for pair, encoded_source, encoded_target in zip(pairs, source, target, strict=True):
        ends = (len(encoded_source.ids), len(encoded_target.ids))
        if max(ends) <= max_length:
            gold = gold_pairs(pair.alignment or (), encoded_source.offsets, encoded_target.offsets)
            links.append(gold.sure | {ends})
    return links


def link_matrix(shape: Shape, links: Sequence[Pairs]) -> np.ndarray:
    """Return links as an array [b t s] of 0 and 1."""
    matrix = np.zeros((shape.rows, shape.target, shape.source), np.float32)
    for row, pairs in enumerate(links):
        for source, target in pairs:
            matrix[row, target, source] = 1.0
    return matrix

"""Trivial alignments, whose AER any reported AER should stand beside; `diagonal` is the stronger one."""

import numpy as np

from attnlab.data.translation.word_alignment import Pairs
from attnlab.tasks.translation.alignment import diagonal as diagonal


def random_links(source_length: int, target_length: int, rng: np.random.Generator) -> Pairs:
    """Link each target word to a source word drawn at random: what attention with equal weights knows.

    (The largest weight of a row of equal weights is no alternative: it always is the first word's.)

    >>> random_links(1, 2, np.random.default_rng(0)) == {(0, 0), (0, 1)}
    True
    """
    if source_length == 0:
        return frozenset()
    drawn = rng.integers(source_length, size=target_length)
    return frozenset((s, t) for t, s in enumerate(drawn.tolist()))

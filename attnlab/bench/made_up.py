"""Made-up sentence pairs in the place of a data set that is not there: lengths and words are spread as in Multi30k."""

import numpy as np

from attnlab.config import Experiment
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Pairs
from attnlab.data.text.tokenizer import UNK

MEANS, DEVIATIONS, CORRELATION = (2.70, 2.66), (0.36, 0.33), 0.86
"""Of the logarithms of the lengths of source and target, in BPE tokens of Multi30k's German and English."""
SHORTEST, LONGEST = 3, 60
PAIRS = 20_000


def vocabulary_of(experiment: Experiment) -> int:
    """Return the size of the vocabulary that the config asks a BPE tokenizer for."""
    size = getattr(getattr(experiment.task, "tokenizer", None), "vocabulary", None)
    if size is None:
        raise UserError("made-up pairs need task.tokenizer.vocabulary: the size of a vocabulary")
    return int(size)


def pairs(vocabulary: int, count: int = PAIRS, seed: int = 0) -> Pairs:
    """Draw pairs of token sequences; a token's frequency falls with its rank (Zipf's law).

    >>> source, target = pairs(100, 1)[0]
    >>> 3 <= len(source) <= 60 and max(source) < 100
    True
    """
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(count)
    second = CORRELATION * first + (1 - CORRELATION**2) ** 0.5 * rng.standard_normal(count)
    logs = [mean + spread * z for mean, spread, z in zip(MEANS, DEVIATIONS, (first, second), strict=True)]
    lengths = [np.clip(np.exp(log).round().astype(int), SHORTEST, LONGEST) for log in logs]
    words = np.arange(UNK + 1, vocabulary)
    shares = 1.0 / np.arange(1, len(words) + 1)
    shares /= shares.sum()

    def side(lengths: np.ndarray) -> list[list[int]]:
        drawn = rng.choice(words, int(lengths.sum()), p=shares)
        return [part.tolist() for part in np.split(drawn, np.cumsum(lengths)[:-1])]

    return list(zip(side(lengths[0]), side(lengths[1]), strict=True))

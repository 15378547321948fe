"""Synthetic sentence pairs that replace a missing dataset, with lengths and token frequencies like Multi30k's."""

import numpy as np

from attnlab.config import Bpe, Experiment, Translation, Words
from attnlab.config.errors import UserError
from attnlab.data.text.batching import Pairs
from attnlab.data.text.tokenizer import UNK

MEANS, DEVIATIONS, CORRELATION = (2.70, 2.66), (0.36, 0.33), 0.86
"""Statistics of the logarithms of source and target lengths, in BPE tokens of Multi30k's German and English."""
SHORTEST, LONGEST = 3, 60
PAIRS = 20_000


def vocabulary_of(experiment: Experiment) -> int:
    """Return the vocabulary size of the experiment's tokenizer."""
    if isinstance(experiment.task, Translation) and isinstance(experiment.task.tokenizer, Bpe | Words):
        return experiment.task.tokenizer.vocabulary
    raise UserError("synthetic pairs need task.tokenizer.vocabulary; valid task.tokenizer.kind: bpe, words")


def pairs(vocabulary: int, count: int = PAIRS, seed: int = 0) -> Pairs:
    """Sample pairs of token sequences whose token frequencies follow Zipf's law.

    >>> source, target = pairs(100, 1)[0]
    >>> 3 <= len(source) <= 60 and max(source) < 100
    True
    """
    rng = np.random.default_rng(seed)
    first = rng.standard_normal(count)
    second = CORRELATION * first + (1 - CORRELATION**2) ** 0.5 * rng.standard_normal(count)
    log_lengths = [mean + spread * z for mean, spread, z in zip(MEANS, DEVIATIONS, (first, second), strict=True)]
    lengths = [np.clip(np.exp(log).round().astype(int), SHORTEST, LONGEST) for log in log_lengths]
    words = np.arange(UNK + 1, vocabulary)
    probabilities = 1.0 / np.arange(1, len(words) + 1)
    probabilities /= probabilities.sum()

    def sample(lengths: np.ndarray) -> list[list[int]]:
        tokens = rng.choice(words, int(lengths.sum()), p=probabilities)
        return [part.tolist() for part in np.split(tokens, np.cumsum(lengths)[:-1])]

    return list(zip(sample(lengths[0]), sample(lengths[1]), strict=True))

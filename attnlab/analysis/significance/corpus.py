"""Corpus metrics as scores of items: BLEU and macro-F1 are functions of sums over items, not means of them."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Shaped

BLOCKS = 500
"""Largest number of blocks of items that are left out in turn."""
SEED = 12345
"""Seed of the assignment of items to blocks, which is the same for all runs."""


def pseudo_values(
    rows: Shaped[np.ndarray, "m *k"], statistic: Callable[[np.ndarray], float], blocks: int = BLOCKS, seed: int = SEED
) -> Float[np.ndarray, " g"]:
    """Compute the jackknife pseudo-values of a metric: what stands for the scores of single items in an interval.

    p_j = g θ − (g − 1) θ_(−j),  shifted so that their mean is θ

    with θ the metric of all items and θ_(−j) the metric without block j. To first order the metric is the mean of its
    pseudo-values, whose variance over items is that of its influence function; of a mean they are the scores
    themselves. They can therefore be crossed with seeds, which resamples cannot: a bootstrap over items gives the
    variance over items alone. The shift removes the jackknife's correction of the bias, so that a table, which has θ,
    and an interval agree.

    Args:
        rows: what every item contributes, as `aggregate` of a task takes it.
        statistic: rows -> metric; smooth in the sums of the rows.
        blocks: blocks of items; one item each if there are no more items than that.
        seed: seed of the assignment.
    Returns: one value for each block.
    Reference: Tukey 1958; Efron & Stein 1981; blocks: Shao & Tu 1995 (the delete-d jackknife).

    >>> pseudo_values(np.array([1.0, 2.0, 6.0]), np.mean).tolist()
    [1.0, 2.0, 6.0]
    """
    count = min(blocks, len(rows))
    order = np.arange(len(rows)) if count == len(rows) else np.random.default_rng(seed).permutation(len(rows))
    members = np.array_split(order, count)
    keep = np.ones(len(rows), bool)
    without = np.empty(count)
    for number, left_out in enumerate(members):
        keep[left_out] = False
        without[number] = statistic(rows[keep])
        keep[left_out] = True
    values = -(count - 1) * without
    return values - values.mean() + statistic(rows)

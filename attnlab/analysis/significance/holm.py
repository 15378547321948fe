"""Correction of p-values for more than one comparison."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float


def holm(p_values: Sequence[float] | Float[np.ndarray, "*b k"]) -> Float[np.ndarray, "*b k"]:
    """Adjust p-values so that the chance of any false rejection stays below the level, whatever their dependence.

    p̃_(i) = max over j ≤ i of min(1, (k − j + 1) p_(j)),  for p_(1) ≤ … ≤ p_(k)

    Uniformly more powerful than Bonferroni's correction, which multiplies all by k.

    Args:
        p_values: of the comparisons of one family (last axis), in any order.
    Returns: the adjusted p-values in the same order.
    Reference: Holm 1979.

    >>> holm([0.01, 0.04, 0.03]).tolist()
    [0.03, 0.06, 0.06]
    """
    values = np.asarray(p_values, float)
    order = np.argsort(values, axis=-1, kind="stable")
    factors = np.arange(values.shape[-1], 0, -1)
    adjusted = np.minimum(np.maximum.accumulate(np.take_along_axis(values, order, -1) * factors, axis=-1), 1.0)
    result = np.empty_like(adjusted)
    np.put_along_axis(result, order, adjusted, -1)
    return result

"""An estimate with its standard error and degrees of freedom: t intervals and t tests."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

LEVEL = 0.95
"""Coverage of an interval."""


@dataclass(frozen=True)
class Estimate:
    """An estimate whose error, divided by its standard error, is about t-distributed.

    Attributes:
        value: the estimate; an array for many experiments at once.
        standard_error: of the value, of the same shape.
        df: degrees of freedom of the standard error.
    """

    value: Any
    standard_error: Any
    df: Any

    def interval(self, level: float = LEVEL) -> tuple[Any, Any]:
        """Return the ends of the t interval: value ± t(1 − (1 − level) / 2, df) · standard error."""
        margin = stats.t.ppf(0.5 + level / 2, self.df) * self.standard_error
        return self.value - margin, self.value + margin

    def p_value(self) -> Any:
        """Return the two-sided p-value of the hypothesis that the true value is 0.

        Numerics: 1 for a value of exactly 0, also with a standard error of 0.
        """
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.abs(self.value) / self.standard_error
        return 2 * stats.t.sf(np.where(np.asarray(self.value) == 0, 0.0, ratio), self.df)

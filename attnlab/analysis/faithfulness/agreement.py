"""Agreement of attributions with what removing a token does, and with each other."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.faithfulness.correlation import Correlation, kendall_tau
from attnlab.analysis.faithfulness.masks import Attributions, Predict, Where
from attnlab.analysis.faithfulness.orders import leave_one_out


def taucorr_loo(predict: Predict, attributions: Attributions, where: Where) -> Correlation:
    """Compute Kendall's τ-b between attributions and what removing each token alone does to the prediction.

    τ(a, ΔF),    ΔF_i = f(x) − f(x without token i)

    The sign of ΔF counts, as in ferret. Jain & Wallace correlate attention with |ΔF| (in their case the TVD of all
    classes): for that, call `kendall_tau(attributions, jnp.abs(leave_one_out(predict, where)), where)`.

    Args:
        predict: see `masks.Predict`; it is called once, with n + 1 masks.
        attributions: of each token.
        where: True for tokens that may be removed.
    Returns: τ in [−1, 1], the higher the better, and its p-value; NaN for fewer than two tokens, or if all values of
        one of them are equal.
    Reference: Jain & Wallace 2019, section 4.1; Attanasio et al. 2023 (ferret, `taucorr_loo`).

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.125])).sum(axis=1)
    >>> float(taucorr_loo(additive, jnp.array([3.0, 2.0, 1.0]), jnp.array([True, True, True])).statistic)
    1.0
    """
    return kendall_tau(attributions, leave_one_out(predict, where), where)


def significant_share(pvalues: Float[Array, " items"], level: float = 0.05) -> Float[Array, ""]:
    """Compute the share of texts in which a correlation is significant.

    share = |{i : p_i ≤ level}| / |{i : p_i is a number}|

    Jain & Wallace print it beside the mean τ ("Sig. Frac."). It grows with the length of the texts, and 5% of it is
    expected where nothing correlates; the texts are not corrected for being many.

    Args:
        pvalues: one a text; NaN where the correlation is undefined.
        level: significance level of each test.
    Returns: in [0, 1]; NaN if no p-value is a number.
    Reference: Jain & Wallace 2019, table 2.

    >>> float(significant_share(jnp.array([0.01, 0.2, jnp.nan])))
    0.5
    """
    return jnp.nanmean(jnp.where(jnp.isnan(pvalues), jnp.nan, (pvalues <= level).astype(pvalues.dtype)))

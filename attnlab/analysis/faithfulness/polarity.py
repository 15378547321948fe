"""The faithfulness violation test: whether the sign of an attribution is that of the token's influence."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.checks import call_predict, check_attributions, has_nan
from attnlab.analysis.faithfulness.removal import Attributions, Removable
from attnlab.analysis.functions import Predict


def faithfulness_violation(
    predict: Predict, attributions: Attributions, removable: Removable | None = None
) -> Float[Array, ""]:
    """Compute whether the token with the largest attribution has the opposite influence.

    violation = 1 if a_t · (f(x) − f(x without token t)) < 0, else 0,    t = argmax_i |a_i|

    The lower the better; its mean over texts is the violation ratio. Weights of attention are never negative, so that
    they violate whenever the token speaks against the target: a weight cannot say which. A method without signs
    (`saliency`, norms) is tested likewise, as it too is read as support.

    Args:
        predict: see `functions.Predict`.
        attributions: of each token.
        removable: True for tokens that may be removed; None if all may.
    Returns: 0 or 1; 0 if the removal changes nothing; NaN if no token may be removed, or an attribution of one that may
        is NaN.
    Numerics: float32 at least. Of equal sizes the first token is tested.
    Reference: Liu et al. 2022, "Rethinking Attention-Model Explainability through Faithfulness Violation Test".

    >>> against = lambda removed: jnp.where(removed, 0.0, jnp.array([-0.5, 0.25])).sum(axis=1)
    >>> float(faithfulness_violation(against, jnp.array([0.75, 0.25])))
    1.0
    >>> float(faithfulness_violation(against, jnp.array([-0.75, 0.25])))
    0.0
    """
    name = "faithfulness_violation"
    values, allowed = check_attributions(name, attributions, removable, "removable")
    sizes = jnp.where(allowed, jnp.abs(values), -1.0)
    tested = (jnp.arange(values.size) == jnp.argmax(sizes)) & allowed
    full, without = call_predict(name, predict, jnp.stack([jnp.zeros_like(tested), tested]))
    sign = jnp.sum(jnp.where(tested, jnp.sign(values), 0.0))
    violated = (sign * (full - without) < 0).astype(values.dtype)
    return jnp.where(jnp.any(allowed) & ~has_nan(values, allowed), violated, jnp.nan)

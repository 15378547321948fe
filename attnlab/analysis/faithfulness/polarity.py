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
    return violation_of_drops(values, jnp.where(tested, full - without, 0.0), allowed)


def violation_of_drops(
    attributions: Attributions, drops: Float[Array, " n"], removable: Removable | None = None
) -> Float[Array, ""]:
    """Compute `faithfulness_violation` from what removing each token does, for which other metrics have run the model.

    violation = 1 if sign(a_t) · sign(Δf_t) < 0, else 0,    t = argmax_i |a_i|

    Args:
        attributions: of each token.
        drops: Δf, by how much the prediction falls without each token (`leave_one_out`).
        removable: True for tokens that count; None if all do.
    Returns: 0 or 1, and 0 or NaN as in `faithfulness_violation`; NaN too if the drop of the tested token is NaN.
    Numerics: signs are multiplied, so that no product of small numbers underflows to 0.

    >>> float(violation_of_drops(jnp.array([1e-30, 0.0]), jnp.array([-1e-30, 0.25])))
    1.0
    """
    values, allowed = check_attributions("violation_of_drops", attributions, removable, "removable")
    top = jnp.argmax(jnp.where(allowed, jnp.abs(values), -1.0))
    product = jnp.sign(values[top]) * jnp.sign(drops[top])
    undefined = has_nan(values, allowed) | ~jnp.any(allowed) | jnp.isnan(product)
    return jnp.where(undefined, jnp.nan, (product < 0.0).astype(values.dtype))

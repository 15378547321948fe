"""Orders of removal that attributions are compared with: random as the floor, leave-one-out and greedy as ceilings."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.analysis.faithfulness.masks import Attributions, Predict, Where


def random_attributions(rng: Array, where: Where) -> Attributions:
    """Draw attributions at random, which is the floor of every metric of faithfulness.

    Args:
        rng: a key of `jax.random`. Average the metric over several.
        where: True for tokens that may be removed.
    Returns: uniform in [0, 1); 0 for other tokens.

    >>> random_attributions(jax.random.key(0), jnp.array([True, False])).shape
    (2,)
    """
    return jnp.where(where, jax.random.uniform(rng, where.shape), 0.0)


def leave_one_out(predict: Predict, where: Where) -> Attributions:
    """Compute how much the prediction falls when each token alone is removed.

    attribution_i = f(x) − f(x without token i)

    Also called occlusion (captum, with a window of one token). As an order of removal it is a ceiling for the first
    token only, since it ignores what tokens do together; `greedy_deletion` does not.

    Args:
        predict: see `masks.Predict`; it is called once, with n + 1 masks.
        where: True for tokens that may be removed.
    Returns: one difference a token; 0 for other tokens.
    Reference: Zeiler & Fergus 2014; Li, Monroe & Jurafsky 2016, who divide by the prediction.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.5, 0.25, 0.25])).sum(axis=1)
    >>> leave_one_out(additive, jnp.array([True, True, False])).tolist()
    [0.5, 0.25, 0.0]
    """
    single = jnp.eye(where.size, dtype=bool)
    predictions = predict(jnp.concatenate([jnp.zeros((1, where.size), bool), single & where[None, :]]))
    return jnp.where(where, predictions[0] - predictions[1:], 0.0)


def greedy_deletion(predict: Predict, where: Where) -> Attributions:
    """Remove at each step the token whose removal lowers the prediction most, and attribute by this order.

    i_k = argmin_{i not yet removed} f(x without i_1, …, i_{k−1}, i),    attribution_{i_k} = n − k + 1

    The ceiling ("oracle") of comprehensiveness and of deletion: it asks the model at every step. Not the best of all
    n! orders, which greedy search need not find.

    Args:
        predict: see `masks.Predict`; it is called n times, with n masks each.
        where: True for tokens that may be removed.
    Returns: n for the token that is removed first, n − 1 for the next, …; 0 for other tokens. Of equal predictions the
        earlier token is removed first.
    Reference: Feng et al. 2018 (input reduction), who remove the least important token at each step.

    >>> additive = lambda removed: jnp.where(removed, 0.0, jnp.array([0.25, 0.5, 0.25])).sum(axis=1)
    >>> greedy_deletion(additive, jnp.array([True, True, True])).tolist()
    [2.0, 3.0, 1.0]
    """
    size = where.size
    if not size:
        return jnp.zeros(0)

    def remove(removed: Bool[Array, " n"], step: Int[Array, ""]) -> tuple[Bool[Array, " n"], Float[Array, " n"]]:
        predictions = predict(removed[None, :] | (jnp.eye(size, dtype=bool) & where[None, :]))
        possible = where & ~removed
        token = jnp.argmin(jnp.where(possible, predictions, jnp.inf))
        chosen = possible & (jnp.arange(size) == token)
        return removed | chosen, jnp.where(chosen, (size - step).astype(predictions.dtype), 0.0)

    _, attributions = jax.lax.scan(remove, jnp.zeros(size, bool), jnp.arange(size))
    others = (size - jnp.sum(where)).astype(attributions.dtype)
    return jnp.sum(attributions, axis=0) - jnp.where(where, others, 0.0)

"""Controls between which every method should lie: random attributions (floor), greedy leave-one-out (ceiling)."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import predict_in_batches
from attnlab.analysis.checks import call_predict, check_positive, check_valid
from attnlab.analysis.functions import Predict
from attnlab.analysis.record import Attribution


def random_attribution(rng: Array, n: int, *, removable: Bool[Array, " n"] | None = None) -> Attribution:
    """Attribute to each token an independent random number: the floor of every metric.

    attributions_i ~ U(0, 1)

    It says nothing of the model. A method whose faithfulness or plausibility does not exceed it says nothing either.
    Average a metric over several keys.

    Args:
        rng: a key of `jax.random`.
        n: number of tokens, padding included; static under `jit`.
        removable: True for tokens that may be removed: neither padding nor special tokens; None if all may.
    Returns: an `Attribution` with attributions [n] in (0, 1); no completeness gap.
    Cost: no pass.
    Numerics: float32, also with 64-bit types enabled; tokens that may not be removed have exactly 0, and no others.

    >>> random_attribution(jax.random.key(0), 3, removable=jnp.array([True, True, False])).attributions[2].item()
    0.0
    """
    check_valid("random_attribution", removable, n, "removable")
    numbers = jax.random.uniform(rng, (n,), jnp.float32, minval=jnp.finfo(jnp.float32).tiny)
    return Attribution("random_attribution", numbers if removable is None else jnp.where(removable, numbers, 0))


def greedy_leave_one_out(
    predict: Predict,
    n: int,
    *,
    internal_batch_size: int | None = None,
    removable: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Rank the tokens by removing, again and again, the one whose removal lowers the prediction most: a ceiling.

    r_t = argmin_i f(x without r_1, …, r_{t−1}, i),    attributions[r_t] = m − t + 1    of m removable tokens

    It looks for the deletion curve that falls fastest, so its comprehensiveness is a ceiling that other methods seldom
    exceed (the search is greedy: the best set of k tokens may be another). It says in which order tokens matter when
    all before them are gone. It cannot say by how much: the numbers are ranks.

    Args:
        predict: (removed [m n]) -> predictions [m], see `functions.Predict`; traceable by jax, as the n removals are a
            loop of one compiled step.
        n: number of tokens, padding included.
        internal_batch_size: number of versions of the text in a call of `predict`; None for all n.
        removable: True for tokens that may be removed: neither padding nor special tokens; None if all may.
    Returns: an `Attribution` with attributions [n]: m for the first removed token, 1 for the last, 0 for tokens that
        may not be removed.
    Cost: n² forward passes (n for each of n removals, as shapes are static).
    Numerics: float32; of several tokens with the same prediction the first is removed, and one whose removal predicts
        NaN after all others. Under `jit`, n and internal_batch_size are static.
    Reference: the greedy search of Feng et al. 2018 (input reduction) in the direction of DeYoung et al.'s 2020
        comprehensiveness.

    >>> greedy_leave_one_out(lambda removed: -1.0 * removed[:, 1] - 0.5 * removed[:, 2], 3).attributions.tolist()
    [1.0, 3.0, 2.0]
    """
    name = "greedy_leave_one_out"
    check_valid(name, removable, n, "removable")
    check_positive(name, internal_batch_size=internal_batch_size)
    if n == 0:
        return Attribution(name, jnp.zeros(0, jnp.float32))
    checked = partial(call_predict, name, predict)
    allowed = jnp.ones(n, bool) if removable is None else removable
    single = jnp.eye(n, dtype=bool)

    def remove(state: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], None]:
        removed, ranks = state
        left = allowed & ~removed
        values = predict_in_batches(checked, removed[None, :] | (single & allowed[None, :]), internal_batch_size)
        values = jnp.where(left & ~jnp.isnan(values), values, jnp.inf)
        best = jnp.argmax(left & (values == jnp.min(values)))
        chosen = single[best] & jnp.any(left)
        return (removed | chosen, jnp.where(chosen, jnp.sum(allowed, dtype=jnp.int32) - step, ranks)), None

    start: tuple[Array, Array] = (jnp.zeros(n, bool), jnp.zeros(n, jnp.int32))
    ranks: Float[Array, " n"] = jax.lax.scan(remove, start, jnp.arange(n, dtype=jnp.int32))[0][1].astype(jnp.float32)
    return Attribution(name, ranks)

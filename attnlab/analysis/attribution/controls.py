"""Controls between which every method should lie: random attributions (floor), greedy leave-one-out (ceiling)."""

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.attribution.batches import map_over
from attnlab.analysis.attribution.checks import check_positive, check_valid, one_number
from attnlab.analysis.attribution.record import Attribution, ScoresWithout


def random_attribution(rng: Array, n: int, *, valid: Bool[Array, " n"] | None = None) -> Attribution:
    """Attribute to each token an independent random number: the floor of every metric.

    attributions_i ~ U(0, 1)

    It says nothing of the model. A method whose faithfulness or plausibility does not exceed it says nothing either.

    Args:
        rng: a key of `jax.random`.
        n: number of tokens, padding included.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n] in (0, 1); no completeness gap.
    Cost: no pass.
    Numerics: float32; padding has exactly 0, and no other token.

    >>> random_attribution(jax.random.key(0), 3, valid=jnp.array([True, True, False])).attributions[2].item()
    0.0
    """
    check_valid("random_attribution", valid, n)
    numbers = jax.random.uniform(rng, (n,), minval=jnp.finfo(jnp.float32).tiny)
    return Attribution("random_attribution", numbers if valid is None else jnp.where(valid, numbers, 0))


def greedy_leave_one_out(
    scores: ScoresWithout,
    n: int,
    *,
    internal_batch_size: int | None = None,
    valid: Bool[Array, " n"] | None = None,
) -> Attribution:
    """Rank the tokens by removing, again and again, the one whose removal lowers the score most: a ceiling.

    r_t = argmin_i F(r_1, …, r_{t−1}, i removed),    attributions[r_t] = m − t + 1    of m real tokens

    It looks for the deletion curve that falls fastest, so its comprehensiveness is a ceiling that other methods seldom
    exceed (the search is greedy: the best set of k tokens may be another). It says in which order tokens matter when
    all before them are gone. It cannot say by how much: the numbers are ranks.

    Args:
        scores: the explained number as a function of which tokens are removed; traceable by jax.
        n: number of tokens, padding included.
        internal_batch_size: number of inputs that are computed at a time; None for all n.
        valid: True for real tokens; None if there is no padding.
    Returns: an `Attribution` with attributions [n]: m for the first removed token, 1 for the last, 0 for padding.
    Cost: n² forward passes (n for each of n removals, as shapes are static).
    Numerics: of several tokens with the same score the first is removed; a NaN score counts as +∞.
    Reference: the greedy search of Feng et al. 2018 (input reduction) in the direction of DeYoung et al.'s 2020
        comprehensiveness.

    >>> greedy_leave_one_out(lambda removed: -1.0 * removed[1] - 0.5 * removed[2], 3).attributions.tolist()
    [1.0, 3.0, 2.0]
    """
    name = "greedy_leave_one_out"
    check_valid(name, valid, n)
    check_positive(name, internal_batch_size=internal_batch_size)
    if n == 0:
        return Attribution(name, jnp.zeros(0))
    score = one_number(name, scores)
    real = jnp.ones(n, bool) if valid is None else valid
    single = jnp.eye(n, dtype=bool)

    def remove(state: tuple[Array, Array], step: Array) -> tuple[tuple[Array, Array], None]:
        removed, ranks = state
        left = real & ~removed
        values = map_over(score, removed[None, :] | single, internal_batch_size)
        values = jnp.where(left & ~jnp.isnan(values), values, jnp.inf)
        best = jnp.argmax(left & (values == jnp.min(values)))
        chosen = single[best] & jnp.any(left)
        return (removed | chosen, jnp.where(chosen, jnp.sum(real, dtype=jnp.int32) - step, ranks)), None

    start: tuple[Array, Array] = (jnp.zeros(n, bool), jnp.zeros(n, jnp.int32))
    ranks: Float[Array, " n"] = jax.lax.scan(remove, start, jnp.arange(n, dtype=jnp.int32))[0][1].astype(jnp.float32)
    return Attribution(name, ranks)

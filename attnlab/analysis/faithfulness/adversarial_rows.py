"""Adversarial attention for models whose predictions read several rows of weights: all rows are searched at once."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from attnlab.analysis.checks import check_positive
from attnlab.functional.divergence import jsd, tvd
from attnlab.functional.normalizers import softmax
from attnlab.functional.types import widen

SPREAD = 3.0
"""Standard deviation of the noise that is added to uniform logits at the start."""
PredictFromRows = Callable[[Float[Array, "r n"]], Float[Array, "d c"]]
"""(weights [r n]) -> the distributions of all d decisions, of a model whose rows of attention weights are these."""


class AdversarialRows(NamedTuple):
    """Adversarial attention weights of all rows of one example."""

    weights: Float[Array, "k r n"]
    """The weights of each restart after the last step."""
    tvds: Float[Array, " k"]
    """Distance of each one's prediction from the original prediction: the mean over the decisions."""
    jsds: Float[Array, " k"]
    """Divergence of each from the original weights: the mean over the rows that are searched, in [0, ln 2]."""
    epsilon_max_jsd: Float[Array, ""]
    """The largest of these divergences with a distance of at most ε; 0 (the original weights) if there is none."""
    best_weights: Float[Array, "r n"]
    """Of all weights at any step, those with the largest divergence and a distance of at most ε; else the original."""
    best_jsd: Float[Array, ""]
    """The divergence of `best_weights`, at least `epsilon_max_jsd`."""
    best_tvd: Float[Array, ""]
    """The distance of the prediction of `best_weights`, at most ε."""
    best_largest_tvd: Float[Array, ""]
    """The largest distance of a single decision with `best_weights`, which may be above ε."""


class _Search(NamedTuple):
    logits: Float[Array, "k r n"]
    state: optax.OptState
    best_weights: Float[Array, "k r n"]
    best_jsds: Float[Array, " k"]
    best_tvds: Float[Array, " k"]
    undefined: Bool[Array, ""]
    """Whether a distance or a divergence was NaN at any step."""


def adversarial_rows(
    rng: Array,
    predict: PredictFromRows,
    weights: Float[Array, "r n"],
    where: Bool[Array, "r n"],
    decisions: Bool[Array, " d"] | None = None,
    *,
    epsilon: float = 0.01,
    n_restarts: int = 5,
    n_steps: int = 500,
    learning_rate: float = 0.01,
    penalty: float = 500.0,
) -> AdversarialRows:
    """Search the rows of attention weights that are as different as possible with the same prediction, all at once.

    maximize Σ_k JSD(A⁽ᵏ⁾, Â) + (1/K²) Σ_{k, l} JSD(A⁽ᵏ⁾, A⁽ˡ⁾) − λ Σ_k max(0, TVD(f(A⁽ᵏ⁾), f(Â)) − ε),

    JSD(A, B) = (1/R) Σ_r JSD(A_r, B_r),    TVD(f(A), f(B)) = (1/D) Σ_d TVD(f_d(A), f_d(B))

    over the logits of the rows A_1 … A_R that a prediction reads (one for every output token, hop, head and layer) and
    its decisions f_1 … f_D (the tokens of an output; first and last word of a span; one class). With R = D = 1 this is
    the search of Jain & Wallace (`adversarial_attention`), who define it for one row; the means over rows and decisions
    are an extension. All rows are replaced together, since a row of a later hop or output token depends on what earlier
    ones took up: the result is one set of weights for the whole prediction. The threshold JSD ≥ 0.5 is theirs for one
    row, and that of a mean says less: some rows may be close to the original. A mean distance of ε may hide a decision
    that changed more: `best_largest_tvd`.

    Args:
        rng: a key of `jax.random`.
        predict: (weights [r n]) -> class probabilities [d c], deterministic and differentiable.
        weights: the rows of attention weights of one example; each sums to 1, or to 0 for a row without keys.
        where: True for keys among which the weights of a row are moved; the others keep theirs, and a row without any
            does not count.
        decisions: True for decisions that count; None for all.
        epsilon: the largest change of the prediction that counts as none.
        n_restarts: number K of weights that are searched at once.
        n_steps: number of steps of Adam, from uniform logits plus noise of standard deviation 3.
        learning_rate: of Adam.
        penalty: λ.
    Returns: an `AdversarialRows`. Its divergence is a lower bound of the largest one, and the more rows there are, the
        farther from it: a restart counts as a whole, with all rows that it began from. If no row is searched every
        divergence is 0.
    Numerics: as `adversarial_attention`: the last five fields are NaN if a weight or a prediction is at any step.
    Reference: Jain & Wallace 2019, algorithm 3 and section 4.2.2, for one row.

    >>> predict = lambda weights: weights[:1] @ jnp.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    >>> weights = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    >>> found = adversarial_rows(jax.random.key(0), predict, weights, jnp.ones((2, 3), bool))
    >>> bool(found.best_jsd > 0.6), bool(found.best_tvd <= 0.01)
    (True, True)
    """
    check_positive("adversarial_rows", n_restarts=n_restarts, n_steps=n_steps)
    weights = widen(weights)
    allowed = jnp.broadcast_to(where, (n_restarts, *where.shape))
    kept = jnp.where(where, 0.0, weights)
    free = jnp.sum(jnp.where(where, weights, 0.0), axis=-1, keepdims=True)
    searched = jnp.any(where, axis=-1)
    original, optimizer = predict(weights), optax.adam(learning_rate)
    counted = jnp.ones(len(original), bool) if decisions is None else decisions

    def distances(candidate: Float[Array, "r n"]) -> Float[Array, " d"]:
        return jnp.where(counted, tvd(predict(candidate), original).astype(weights.dtype), 0.0)

    def divergence(first: Float[Array, "r n"], second: Float[Array, "r n"]) -> Float[Array, ""]:
        return _mean(jnp.where(searched, jax.vmap(jsd)(first, second), 0.0), searched)

    def evaluate(logits: Float[Array, "k r n"]) -> tuple[Float[Array, "k r n"], Float[Array, " k"], Float[Array, " k"]]:
        candidates = free * softmax(logits.reshape(-1, where.shape[1]), allowed.reshape(-1, where.shape[1])).reshape(
            logits.shape
        ) + jnp.broadcast_to(kept, logits.shape)
        tvds = jax.vmap(lambda candidate: _mean(distances(candidate), counted))(candidates)
        return candidates, tvds, jax.vmap(lambda candidate: divergence(candidate, weights))(candidates)

    def loss(logits: Float[Array, "k r n"]) -> tuple[Float[Array, ""], tuple]:
        candidates, tvds, jsds = evaluate(logits)
        others = jax.lax.stop_gradient(candidates)  # JSD is symmetric: twice the gradient in its first argument
        spread = 2.0 * jnp.mean(jax.vmap(lambda p: jax.vmap(lambda q: divergence(p, q))(others))(candidates))
        violation = jnp.maximum(tvds - epsilon, 0.0)
        return penalty * jnp.sum(violation) - jnp.sum(jsds) - spread, (candidates, tvds, jsds)

    def keep_best(search: _Search, candidates: Array, tvds: Array, jsds: Array) -> _Search:
        better = (tvds <= epsilon) & (jsds > search.best_jsds)
        return search._replace(
            best_weights=jnp.where(better[:, None, None], candidates, search.best_weights),
            best_jsds=jnp.where(better, jsds, search.best_jsds),
            best_tvds=jnp.where(better, tvds, search.best_tvds),
            undefined=search.undefined | jnp.any(jnp.isnan(tvds) | jnp.isnan(jsds)),
        )

    def step(search: _Search, _: None) -> tuple[_Search, None]:
        gradient, evaluated = jax.grad(loss, has_aux=True)(search.logits)
        search = keep_best(search, *evaluated)
        updates, state = optimizer.update(gradient, search.state, search.logits)
        return search._replace(logits=jnp.asarray(optax.apply_updates(search.logits, updates)), state=state), None

    logits = SPREAD * jax.random.normal(rng, allowed.shape, weights.dtype)
    none = jnp.zeros(n_restarts, weights.dtype)
    start = jnp.broadcast_to(weights, allowed.shape)
    search = _Search(logits, optimizer.init(logits), start, none, none, jnp.zeros((), bool))
    search, _ = jax.lax.scan(step, search, length=n_steps)
    candidates, tvds, jsds = evaluate(search.logits)
    search = keep_best(search, candidates, tvds, jsds)
    best = jnp.argmax(search.best_jsds)
    feasible = jnp.max(jnp.where(tvds <= epsilon, jnp.maximum(jsds, 0.0), 0.0))
    largest = jnp.max(distances(search.best_weights[best]))
    found = feasible, search.best_weights[best], search.best_jsds[best], search.best_tvds[best], largest
    return AdversarialRows(candidates, tvds, jsds, *(jnp.where(search.undefined, jnp.nan, value) for value in found))


def _mean(values: Float[Array, " r"], counted: Bool[Array, " r"]) -> Float[Array, ""]:
    return jnp.sum(values) / jnp.maximum(jnp.sum(counted), 1).astype(values.dtype)

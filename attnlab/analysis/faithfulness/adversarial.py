"""Adversarial attention of Jain & Wallace 2019: other weights, as different as possible, with the same prediction."""

from typing import NamedTuple

from jaxtyping import Array, Bool, Float

from attnlab.analysis.checks import check_attributions, check_positive
from attnlab.analysis.faithfulness.adversarial_rows import adversarial_rows
from attnlab.analysis.faithfulness.removal import Attributions
from attnlab.analysis.functions import PredictFromWeights
from attnlab.functional.types import known

TOLERANCE = 1e-2
"""Largest difference from 1 of the sum of weights, which may be of bfloat16."""


class AdversarialAttention(NamedTuple):
    """Adversarial attention weights of one text."""

    weights: Float[Array, "k n"]
    """The weights of each restart after the last step."""
    tvds: Float[Array, " k"]
    """Distance of each one's prediction from the original prediction."""
    jsds: Float[Array, " k"]
    """Divergence of each from the original weights, in [0, ln 2]."""
    epsilon_max_jsd: Float[Array, ""]
    """The largest of these divergences with a distance of at most ε; 0 (the original weights) if there is none."""
    best_weights: Float[Array, " n"]
    """Of all weights at any step, those with the largest divergence and a distance of at most ε; else the original."""
    best_jsd: Float[Array, ""]
    """The divergence of `best_weights`, at least `epsilon_max_jsd`."""
    best_tvd: Float[Array, ""]
    """The distance of the prediction of `best_weights`, at most ε."""


def adversarial_attention(
    rng: Array,
    predict: PredictFromWeights,
    weights: Attributions,
    where: Bool[Array, " n"] | None = None,
    *,
    epsilon: float = 0.01,
    n_restarts: int = 5,
    n_steps: int = 500,
    learning_rate: float = 0.01,
    penalty: float = 500.0,
) -> AdversarialAttention:
    """Search attention weights that are as different from the original as possible and give the same prediction.

    maximize Σ_k JSD(α⁽ᵏ⁾, α̂) + (1/K²) Σ_{k, l} JSD(α⁽ᵏ⁾, α⁽ˡ⁾) − λ Σ_k max(0, TVD(f(α⁽ᵏ⁾), f(α̂)) − ε)

    over the logits of α⁽¹⁾ … α⁽ᴷ⁾, by Adam from uniform logits plus noise of standard deviation 3. A large
    divergence says that this model, with its values fixed, does not need these weights for this prediction; not that a
    model could have been trained to such weights (that is `training.objective.model_consistent_loss`, Wiegreffe &
    Pinter 2019).

    Args:
        rng: a key of `jax.random`.
        predict: (weights [n]) -> class probabilities [c], deterministic and differentiable.
        weights: attention weights over the tokens of one text, which sum to 1 (refused if not, where the values are
            known: outside `jit` and `vmap`), or are all 0 for a text without tokens.
        where: True for tokens among which weights are moved; None for all. Others keep their weight, as in
            `permutation_test`.
        epsilon: the largest change of the prediction that counts as none; the paper has 0.01 for classification and
            0.05 for question answering.
        n_restarts: number K of weights that are searched at once.
        n_steps: number of steps.
        learning_rate: of Adam.
        penalty: λ.
    Returns: an `AdversarialAttention`. For fewer than two tokens every divergence is 0.
    Numerics: the penalty is steep, so that the last step of a restart can lie just beyond ε: `best_weights` are the
        best of all steps. If a weight or a prediction is NaN at any step, so are the last four fields. Under `jit`,
        n_restarts and n_steps are static. For a batch, use `jax.jit(jax.vmap(…))`; memory is that of K predictions and
        their gradients a text.
    Reference: Jain & Wallace 2019, algorithm 3 and section 4.2.2, with the factors of the code published with it. (In
        the paper the second sum is over k < l, divided by K(K − 1), and the penalty is divided by K.) That code uses
        PyTorch's AMSGrad, which finds slightly less; optax's AMSGrad differs from it and finds less still.

    >>> import jax, jax.numpy as jnp
    >>> predict = lambda weights: jnp.array([0.5, 0.5])
    >>> found = adversarial_attention(jax.random.key(0), predict, jnp.array([1.0, 0.0, 0.0]))
    >>> bool(found.epsilon_max_jsd > 0.6), float(found.best_tvd)
    (True, 0.0)
    """
    name = "adversarial_attention"
    check_positive(name, n_restarts=n_restarts, n_steps=n_steps)
    original_weights, attended = check_attributions(name, weights, where, "where")
    _check_sum(name, original_weights)
    found = adversarial_rows(
        rng, lambda rows: predict(rows[0])[None], original_weights[None], attended[None],
        epsilon=epsilon, n_restarts=n_restarts, n_steps=n_steps, learning_rate=learning_rate, penalty=penalty,
    )  # fmt: skip
    return AdversarialAttention(
        found.weights[:, 0], found.tvds, found.jsds, found.epsilon_max_jsd, found.best_weights[0], found.best_jsd,
        found.best_tvd,
    )  # fmt: skip


def _check_sum(name: str, weights: Float[Array, " n"]) -> None:
    """Raise for weights that do not sum to 1, if their values are known; NaN is left to the result."""
    values = known(weights)
    if values is not None and values.any() and abs(values.sum() - 1.0) > TOLERANCE:
        raise ValueError(
            f"{name}: weights must sum to 1, not {values.sum():.4g}; pass the row of one query, padding and special "
            "tokens included, and mark the tokens to search over with where"
        )

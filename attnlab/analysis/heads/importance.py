"""Importance of heads: by gradient, by ablation, and by pruning until little is left.

A model takes part as a function of gates [l h], one number a head: 1 leaves its output as it is, 0 switches it off.
What "off" means is up to that function: `gate_heads` puts 0 or the head's mean output in its place.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from attnlab.functional.types import widen

Gates = Float[Array, "l h"]
Evaluate = Callable[[np.ndarray], float]
"""(gates [l h]) -> a score of the model, such as its accuracy on a fixed set."""


def gate_heads(
    outputs: Float[Array, "*b h v"],
    gates: Float[Array, " h"],
    replacement: Float[Array, "h v"] | None = None,
) -> Float[Array, "*b h v"]:
    """Scale the outputs of the heads of a layer before the output projection.

    gated_h = ξ_h output_h + (1 − ξ_h) replacement_h

    Args:
        outputs: outputs of the heads.
        gates: ξ, 1 for unchanged, 0 for ablated.
        replacement: what stands for an ablated head: None is 0 (zero ablation), `mean_output` is mean ablation, which
            keeps what the head adds to every token alike.
    Numerics: with gates of exactly 1 the outputs are unchanged, bit for bit; a NaN of an ablated head remains.

    >>> gate_heads(jnp.ones((1, 2, 1)), jnp.array([1.0, 0.0])).ravel().tolist()
    [1.0, 0.0]
    """
    gates = jnp.expand_dims(gates[:, None], range(outputs.ndim - 2))
    gated = outputs * gates.astype(outputs.dtype)
    if replacement is None:
        return gated
    off = (1.0 - gates) * jnp.expand_dims(replacement.astype(gates.dtype), range(outputs.ndim - 2))
    return gated + off.astype(outputs.dtype)


def mean_output(outputs: Float[Array, "*b h v"], valid: Bool[Array, "*b"] | None = None) -> Float[Array, "h v"]:
    """Return the mean output of each head over tokens, the replacement of mean ablation.

    Args:
        outputs: outputs of the heads for the tokens of a batch.
        valid: True for tokens that are not padding; None counts all.
    Returns: 0 if there is no token.

    >>> mean_output(jnp.array([[[1.0]], [[3.0]]])).tolist()
    [[2.0]]
    """
    heads, width = outputs.shape[-2:]
    rows = widen(outputs).reshape(-1, heads, width)
    mask = jnp.ones(rows.shape[0], bool) if valid is None else valid.reshape(-1)
    count = jnp.maximum(jnp.sum(mask.astype(rows.dtype)), 1.0)
    return jnp.sum(jnp.where(mask[:, None, None], rows, 0.0), axis=0) / count


def head_importance(
    loss: Callable[[Gates, Any], Array],
    gates: Gates,
    examples: PyTree[Array],
    valid: Bool[Array, " n"] | None = None,
) -> Gates:
    """Return the importance of each head as the expected sensitivity of the loss to its gate.

    I_h = E_x |∂L(x) / ∂ξ_h|

    The absolute value is taken for each example (as in the equation; the code of Michel et al. takes it for each
    token), so that the loss must be that of one example.

    Args:
        loss: (gates, example) -> the loss of one example, a scalar.
        gates: where the gradient is taken: ones, or with 0 for heads that are already pruned.
        examples: arrays with a first axis of n examples.
        valid: True for examples that are not padding of the batch; None counts all.
    Returns: at least 0, in units of the loss; 0 if no example counts.
    Numerics: the dtype of the gates; one example at a time.
    Reference: Michel, Levy & Neubig 2019, eq. 2.

    >>> examples = jnp.array([[1.0, -3.0], [1.0, 1.0]])
    >>> head_importance(lambda gates, x: jnp.sum(gates[0] * x), jnp.ones((1, 2)), examples).tolist()
    [[1.0, 2.0]]
    """
    gradients = jax.lax.map(lambda example: jnp.abs(jax.grad(loss)(gates, example)), examples)
    mask = jnp.ones(gradients.shape[0], bool) if valid is None else valid
    count = jnp.maximum(jnp.sum(mask.astype(gradients.dtype)), 1.0)
    return jnp.sum(jnp.where(mask[:, None, None], gradients, 0.0), axis=0) / count


def normalized_by_layer(importance: Gates) -> Gates:
    """Divide the importance of the heads of each layer by its ℓ2 norm, so that layers can be compared.

    Returns: rows of norm 1; a row of 0 remains 0.
    Reference: Michel, Levy & Neubig 2019, section 4.1, after Molchanov et al. 2017.

    >>> [round(value, 4) for value in normalized_by_layer(jnp.array([[3.0, 4.0]])).ravel().tolist()]
    [0.6, 0.8]
    """
    norm = jnp.sqrt(jnp.sum(importance**2, axis=1, keepdims=True))
    return importance / jnp.where(norm > 0.0, norm, 1.0)


def ablate_one(evaluate: Evaluate, layers: int, heads: int) -> Float[np.ndarray, "l h"]:
    """Return the score of the model with one head switched off, for each head.

    Args:
        evaluate: (gates [l h]) -> score.
        layers: number of layers.
        heads: number of heads of a layer.
    Returns: scores, in units of `evaluate`; compare them with `evaluate` of ones.
    Reference: Michel, Levy & Neubig 2019, section 3.2.

    >>> ablate_one(lambda gates: float(gates.sum()), 1, 2).tolist()
    [[1.0, 1.0]]
    """
    scores = np.zeros((layers, heads))
    for layer, head in np.ndindex(layers, heads):
        gates = np.ones((layers, heads), np.float32)
        gates[layer, head] = 0.0
        scores[layer, head] = evaluate(gates)
    return scores


def ablate_all_but_one(evaluate: Evaluate, layers: int, heads: int) -> Float[np.ndarray, "l h"]:
    """Return the score of the model with only one head of a layer left, all other layers whole, for each head.

    Reference: Michel, Levy & Neubig 2019, section 3.3.

    >>> ablate_all_but_one(lambda gates: float(gates.sum()), 2, 3).tolist()
    [[4.0, 4.0, 4.0], [4.0, 4.0, 4.0]]
    """
    scores = np.zeros((layers, heads))
    for layer, head in np.ndindex(layers, heads):
        gates = np.ones((layers, heads), np.float32)
        gates[layer] = 0.0
        gates[layer, head] = 1.0
        scores[layer, head] = evaluate(gates)
    return scores


class PruningCurve(NamedTuple):
    """The score of a model as its heads are switched off one after another."""

    pruned: tuple[tuple[int, int], ...]
    """(layer, head) in the order in which they are switched off."""
    heads: tuple[int, ...]
    """Number of heads that are off at each score: 0 first."""
    scores: tuple[float, ...]


def pruning_curve(
    evaluate: Evaluate,
    importance: Float[np.ndarray | Array, "l h"],
    *,
    recompute: Callable[[np.ndarray], Any] | None = None,
    step: int = 1,
    most: int | None = None,
) -> PruningCurve:
    """Switch off heads from the least to the most important, and evaluate the model after every step.

    Args:
        evaluate: (gates [l h]) -> score.
        importance: of each head, with all heads on.
        recompute: (gates [l h]) -> importance, called before every step but the first, with the heads so far at 0
            (iterative pruning); None ranks the heads once.
        step: heads that are switched off in a step; the last step may have fewer.
        most: heads to switch off in all; None is all of them.
    Returns: the curve, from all heads on. Of equally important heads the first goes first.
    Reference: Michel, Levy & Neubig 2019, section 4.1.

    >>> pruning_curve(lambda gates: float(gates[0] @ [1.0, 2.0]), np.array([[0.1, 0.2]])).scores
    (3.0, 2.0, 0.0)
    """
    current = np.asarray(importance)
    total = current.size if most is None else most
    if step < 1 or not 0 <= total <= current.size:
        raise ValueError(
            f"pruning_curve: step {step} must be at least 1, and most {most} None or in 0 to {current.size}, all heads"
        )
    gates = np.ones(current.shape, np.float32)
    pruned: list[tuple[int, int]] = []
    counts, scores = [0], [float(evaluate(gates.copy()))]
    while len(pruned) < total:
        if pruned and recompute is not None:
            current = np.asarray(recompute(gates.copy()))
        if current.shape != gates.shape or np.isnan(current).any():
            raise ValueError(f"pruning_curve: importance {current.shape} must be [l h] {gates.shape}, without NaN")
        order = np.argsort(np.where(gates > 0.0, current, np.inf), axis=None, kind="stable")
        order = order[gates.ravel()[order] > 0.0]
        for index in order[: min(step, total - len(pruned))]:
            layer, head = np.unravel_index(index, gates.shape)
            gates[layer, head] = 0.0
            pruned.append((int(layer), int(head)))
        counts.append(len(pruned))
        scores.append(float(evaluate(gates.copy())))
    return PruningCurve(tuple(pruned), tuple(counts), tuple(scores))

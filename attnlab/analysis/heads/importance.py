"""Importance of heads: by gradient, by ablation, and by pruning until little is left.

A model takes part as a function of gates, one number a head by the names of the layers: 1 leaves the head's output as
it is, 0 switches it off. What "off" means is up to that function. With interventions it is 0, or the mean output:

    intervene = {name: Partial(interventions.gated, gates=of_layer) for name, of_layer in gates.items()}
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, PyTree

from attnlab.functional.types import widen
from attnlab.layers.layer_attention import LayerAttention

Gates = Mapping[str, Float[Array | np.ndarray, " h"]]
"""A number for each head, by the name of its layer (`LayerAttention.name`)."""
Evaluate = Callable[[dict[str, np.ndarray]], float]
"""(gates) -> a score of the model, such as its accuracy on a fixed set."""


def open_gates(layers: Iterable[LayerAttention]) -> dict[str, np.ndarray]:
    """Return gates of 1 for all heads of the layers whose weights can be replaced.

    >>> from attnlab.layers.layer_attention import layer_attention
    >>> open_gates([layer_attention("self", "encoder", 1, np.zeros((1, 2, 3, 3)))])
    {'encoder/layer_1/self_attention': array([1., 1.], dtype=float32)}
    """
    return {layer.name: np.ones(layer.weights.shape[1], np.float32) for layer in layers if layer.replaceable}


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
    loss: Callable[[Any, Any], Array],
    gates: Gates,
    examples: PyTree[Array],
    valid: Bool[Array, " n"] | None = None,
) -> dict[str, Array]:
    """Return the importance of each head as the expected sensitivity of the loss to its gate.

    I_h = E_x |∂L(x) / ∂ξ_h|

    The absolute value is taken for each example (as in the equation; the code of Michel et al. takes it for each
    token), so that the loss must be that of one example.

    Args:
        loss: (gates, example) -> the loss of one example, a scalar.
        gates: where the gradient is taken: ones, or with 0 for heads that are already pruned.
        examples: arrays with a first axis of n examples.
        valid: True for examples that are not padding of the batch; None counts all.
    Returns: at least 0, in units of the loss, like the gates; 0 if no example counts.
    Numerics: the dtype of the gates; one example at a time.
    Reference: Michel, Levy & Neubig 2019, eq. 2.

    >>> examples = jnp.array([[1.0, -3.0], [1.0, 1.0]])
    >>> head_importance(lambda gates, x: jnp.sum(gates["a"] * x), {"a": jnp.ones(2)}, examples)["a"].tolist()
    [1.0, 2.0]
    """
    opened = {name: jnp.asarray(of_layer) for name, of_layer in gates.items()}
    gradients = jax.lax.map(lambda example: jax.grad(loss)(opened, example), examples)

    def mean(gradient: Float[Array, "n h"]) -> Float[Array, " h"]:
        mask = jnp.ones(gradient.shape[0], bool) if valid is None else valid
        count = jnp.maximum(jnp.sum(mask.astype(gradient.dtype)), 1.0)
        return jnp.sum(jnp.where(mask[:, None], jnp.abs(gradient), 0.0), axis=0) / count

    return jax.tree.map(mean, gradients)


def normalized_by_layer(importance: Gates) -> dict[str, Array]:
    """Divide the importance of the heads of each layer by its ℓ2 norm, so that layers can be compared.

    Returns: layers of norm 1; a layer of 0 remains 0.
    Reference: Michel, Levy & Neubig 2019, section 4.1, after Molchanov et al. 2017.

    >>> [round(value, 4) for value in normalized_by_layer({"a": jnp.array([3.0, 4.0])})["a"].tolist()]
    [0.6, 0.8]
    """

    def normalized(of_layer: Float[Array, " h"]) -> Float[Array, " h"]:
        norm = jnp.sqrt(jnp.sum(of_layer**2))
        return of_layer / jnp.where(norm > 0.0, norm, 1.0)

    return {name: normalized(jnp.asarray(of_layer)) for name, of_layer in importance.items()}


def ablate_one(evaluate: Evaluate, gates: Gates) -> dict[str, np.ndarray]:
    """Return the score of the model with one head switched off, for each head.

    Args:
        evaluate: (gates) -> score.
        gates: of the whole model, usually `open_gates`; each in turn is set to 0.
    Returns: scores, in units of `evaluate`; compare them with `evaluate` of the gates.
    Reference: Michel, Levy & Neubig 2019, section 3.2.

    >>> ablate_one(lambda gates: float(gates["a"].sum()), {"a": np.ones(2)})["a"].tolist()
    [1.0, 1.0]
    """

    def closed(of_layer: np.ndarray, head: int) -> np.ndarray:
        return np.where(np.arange(len(of_layer)) == head, 0.0, of_layer).astype(np.float32)

    return _each(evaluate, gates, closed)


def ablate_all_but_one(evaluate: Evaluate, gates: Gates) -> dict[str, np.ndarray]:
    """Return the score of the model with only one head of a layer left, all other layers whole, for each head.

    Reference: Michel, Levy & Neubig 2019, section 3.3.

    >>> ablate_all_but_one(lambda gates: float(gates["a"].sum()), {"a": np.ones(3)})["a"].tolist()
    [1.0, 1.0, 1.0]
    """

    def closed(of_layer: np.ndarray, head: int) -> np.ndarray:
        return np.where(np.arange(len(of_layer)) == head, of_layer, 0.0).astype(np.float32)

    return _each(evaluate, gates, closed)


def _each(evaluate: Evaluate, gates: Gates, closed: Callable[[np.ndarray, int], np.ndarray]) -> dict[str, np.ndarray]:
    given = {name: np.asarray(of_layer, np.float32) for name, of_layer in gates.items()}
    return {
        name: np.array([evaluate({**given, name: closed(of_layer, head)}) for head in range(len(of_layer))])
        for name, of_layer in given.items()
    }


class PruningCurve(NamedTuple):
    """Scores of a model while heads are switched off, the least important first."""

    pruned: tuple[tuple[str, int], ...]
    """(name of the layer, number of the head, from 1), in the order in which they were switched off."""
    heads: tuple[int, ...]
    """Number of heads that are off at each score: 0 first."""
    scores: tuple[float, ...]


def pruning_curve(
    evaluate: Evaluate,
    importance: Gates,
    *,
    recompute: Callable[[dict[str, np.ndarray]], Gates] | None = None,
    step: int = 1,
    most: int | None = None,
) -> PruningCurve:
    """Switch off heads from the least to the most important, and evaluate the model after every step.

    Args:
        evaluate: (gates) -> score.
        importance: of each head, with all heads on.
        recompute: (gates) -> importance, called before every step but the first, with the heads so far at 0
            (iterative pruning); None ranks the heads once.
        step: heads that are switched off in a step; the last step may have fewer.
        most: heads to switch off in all; None is all of them.
    Returns: the curve, from all heads on. Of equally important heads the first goes first.
    Reference: Michel, Levy & Neubig 2019, section 4.

    >>> pruning_curve(lambda gates: float(gates["a"] @ [1.0, 2.0]), {"a": np.array([0.1, 0.2])}).scores
    (3.0, 2.0, 0.0)
    """
    heads = [(name, head) for name, of_layer in importance.items() for head in range(len(of_layer))]
    total = len(heads) if most is None else most
    if step < 1 or not 0 <= total <= len(heads):
        raise ValueError(
            f"pruning_curve: step {step} must be at least 1, and most {most} None or in 0 to {len(heads)}, all heads"
        )
    gates = {name: np.ones(len(of_layer), np.float32) for name, of_layer in importance.items()}
    current = _ranked(importance, gates)
    pruned: list[tuple[str, int]] = []
    counts, scores = [0], [float(evaluate(_copy(gates)))]
    while len(pruned) < total:
        if pruned and recompute is not None:
            current = _ranked(recompute(_copy(gates)), gates)
        left = [place for place in heads if place not in pruned]
        left.sort(key=lambda place: current[place[0]][place[1]])  # stable: of equal ones the first
        for name, head in left[: min(step, total - len(pruned))]:
            gates[name][head] = 0.0
            pruned.append((name, head))
        counts.append(len(pruned))
        scores.append(float(evaluate(_copy(gates))))
    return PruningCurve(tuple((name, head + 1) for name, head in pruned), tuple(counts), tuple(scores))


def _copy(gates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: of_layer.copy() for name, of_layer in gates.items()}


def _ranked(importance: Gates, gates: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the importance on the host, after a check that it has a number for each head."""
    found = {name: np.asarray(of_layer) for name, of_layer in importance.items()}
    shapes, expected = ({name: x.shape for name, x in arrays.items()} for arrays in (found, gates))
    if shapes != expected or any(np.isnan(x).any() for x in found.values()):
        raise ValueError(f"pruning_curve: importance {shapes} must be a number, not NaN, for each head: {expected}")
    return found

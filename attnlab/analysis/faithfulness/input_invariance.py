"""Input invariance: attributions should not change with a shift of the input that the model takes back."""

from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from attnlab.analysis.attribution.checks import check_embedded
from attnlab.analysis.functions import Score
from attnlab.analysis.record import Attribution
from attnlab.functional.types import widen

Method = Callable[[Score, Float[Array, "n d"]], Float[Array, "n *features"] | Attribution]
"""(score, embedded [n d]) -> attributions of one text: one number a token, or more; an array or an `Attribution`."""


def input_invariance(
    method: Method, score: Score, embedded: Float[Array, "n d"], shift: Float[Array, " m"]
) -> Float[Array, ""]:
    """Compute how much attributions change if the input is shifted and the model takes the shift back.

    ‖Φ(f′, x + m) − Φ(f, x)‖₂ / ‖Φ(f, x)‖₂,    f′(z) = f(z − m)

    f′ computes from x + m what f does from x, with the same gradients, as a bias of its first layer could. The lower
    the better: 0 for gradients such as `saliency`. Gradient × input changes, and so do integrated gradients unless
    their baseline is shifted too; it is part of `method`, which sees the shifted input.

    Args:
        method: a method of `analysis.attribution` with its options bound, as `lambda score, x: saliency(score, x)`.
        score: (embedded [n d]) -> the score of the target.
        embedded: the embeddings of the tokens, without padding.
        shift: m, the same for all tokens.
    Returns: at least 0; NaN or ∞ if all attributions are 0.
    Numerics: float32 at least; rounding of x + m − m makes it about 1e-6 rather than 0 for invariant methods.
    Reference: Kindermans et al. 2019, "The (Un)reliability of saliency methods", section 2.

    >>> score = lambda embedded: jnp.sum(embedded**2)
    >>> by_input = lambda score, x: 2 * x * x
    >>> float(input_invariance(by_input, score, jnp.ones((1, 1)), jnp.array([1.0])))
    3.0
    """
    check_embedded("input_invariance", embedded)
    if jnp.shape(shift) != embedded.shape[1:]:
        raise ValueError(f"input_invariance: shift must be [{embedded.shape[1]}], not {list(jnp.shape(shift))}")

    def attributed(score: Score, x: Float[Array, "n d"]) -> Float[Array, " all"]:
        result = method(score, x)
        return widen(result.attributions if isinstance(result, Attribution) else jnp.asarray(result)).ravel()

    original = attributed(score, embedded)
    change = attributed(lambda x: score(x - shift), embedded + shift) - original
    return jnp.sqrt(jnp.sum(change**2)) / jnp.sqrt(jnp.sum(original**2))

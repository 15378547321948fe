"""How alike heads are: Jensen–Shannon divergence, the best match of the heads of two seeds, linear CKA."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.optimize import linear_sum_assignment

from attnlab.analysis.heads.patterns import Mask, mean_over_queries, visible
from attnlab.functional.divergence import jsd
from attnlab.functional.types import widen


def head_divergence(
    weights: Float[Array, "h q k"], others: Float[Array, "g q k"] | None = None, where: Mask | None = None
) -> Float[Array, "h g"]:
    """Return the Jensen–Shannon divergence between heads, as the mean over queries.

    divergence[a, b] = mean_q JSD(weights[a, q], others[b, q])

    Small entries are redundant heads. Average the matrices of many examples.

    Args:
        weights: the heads of one example.
        others: other heads of the same example, such as those of another seed; None compares the heads with each
            other, with a diagonal of 0.
        where: mask [q k] of all heads; queries that may attend to nothing do not count.
    Returns: in [0, ln 2]; 0 if no query counts.
    Numerics: memory for one head against all others at a time.
    Reference: Clark et al. 2019, section 6 (heads in clusters by JSD).

    >>> head_divergence(jnp.stack([jnp.eye(2), jnp.eye(2)])).tolist()
    [[0.0, 0.0], [0.0, 0.0]]
    """
    others = weights if others is None else others

    def against_all(head: Float[Array, "q k"]) -> Float[Array, " g"]:
        def between(other: Float[Array, "q k"]) -> Float[Array, ""]:
            (mine, mask), (theirs, _) = visible(head, where), visible(other, where)
            return mean_over_queries(jsd(mine, theirs), mask)

        return jax.vmap(between)(others)

    return jax.lax.map(against_all, weights)


class HeadMatch(NamedTuple):
    """The best one-to-one match of the heads of two models."""

    first: Int[np.ndarray, " m"]
    """Rows of `divergence`, ascending, from 0; all of them if there are no more rows than columns."""
    second: Int[np.ndarray, " m"]
    """The column of `divergence` that each row is matched with."""
    divergence: Float[np.ndarray, " m"]
    """Of each match."""

    @property
    def stability(self) -> float:
        """Mean divergence of the matches; 0 if both models have the same heads in any order, NaN if they have none."""
        return float(self.divergence.mean()) if len(self.divergence) else float("nan")


def match_heads(divergence: Float[np.ndarray | Array, "h g"]) -> HeadMatch:
    """Match the heads of two models, such as two seeds, so that the summed divergence is as small as possible.

    Args:
        divergence: of every head of the first with every head of the second (see `head_divergence`), averaged over
            examples; heads of all layers may stand together.
    Reference: Kuhn 1955 (the Hungarian method), by `scipy.optimize.linear_sum_assignment`.

    >>> match_heads(np.array([[0.5, 0.0], [0.1, 0.5]])).second.tolist()
    [1, 0]
    """
    matrix = np.asarray(divergence)
    if not np.isfinite(matrix).all():
        raise ValueError("match_heads: divergence must be finite; look for NaN in the weights (heads.attention_alarms)")
    first, second = linear_sum_assignment(matrix)
    return HeadMatch(first, second, matrix[first, second])


def linear_cka(
    first: Float[Array, "n d"], second: Float[Array, "n e"], valid: Bool[Array, " n"] | None = None
) -> Float[Array, ""]:
    """Return the linear centered kernel alignment of two representations of the same tokens.

    CKA(X, Y) = ‖Yᵀ X‖²_F / (‖Xᵀ X‖_F ‖Yᵀ Y‖_F)    with columns of mean 0

    Invariant to rotation and to a common scale, not to any invertible linear map.

    Args:
        first: features of each token, such as the outputs of a head.
        second: other features of the same tokens.
        valid: True for tokens that are not padding; None counts all.
    Returns: in [0, 1]; 1 for equal representations up to rotation and scale; 0 if either is constant. With fewer tokens
        than features it is high even for unrelated features.
    Numerics: float32 or wider; for differences below 1e-3 use float64.
    Reference: Kornblith et al. 2019, section 3, "Linear CKA".

    >>> round(float(linear_cka(jnp.eye(3), 2 * jnp.eye(3)[:, ::-1])), 4)
    1.0
    """
    mask = jnp.ones(first.shape[0], bool) if valid is None else valid

    def centered(features: Float[Array, "n f"]) -> Float[Array, "n f"]:
        features = jnp.where(mask[:, None], widen(features), 0.0)
        count = jnp.maximum(jnp.sum(mask.astype(features.dtype)), 1.0)
        return jnp.where(mask[:, None], features - jnp.sum(features, axis=0, keepdims=True) / count, 0.0)

    def norm(left: Float[Array, "n f"], right: Float[Array, "n g"]) -> Float[Array, ""]:
        return jnp.sqrt(jnp.sum((left.T @ right) ** 2))

    x, y = centered(first), centered(second)
    scale = norm(x, x) * norm(y, y)
    return jnp.where(scale > 0.0, norm(y, x) ** 2 / jnp.where(scale > 0.0, scale, 1.0), 0.0)

"""Detection of heads by the pattern they attend in: previous token, duplicate token, induction.

The patterns and the two measures are those of TransformerLens (`head_detector.py`): a pattern [t t] says which key each
query of such a head attends to, and a score how far the head does so. Here scores are not rounded, weights are not
changed in place, padding is allowed, and the score is 0 instead of NaN if no weight is left.
"""

from typing import Literal

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from attnlab.functional.types import widen

Square = Float[Array, "t t"]
Valid = Bool[Array, " t"]
Tokens = Int[Array, " t"]
ErrorMeasure = Literal["mul", "abs"]


def previous_token_pattern(length: int) -> Square:
    """Return the pattern of a previous-token head: query i attends to key i − 1; the first query to none.

    >>> previous_token_pattern(3).tolist()
    [[0.0, 0.0, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return jnp.eye(length, k=-1)


def duplicate_token_pattern(tokens: Tokens, valid: Valid | None = None) -> Square:
    """Return the pattern of a duplicate-token head: each query attends to all earlier occurrences of its token.

    With several occurrences a row sums to more than 1, which "abs" then cannot match (as in TransformerLens).

    >>> duplicate_token_pattern(jnp.array([5, 6, 5])).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """
    equal = tokens[:, None] == tokens[None, :]
    if valid is not None:
        equal &= valid[:, None] & valid[None, :]
    return jnp.tril(equal, k=-1).astype(jnp.float32)


def induction_pattern(tokens: Tokens, valid: Valid | None = None) -> Square:
    """Return the pattern of an induction head: queries attend to what came after earlier occurrences of their token.

    Of two equal tokens in a row, the second attends to itself.

    >>> induction_pattern(jnp.array([5, 6, 5])).tolist()
    [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    """
    return jnp.pad(duplicate_token_pattern(tokens, valid), ((0, 0), (1, 0)))[:, : tokens.shape[0]]


def pattern_score(
    weights: Square,
    pattern: Square,
    valid: Valid | None = None,
    *,
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    error_measure: ErrorMeasure = "mul",
) -> Float[Array, ""]:
    """Return how far a head attends in a pattern.

    "mul"    Σ weights ⊙ pattern / Σ weights    the share of the head's attention in the pattern
    "abs"    1 − (1/T) Σ |weights − pattern|     1 minus the mean absolute difference of a row

    Args:
        weights: self-attention of one head, rows that sum to 1, usually causal.
        pattern: what the head should attend to; of 0 and 1 for "mul".
        valid: True for tokens that are not padding; None counts all.
        exclude_bos: leave out the attention to the first token.
        exclude_current_token: leave out the attention of each token to itself.
        error_measure: "mul" or "abs".
    Returns: "mul" in [0, 1] for a pattern of 0 and 1, 0 if no attention is left; "abs" in [−1, 1] for rows of the
        pattern that sum to at most 1, 1 only for equal ones.
    Reference: TransformerLens, head_detector.py, `compute_head_attention_similarity_score`.

    >>> weights = jnp.array([[1.0, 0.0], [0.75, 0.25]])
    >>> [float(pattern_score(weights, previous_token_pattern(2), error_measure=name)) for name in ("mul", "abs")]
    [0.375, 0.25]
    """
    if error_measure not in ("mul", "abs"):
        raise ValueError(f'pattern_score: error_measure {error_measure!r} must be "mul" or "abs"')
    size = weights.shape[0]
    real = jnp.ones(size, bool) if valid is None else valid
    kept = real[:, None] & real[None, :]
    if exclude_bos:
        kept &= (jnp.arange(size) != (0 if valid is None else jnp.argmax(real)))[None, :]
    if exclude_current_token:
        kept &= ~jnp.eye(size, dtype=bool)
    weights = jnp.where(kept, widen(weights), 0.0)
    pattern = jnp.where(kept, pattern, 0.0).astype(weights.dtype)
    if error_measure == "abs":
        count = jnp.maximum(jnp.sum(real.astype(weights.dtype)), 1.0)
        return jnp.where(real.any(), 1.0 - jnp.sum(jnp.abs(weights - pattern)) / count, 0.0)
    total = jnp.sum(weights)
    return jnp.where(total > 0.0, jnp.sum(weights * pattern) / jnp.where(total > 0.0, total, 1.0), 0.0)


def previous_token_head(
    weights: Square,
    valid: Valid | None = None,
    *,
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    error_measure: ErrorMeasure = "mul",
) -> Float[Array, ""]:
    """Return the score of a head as a previous-token head (see `pattern_score`).

    The first token has no previous one but counts: a perfect head has (T − 1) / T, unless `exclude_bos` or "abs" says
    otherwise.

    >>> float(previous_token_head(jnp.eye(2)[jnp.array([0, 0])]))
    0.5
    """
    return pattern_score(
        weights, previous_token_pattern(weights.shape[0]), valid,
        exclude_bos=exclude_bos, exclude_current_token=exclude_current_token, error_measure=error_measure,
    )  # fmt: skip


def duplicate_token_head(
    weights: Square,
    tokens: Tokens,
    valid: Valid | None = None,
    *,
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    error_measure: ErrorMeasure = "mul",
) -> Float[Array, ""]:
    """Return the score of a head as a duplicate-token head (see `pattern_score`).

    Args:
        weights: self-attention of one head.
        tokens: identifiers of the tokens, in which tokens occur more than once, such as a random sequence twice.
        valid: True for tokens that are not padding; None counts all.
        exclude_bos: leave out the attention to the first token.
        exclude_current_token: leave out the attention of each token to itself.
        error_measure: "mul" or "abs".

    >>> float(duplicate_token_head(jnp.eye(3)[jnp.array([0, 1, 0])], jnp.array([5, 6, 5]), exclude_current_token=True))
    1.0
    """
    return pattern_score(
        weights, duplicate_token_pattern(tokens, valid), valid,
        exclude_bos=exclude_bos, exclude_current_token=exclude_current_token, error_measure=error_measure,
    )  # fmt: skip


def induction_head(
    weights: Square,
    tokens: Tokens,
    valid: Valid | None = None,
    *,
    exclude_bos: bool = False,
    exclude_current_token: bool = False,
    error_measure: ErrorMeasure = "mul",
) -> Float[Array, ""]:
    """Return the score of a head as an induction head (see `pattern_score`).

    Args:
        weights: self-attention of one head.
        tokens: identifiers of the tokens, in which a sequence occurs twice.
        valid: True for tokens that are not padding; None counts all.
        exclude_bos: leave out the attention to the first token.
        exclude_current_token: leave out the attention of each token to itself.
        error_measure: "mul" or "abs".
    Reference: Olsson et al. 2022, "In-context learning and induction heads" ("prefix matching").

    >>> weights = jnp.eye(4)[jnp.array([0, 0, 1, 2])]
    >>> float(induction_head(weights, jnp.array([5, 6, 5, 6])))
    0.5
    """
    return pattern_score(
        weights, induction_pattern(tokens, valid), valid,
        exclude_bos=exclude_bos, exclude_current_token=exclude_current_token, error_measure=error_measure,
    )  # fmt: skip

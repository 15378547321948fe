"""All metrics of erasure of one method and one example, from one deletion and one insertion curve.

The functions of `analysis.faithfulness` compute each metric with predictions of its own; here they share these. Both
are held equal by a test.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array
from jaxtyping import Bool, Float, Int

from attnlab.analysis.battery.predictions import Reading, mean_over_rows
from attnlab.analysis.checks import has_nan
from attnlab.analysis.faithfulness.removal import RATIOS, token_counts, top_tokens


class Versions(NamedTuple):
    """The versions of a text that the metrics of one method need."""

    removed: Bool[Array, "m n"]
    """True for removed tokens: first the versions without the top tokens, then those with the top tokens alone."""
    counts: Int[Array, " s"]
    """Number of top tokens at each share."""


def versions(values: Float[Array, " n"], removable: Bool[Array, " n"], shares: Sequence[float]) -> Versions:
    """Return the versions at all shares but 0 and 1, which are the same for all methods."""
    counts = token_counts(values, removable, shares)
    top = top_tokens(values, counts[1:-1], removable)
    return Versions(jnp.concatenate([top, ~top & removable[None, :]]), counts)


def with_ends(full: Reading, null: Reading, inside: Reading) -> tuple[Reading, Reading]:
    """Return the deletion and the insertion curve, from the predictions for `versions` and for the two ends."""

    def stacked(first: Array, middle: Array, last: Array) -> Array:
        return jnp.concatenate([first[None], middle, last[None]])

    half = len(inside.log_probability) // 2
    deleted, inserted = (Reading(*(field[place] for field in inside)) for place in (slice(half), slice(half, None)))
    deletion = Reading(*map(stacked, full, deleted, null))
    insertion = Reading(*map(stacked, null, inserted, full))
    return deletion, insertion


def erasure_metrics(
    deletion: Reading,
    insertion: Reading,
    counts: Int[Array, " s"],
    real: Bool[Array, " r"],
    shares: Sequence[float],
) -> dict[str, Array]:
    """Return every metric of erasure.

    Args:
        deletion: predictions without the top tokens, at each share from 0 to 1.
        insertion: predictions with the top tokens alone.
        counts: number of tokens at each share.
        real: which decisions are real.
        shares: the shares, ERASER's among them.
    """
    at = jnp.asarray([shares.index(ratio) for ratio in RATIOS])
    without, alone = jnp.exp(deletion.log_probability), jnp.exp(insertion.log_probability)
    full, null = without[0], without[-1]
    fall = jnp.where(full > null, full - null, jnp.nan)
    tokens = counts[-1]
    defined = {
        "aopc_compr": jnp.mean(full - without[at]),
        "aopc_suff": jnp.mean(full - alone[at]),
        "normalized_comprehensiveness": jnp.mean(jnp.clip((full - without[at]) / fall, 0.0, 1.0)),
        "normalized_sufficiency": jnp.mean(jnp.clip(1.0 - jnp.maximum(full - alone[at], 0.0) / fall, 0.0, 1.0)),
        "log_odds": jnp.mean(deletion.log_probability[at]) - deletion.log_probability[0],
        "deletion_auc": area(without, counts),
        "insertion_auc": area(alone, counts),
        "decision_flip_fraction": flip_fraction(deletion.decisions, counts, real),
    }
    return {name: jnp.where(tokens > 0, value, jnp.nan) for name, value in defined.items()}


def area(curve: Float[Array, " s"], counts: Int[Array, " s"]) -> Float[Array, ""]:
    """Return the area under a curve over the share of tokens, by the trapezoidal rule.

    >>> float(area(jnp.array([1.0, 0.5, 0.0]), jnp.array([0, 2, 2])))
    0.75
    """
    place = counts.astype(curve.dtype) / jnp.maximum(counts[-1], 1)
    return jnp.sum((curve[1:] + curve[:-1]) / 2.0 * (place[1:] - place[:-1]))


def flip_fraction(decisions: Int[Array, "s r"], counts: Int[Array, " s"], real: Bool[Array, " r"]) -> Float[Array, ""]:
    """Return the smallest share of tokens, of those computed, without which a decision is another one.

    It is defined for decisions that are others without any token, whatever was removed before: so it is a mean over the
    same texts for all methods. Of a generated text it is the mean over such tokens.

    Returns: in (0, 1]; NaN if the empty text has the same decisions.
    Reference: Serrano & Smith 2019, section 5, who remove one token after another.

    >>> float(flip_fraction(jnp.array([[1], [1], [0]]), jnp.array([0, 1, 2]), jnp.array([True])))
    1.0
    """
    changed = decisions != decisions[:1]
    first = counts[jnp.argmax(changed, axis=0)] / jnp.maximum(counts[-1], 1)
    return mean_over_rows(jnp.where(changed[-1], first, jnp.nan), real)


def undefined_for_nan(
    metrics: dict[str, Array], values: Float[Array, " n"], removable: Bool[Array, " n"]
) -> dict[str, Array]:
    """Return NaN for all metrics if the attribution of a token that counts is NaN."""
    undefined = has_nan(values, removable)
    return {name: jnp.where(undefined, np.nan, value) for name, value in metrics.items()}

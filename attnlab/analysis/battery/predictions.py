"""What the battery takes of a model's logits: probability of the target, decisions, and distributions."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jaxtyping import Bool, Float

from attnlab.analysis.battery.chunks import Arrays, Static
from attnlab.tasks.adapter import ModelAdapter


class Reading(NamedTuple):
    """What is taken of the logits of one version of an example."""

    log_probability: Any
    """Of the target; of a generated text the mean over its tokens."""
    decisions: Any
    """[r] numbers of the decisions: a class, an answer, a span, or the best token at each place of a generated text."""


def reader(adapter: ModelAdapter, static: Static, one: Arrays) -> Callable[[Array], Reading]:
    """Return the function (logits) -> `Reading` of an example.

    The probability of a generated text is the geometric mean of the probabilities of its tokens,

        f(x) = exp(log p(y | x) / |y|),

    as that of the whole text falls with its length and would make longer texts count less.
    """

    def read(logits: Array) -> Reading:
        score = one.target(logits, one.batch)
        return Reading(score / one.tokens, adapter.decisions(logits[0]))

    return read


def distributions(logits: Array) -> Float[Array, "r c"]:
    """Return the probabilities of the first row of logits [b ... c], one distribution for each decision."""
    return jax.nn.softmax(logits[0].reshape(-1, logits.shape[-1]), axis=-1)


def real_rows(static: Static, one: Arrays, rows: int) -> Bool[Array, " r"]:
    """Return which distributions are of real decisions: all, or of a generated text those of its tokens."""
    return jnp.arange(rows) < (one.tokens if static.generated else rows)


def mean_over_rows(values: Float[Array, " r"], real: Bool[Array, " r"]) -> Float[Array, ""]:
    """Return the mean over real decisions that are numbers; NaN if there are none."""
    counts = real & ~jnp.isnan(values)
    total = jnp.sum(jnp.where(counts, values, 0.0))
    number = jnp.sum(counts)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)

"""What is allowed, and logits that are safe to compute with: where they are not allowed, and where they are huge."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.types import widen


def guard(
    logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None
) -> tuple[Float[Array, "*axes"], Bool[Array, "*axes"]]:
    """Return the logits, at least float32 and 0 where they are not allowed, and which are allowed.

    A logit of −inf is not allowed. No gradient reaches what is not.

    >>> safe, may = guard(jnp.array([1.0, -jnp.inf, jnp.nan]), jnp.array([True, True, False]))
    >>> safe.tolist(), may.tolist()
    ([1.0, 0.0, 0.0], [True, False, False])
    """
    may = logits != -jnp.inf
    if where is not None:
        may &= where
    return jnp.where(may, widen(logits), 0.0), may


def positive_part(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return max(x, 0), with derivative 0 at 0; NaN stays.

    >>> positive_part(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return jnp.where(x <= 0.0, 0.0, x)


@jax.custom_jvp
def rounded(logits: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the logits as they are, rounded to their dtype wherever the compiler uses them.

    A compiler that computes a product again where it is used may fuse it with the subtraction that follows (one
    multiply-add, rounded once), so that the largest logit minus the maximum of the logits is not 0 but up to half a
    unit in the last place: 512 for a float32 of 1e10, whose exponential is infinite. No multiply-add reaches through
    a select.

    >>> rounded(jnp.array([1.0, -jnp.inf, jnp.nan])).tolist()
    [1.0, -inf, nan]
    """
    return jnp.where(jnp.isnan(logits), jnp.nan, logits)


@rounded.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return rounded(*primals), tangents[0]

"""Logits that are safe to compute with: without masked values, and rounded consistently where they are large."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float

from attnlab.functional.types import widen


def guard(
    logits: Float[Array, "*axes"], where: Bool[Array, "*axes"] | None = None
) -> tuple[Float[Array, "*axes"], Bool[Array, "*axes"]]:
    """Return the logits in float32 at least, with 0 where masked, and the truth values of the allowed logits.

    A logit of −inf is masked too. No gradient reaches masked logits.

    >>> safe, may = guard(jnp.array([1.0, -jnp.inf, jnp.nan]), jnp.array([True, True, False]))
    >>> safe.tolist(), may.tolist()
    ([1.0, 0.0, 0.0], [True, False, False])
    """
    may = logits != -jnp.inf
    if where is not None:
        may &= where
    return jnp.where(may, widen(logits), 0.0), may


def positive_part(x: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return max(x, 0), with derivative 0 at 0; NaN stays NaN.

    >>> positive_part(jnp.array([-1.0, 2.0])).tolist()
    [0.0, 2.0]
    """
    return jnp.where(x <= 0.0, 0.0, x)


@jax.custom_jvp
def rounded(logits: Float[Array, "*axes"]) -> Float[Array, "*axes"]:
    """Return the logits unchanged, but rounded to their dtype at every use.

    A compiler that recomputes a product at each use may fuse it with the following subtraction (one multiply-add,
    rounded once), so that the largest logit minus the maximum of the logits is not 0 but up to half a unit in the last
    place: 512 for a float32 of 1e10, whose exponential is infinite. Compilers do not fuse through a select.

    >>> rounded(jnp.array([1.0, -jnp.inf, jnp.nan])).tolist()
    [1.0, -inf, nan]
    """
    return jnp.where(lax.ne(logits, logits), jnp.nan, logits)


@rounded.defjvp
def _(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    return rounded(*primals), tangents[0]

"""Biases that are not learned: a Gaussian around the diagonal, and random numbers.

With `scores.constant` the weights depend on positions alone: attention that is hard-wired or random, and no longer
looks at what it attends to. With another score they are added to its logits.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from jax.scipy.special import ndtri
from jax.tree_util import Partial

from attnlab.functional import random
from attnlab.functional.parameters import check_values, positive, scalar, valid_scalar
from attnlab.functional.parts import MappedArray
from attnlab.functional.signatures import suggest_arguments
from attnlab.functional.types import Logits, Positions, widen

Mod = Callable[[Logits, Positions], Logits]
Number = float | int | Array | MappedArray
_STREAM = 0x72616E64
"""Folded into the rng so that the numbers are independent of dropout (the letters "rand")."""


@suggest_arguments()
def diagonal_bias(width: Number = 1.0, *, ratio: Number = 1.0, offset: Number = 0.0) -> Mod:
    """Subtract the squared distance of a key from the diagonal: a Gaussian around it after a softmax.

    logits[i, j] ← logits[i, j] − (j − c_i)² / (2 width²),    c_i = ratio · i + offset

    With `scores.constant` it is hard-coded Gaussian attention: the weights are a normal density of the key's position
    with mean c_i and standard deviation `width`, normalized over the keys that a query may attend to. A query whose
    center is beyond the last key attends to the last keys.

    Args:
        width: the standard deviation in positions, a positive number or array [].
        ratio: keys for one query, a number or array []. Where the lengths of both sequences are known,
            `map_over(keys / queries, "b")` is the diagonal of each example; a decoder, which does not know how long its
            output will be, takes the mean ratio of the training data.
        offset: positions by which the center is shifted, a number or array []; `map_over(offsets, "h")` shifts each
            head by its own.
    Returns: a mod with the arrays among its arguments as its leaves.
    Numerics: computed in the dtype of the logits, in which positions are exact up to 2²⁴ for float32. A width that is
        not positive raises if its value is known, and gives NaN inside jit.
    Reference: You, Sun & Iyyer 2020, "Hard-coded Gaussian attention for neural machine translation", section 3.

    >>> places = Positions(jnp.arange(2), jnp.arange(3), jnp.array(0), jnp.array(0))
    >>> diagonal_bias()(jnp.zeros((2, 3)), places).tolist()
    [[0.0, -0.5, -2.0], [-0.5, 0.0, -0.5]]
    """
    check_values("diagonal_bias: width", width, "positive", positive)
    return Partial(_diagonal_bias, width=width, ratio=ratio, offset=offset)


def _diagonal_bias(logits: Logits, positions: Positions, *, width: Any, ratio: Any, offset: Any) -> Logits:
    width = valid_scalar("diagonal_bias: width", width, positive, logits)
    ratio, offset = (
        scalar(f"diagonal_bias: {name}", value, logits.dtype) for name, value in (("ratio", ratio), ("offset", offset))
    )
    rows, columns = positions.rows.astype(logits.dtype), positions.columns.astype(logits.dtype)
    return logits - 0.5 * jnp.square((columns - (ratio * rows + offset)) / width)


@suggest_arguments()
def random_bias(rng: Any, scale: float | int | Array = 1.0) -> Mod:
    """Add a random number to the logit of every head, query position and key position, the same in every call.

    logits[i, j] ← logits[i, j] + scale · r[h, i, j],    r[h, i, j] standard normal

    With `scores.constant` it is the random Synthesizer with fixed weights, without a limit of the length: attention
    that is random and frozen. Not dropout, which draws new numbers in every call.

    Args:
        rng: a key of `jax.random`, the same in every call. The numbers are a hash of (rng, head, query position, key
            position); examples share them, so that nothing depends on batch or padding.
        scale: the standard deviation, a number or array []; the larger, the more the weights differ.
    Returns: a mod with the rng as its leaf.
    Numerics: the numbers have 23 random bits, the same in every dtype, and lie in [−5.4, 5.4].
    Reference: Tay et al. 2021, "Synthesizer: rethinking self-attention for Transformer models" (random, fixed).

    >>> places = Positions(jnp.arange(3), jnp.arange(3), jnp.array(0), jnp.array(0))
    >>> drawn = random_bias(jax.random.key(0))(jnp.zeros((3, 3)), places)
    >>> later = places._replace(query=jnp.arange(1, 3))
    >>> bool((random_bias(jax.random.key(0))(jnp.zeros((2, 3)), later) == drawn[1:]).all())
    True
    """
    if isinstance(rng, int | float | None):
        raise ValueError(f"random_bias: rng must be a key of jax.random, not {rng}; write rng=jax.random.key(0)")
    return Partial(_random_bias, rng=rng, scale=scale)


def _random_bias(logits: Logits, positions: Positions, *, rng: Any, scale: Any) -> Logits:
    draw = partial(random.bits, jax.random.fold_in(rng, _STREAM), jnp.int32(0), positions.head)
    drawn = draw(positions.query, positions.key)
    wide = widen(logits)  # half precision has too few digits for the uniform numbers
    uniform = ((drawn >> 9).astype(wide.dtype) + 0.5) * 2.0**-23
    return (wide + scalar("random_bias: scale", scale, wide.dtype) * ndtri(uniform)).astype(logits.dtype)

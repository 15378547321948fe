"""Local attention: a window around a predicted position for each query."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from attnlab.functional.normalizers.allowed import guard
from attnlab.functional.normalizers.exponential import softmax
from attnlab.functional.normalizers.positional import Positional
from attnlab.functional.parameters import check_values, positive, valid_scalar
from attnlab.functional.parts import map_over
from attnlab.functional.types import Positions, Query, widen


def local_p(center: Any, width: Any, axes: str = "", *, start: Any = None) -> "LocalP":
    """Return the softmax over a window around a center for each query, times a Gaussian of the distance from it.

    weights[i, j] = softmax(logits[i] in the window)[j] exp(−(j − p_i)² / (2σ²)),    |j − p_i| ≤ D,  σ = D / 2

    With `predicted_center` it is the local-p of Luong et al.; with `center = jnp.arange(T)` the window moves with the
    query (their local-m, which has no Gaussian, is `softmax` with `masks.sliding_window`).

    Args:
        center: p, [T]: a (fractional) position among the keys for each query position start … start + T − 1. Queries
            at other positions have no window.
        width: D, a positive number or array []: positions on either side.
        axes: the leading axes of center, as in `parts.map_over`: "b" for [*B, T], "h" for [N, T], "b h" for [*B, N, T];
            "" if all heads and examples share it.
        start: position of the first query, for a decoder that continues a sequence; None for 0.
    Returns: a `Positional` normalizer; its weights sum to at most one. A window without an allowed key is a fully
        masked row.
    Numerics: as in `softmax`. Differentiable in center and width through the Gaussian; the selection of keys in the
        window has no gradient, and weights are discontinuous at its edge (where the Gaussian is exp(−2)). A NaN center
        gives NaN. A width that is not positive raises if its value is known, and gives NaN inside jit.
    Reference: Luong, Pham & Manning 2015, section 3.2, eq. 9 and 10.

    >>> positions = Positions(jnp.arange(1), jnp.arange(4), jnp.int32(0), jnp.int32(0))
    >>> weights = local_p(jnp.array([0.5]), 1.0)(jnp.zeros((1, 4)), None, positions)
    >>> [round(weight, 4) for weight in weights[0].tolist()]
    [0.3033, 0.3033, 0.0, 0.0]
    """
    check_values("local_p: width", width, "positive", positive)
    return LocalP(map_over(center, axes) if axes else center, width, start)


@partial(jax.tree_util.register_dataclass, data_fields=["center", "width", "start"], meta_fields=[])
@dataclass(frozen=True)
class LocalP(Positional):
    """The softmax over a window, times a Gaussian; made by `local_p`."""

    center: Any
    width: Any
    start: Any = None

    def __call__(
        self, logits: Float[Array, "q k"], where: Bool[Array, "q k"] | None, positions: Positions
    ) -> Float[Array, "q k"]:
        safe, may = guard(logits, where)
        center = jnp.asarray(self.center, safe.dtype)
        width = valid_scalar("local_p: width", self.width, positive, safe)
        rows = positions.after(self.start).rows
        has_window = (rows >= 0) & (rows < center.shape[0])
        distance = positions.columns.astype(safe.dtype) - center.at[rows].get(mode="clip")
        near = may & has_window & ~(jnp.abs(distance) > width)
        distance = jnp.where(near, distance, 0.0)
        bell = jnp.exp(-2.0 * jnp.square(distance / width))
        return (softmax(safe, near) * bell).astype(logits.dtype)


def predicted_center(query: Query, w: Float[Array, "d a"], v: Float[Array, " a"], length: Any) -> Float[Array, " q"]:
    """Predict the center of each query's window among the keys.

    center_i = S sigmoid(vᵀ tanh(Wᵀ query_i))

    For one head of one example: `jax.vmap` it over heads and batch, and pass the result to `local_p` with `axes="b h"`.

    Args:
        query: queries of width d.
        w: W, learned.
        v: output weights of the hidden layer, learned.
        length: S, the number of keys of this example, a number or array [].
    Returns: positions in (0, S).
    Numerics: computed and returned in float32 for narrower queries (bfloat16 cannot represent position 257).
    Reference: Luong, Pham & Manning 2015, eq. 9.

    >>> predicted_center(jnp.ones((1, 2)), jnp.zeros((2, 3)), jnp.ones(3), 10).tolist()
    [5.0]
    """
    wide = widen(query)
    hidden = jnp.tanh(jnp.matmul(wide, w.astype(wide.dtype)))
    return jnp.asarray(length, wide.dtype) * jax.nn.sigmoid(jnp.matmul(hidden, v.astype(wide.dtype)))

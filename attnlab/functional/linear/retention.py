"""RetNet's retention: linear attention with a fixed decay for each head."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from attnlab.functional.linear.gated import Gated
from attnlab.functional.linear.rule import Rule
from attnlab.functional.types import known


@partial(register_dataclass, data_fields=["decay"], meta_fields=["normalized"])
@dataclass(frozen=True)
class Retention(Rule):
    """A sum with a fixed decay for each head; made by `retention`."""

    decay: Any
    normalized: bool
    name: ClassVar[str] = "retention"

    def per_token(self, shape: tuple[Any, ...]) -> Rule:
        if self.decay.shape not in ((), shape[-1:]):
            raise ValueError(
                f"linear.retention: decay must have shape [] or [K], one for each of the {shape[-1]} key heads, not "
                f"{list(self.decay.shape)}; write retention(retention_decays({shape[-1]}))"
            )
        return Gated(jnp.broadcast_to(jnp.log(self.decay), shape), self.normalized)


def retention(decay: Array | float, *, normalized: bool = False) -> Retention:
    """Let the state decay by a fixed factor before every token.

    S_i = γ S_{i−1} + key_i value_iᵀ,    output_i = S_iᵀ query_i = Σ_{j ≤ i} γ^(i−j) (query_i · key_j) value_j

    The case of `gated` with constant gates. RetNet rotates queries and keys before it (`rotary`), scales the keys by
    1/√D, and normalizes each head of the output after it.

    Args:
        decay: γ in (0, 1], one number or [K], one for each key head: `retention_decays(K)` in the paper.
        normalized: True to divide by the decayed sum of weights, as `sum_rule` does.
    Returns: a rule with `decay` as its leaf.
    Numerics: i − j counts allowed tokens: padding does not decay the state.
    Reference: Sun et al. 2023, "Retentive Network", eq. 5 to 7.

    >>> retention(0.9).normalized
    False
    """
    values = known(decay)
    if values is not None and not ((values > 0) & (values <= 1)).all():
        raise ValueError(
            f"linear.retention: decay must be in (0, 1], not {float(values.min()):g} to {float(values.max()):g}; "
            "write retention(retention_decays(heads))"
        )
    if isinstance(decay, float | int) and not 0 < decay <= 1:
        raise ValueError(f"linear.retention: decay must be in (0, 1], not {decay}; write retention(0.9)")
    return Retention(jnp.asarray(decay), normalized)


def retention_decays(heads: int) -> Float[Array, " h"]:
    """Return RetNet's decay of each head.

    γ_h = 1 − 2^(−5 − h)    for h = 0 … heads − 1

    Args:
        heads: number of heads, 1 or more.
    Returns: the decays, from 0.97 towards 1.
    Reference: Sun et al. 2023, eq. 8.

    >>> retention_decays(2).tolist()
    [0.96875, 0.984375]
    """
    if not isinstance(heads, int) or heads < 1:
        raise ValueError(f"linear.retention_decays: heads must be an integer of 1 or more, not {heads}")
    return jnp.asarray([1.0 - 2.0 ** (-5 - head) for head in range(heads)])

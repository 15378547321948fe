"""Linear attention as published first: the state is a sum over tokens."""

from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from attnlab.functional.linear.rule import Memory, Rule


@partial(register_dataclass, data_fields=[], meta_fields=["normalized"])
@dataclass(frozen=True)
class SumRule(Rule):
    """The sum rule; made by `sum_rule`."""

    normalized: bool
    name: ClassVar[str] = "sum_rule"
    ordered: ClassVar[bool] = False

    def step(
        self, state: Memory, query: Float[Array, " m"], key: Float[Array, " m"], value: Float[Array, " v"]
    ) -> tuple[Memory, Float[Array, " v"]]:
        state = state + key[:, None] * value[None, :]
        return state, query @ state

    def block(
        self, state: Memory, query: Float[Array, "t m"], key: Float[Array, "t m"], value: Float[Array, "t v"]
    ) -> tuple[Memory, Float[Array, "t v"]]:
        return state + key.T @ value, query @ state + jnp.tril(query @ key.T) @ value


def sum_rule(*, normalized: bool = True) -> SumRule:
    """Add every token to the state: linear attention, causal or not.

    S_i = S_{i−1} + φ(key_i) value_iᵀ,    z_i = z_{i−1} + φ(key_i)
    output_i = S_iᵀ φ(query_i) / (z_i · φ(query_i))

    This is attention with the weights φ(query_i) · φ(key_j), divided by their sum over j. Without a causal mask, S and
    z are sums over all tokens.

    Args:
        normalized: False for output_i = S_iᵀ φ(query_i), without z. The features of a normalized rule should be
            positive (`elu_plus_one`, `favor`, `hedgehog`), or the divisor may come close to 0.
    Returns: a rule without arrays.
    Numerics: z is one more column of the state, [m, V + 1]. An output whose divisor is exactly 0 (no key is allowed, or
        all features vanish) is 0.
    Reference: Katharopoulos et al. 2020, "Transformers are RNNs", sections 3.2 to 3.4; not normalized: Schlag, Irie &
        Schmidhuber 2021, "Linear Transformers are Secretly Fast Weight Programmers", section 3.2.

    >>> sum_rule()
    SumRule(normalized=True)
    """
    return SumRule(normalized)

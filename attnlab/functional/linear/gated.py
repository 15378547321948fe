"""Linear attention with a state that decays: gated linear attention, and RetNet's retention."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from attnlab.functional.linear.decay import decayed_products, decays, scaled
from attnlab.functional.linear.rule import Memory, Rule, check_gate


@partial(register_dataclass, data_fields=["log_decay"], meta_fields=["normalized"])
@dataclass(frozen=True)
class Gated(Rule):
    """A sum that decays; made by `gated`."""

    log_decay: Any
    normalized: bool
    name: ClassVar[str] = "gated"

    def step(
        self, state: Memory, query: Float[Array, " m"], key: Float[Array, " m"], value: Float[Array, " v"]
    ) -> tuple[Memory, Float[Array, " v"]]:
        state = decayed(state, jnp.exp(self.log_decay)) + key[:, None] * value[None, :]
        return state, query @ state

    def block(
        self, state: Memory, query: Float[Array, "t m"], key: Float[Array, "t m"], value: Float[Array, "t v"]
    ) -> tuple[Memory, Float[Array, "t v"]]:
        factors = decays(self.log_decay)
        weights = decayed_products(query, key, factors.between)
        output = scaled(query, factors.since_start) @ state + weights @ value
        return decayed(state, factors.in_all) + scaled(key, factors.until_end).T @ value, output

    def per_token(self, shape: tuple[Any, ...]) -> Rule:
        check_gate(self.name, "log_decay", self.log_decay, shape, per_feature=True)
        return self

    def check_features(self, features: int) -> None:
        check_decay_width(self.name, self.log_decay, features)

    @property
    def chunk(self) -> int:
        return 64 if self.log_decay.ndim == 1 else 16


def decayed(state: Memory, factor: Float[Array, ""] | Float[Array, " m"]) -> Memory:
    """Multiply a state by a decay, one for all features of the keys or one for each.

    >>> decayed(jnp.ones((2, 1)), jnp.array([1.0, 0.5])).tolist()
    [[1.0], [0.5]]
    """
    return state * (factor[:, None] if factor.ndim else factor)


def check_decay_width(rule: str, log_decay: Array, features: int) -> None:
    """Raise if decays of one token ([t] or [t m]) are not for this number of features.

    >>> check_decay_width("gated", jnp.zeros((5, 2)), 2)
    """
    if log_decay.ndim == 2 and log_decay.shape[-1] != features:
        raise ValueError(
            f"linear.{rule}: log_decay has {log_decay.shape[-1]} features, but the feature map returns {features}; "
            "pass one decay for each of them, or log_decay [*B, S, K] for one a token"
        )


def gated(log_decay: Array, *, normalized: bool = False) -> Gated:
    """Let the state decay before every token, by factors that depend on the token.

    S_i = diag(α_i) S_{i−1} + key_i value_iᵀ,    output_i = S_iᵀ query_i,    α_i = exp(log_decay_i)

    With one decay for each feature it is gated linear attention; with one for all features it is the recurrence of
    Mamba-2 and of gated RetNet.

    Args:
        log_decay: log α, at most 0, of shape [*B, S, K, m] (m features of the keys, after the feature map) or [*B, S,
            K]. Yang et al. use log_sigmoid(logits) / 16 with learned logits of rank 16.
        normalized: True to divide by the decayed sum of weights, as `sum_rule` does.
    Returns: a rule with `log_decay` as its leaf.
    Numerics: exact for any log_decay ≤ 0, −inf included, which empties the state (for packed sequences). With a decay
        for each feature the weights in a chunk of c tokens take c · c · m multiplications, without a matrix product.
    Reference: Yang et al. 2024, "Gated Linear Attention Transformers", section 4; one decay a token: Dao & Gu 2024,
        "Transformers are SSMs", section 6; Sun et al. 2024, "You Only Cache Once" (gated retention).

    >>> gated(jnp.zeros((5, 2, 8))).log_decay.shape
    (5, 2, 8)
    """
    return Gated(jnp.asarray(log_decay), normalized)

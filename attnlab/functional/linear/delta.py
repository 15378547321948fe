"""The delta rule: a token replaces what the state returns for its key, with or without a decay of the state."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.tree_util import register_dataclass
from jaxtyping import Array, Float

from attnlab.functional.linear.decay import Decays, decayed_products, decays, scaled
from attnlab.functional.linear.gated import check_decay_width, decayed
from attnlab.functional.linear.rule import Memory, Rule, check_gate
from attnlab.functional.signatures import suggest_arguments

_NORMALIZED = {
    "normalized": "nothing: weights of the delta rule can be negative, so it has no normalized form; linear.sum_rule, "
    "linear.gated and linear.retention have one"
}


@partial(register_dataclass, data_fields=["beta"], meta_fields=[])
@dataclass(frozen=True)
class DeltaRule(Rule):
    """The delta rule; made by `delta_rule`."""

    beta: Any
    name: ClassVar[str] = "delta_rule"

    def step(
        self, state: Memory, query: Float[Array, " m"], key: Float[Array, " m"], value: Float[Array, " v"]
    ) -> tuple[Memory, Float[Array, " v"]]:
        state = state + key[:, None] * (self.beta * (value - key @ state))[None, :]
        return state, query @ state

    def block(
        self, state: Memory, query: Float[Array, "t m"], key: Float[Array, "t m"], value: Float[Array, "t v"]
    ) -> tuple[Memory, Float[Array, "t v"]]:
        overlap = self.beta[:, None] * jnp.tril(key @ key.T, -1)
        new = _corrections(overlap, self.beta[:, None] * (value - key @ state))
        return state + key.T @ new, query @ state + jnp.tril(query @ key.T) @ new

    def per_token(self, shape: tuple[Any, ...]) -> Rule:
        check_gate(self.name, "beta", self.beta, shape)
        return self


@partial(register_dataclass, data_fields=["beta", "log_decay"], meta_fields=[])
@dataclass(frozen=True)
class GatedDeltaRule(Rule):
    """The delta rule of a state that decays; made by `gated_delta_rule`."""

    beta: Any
    log_decay: Any
    name: ClassVar[str] = "gated_delta_rule"

    def step(
        self, state: Memory, query: Float[Array, " m"], key: Float[Array, " m"], value: Float[Array, " v"]
    ) -> tuple[Memory, Float[Array, " v"]]:
        return DeltaRule(self.beta).step(decayed(state, jnp.exp(self.log_decay)), query, key, value)

    def block(
        self, state: Memory, query: Float[Array, "t m"], key: Float[Array, "t m"], value: Float[Array, "t v"]
    ) -> tuple[Memory, Float[Array, "t v"]]:
        factors: Decays = decays(self.log_decay)
        overlap = self.beta[:, None] * jnp.tril(decayed_products(key, key, factors.between), -1)
        before = scaled(key, factors.since_start) @ state
        new = _corrections(overlap, self.beta[:, None] * (value - before))
        output = scaled(query, factors.since_start) @ state + decayed_products(query, key, factors.between) @ new
        return decayed(state, factors.in_all) + scaled(key, factors.until_end).T @ new, output

    def per_token(self, shape: tuple[Any, ...]) -> Rule:
        check_gate(self.name, "beta", self.beta, shape)
        check_gate(self.name, "log_decay", self.log_decay, shape, per_feature=True)
        return self

    def check_features(self, features: int) -> None:
        check_decay_width(self.name, self.log_decay, features)

    @property
    def chunk(self) -> int:
        return 64 if self.log_decay.ndim == 1 else 16


def _corrections(overlap: Float[Array, "t t"], errors: Float[Array, "t v"]) -> Float[Array, "t v"]:
    """Return what each token of a block adds for its key, given its error by the state before the block.

    u_i = errors_i − Σ_{j < i} overlap[i, j] u_j, that is (I + overlap) u = errors: the product of the Householder-like
    matrices I − β k kᵀ of the block, in the WY representation.
    """
    matrix = overlap + jnp.eye(len(overlap), dtype=overlap.dtype)
    return solve_triangular(matrix, errors, lower=True, unit_diagonal=True)


@suggest_arguments(elsewhere=_NORMALIZED)
def delta_rule(beta: Array) -> DeltaRule:
    """Move what the state returns for a key towards the key's value, instead of adding to it.

    S_i = S_{i−1} + β_i key_i (value_i − S_{i−1}ᵀ key_i)ᵀ = (I − β_i key_i key_iᵀ) S_{i−1} + β_i key_i value_iᵀ
    output_i = S_iᵀ query_i

    For a key of norm 1 and β = 1 the state returns the value for it afterwards, whatever it returned before. In a
    block, the additions u of all tokens solve a triangular system, so that a block takes matrix products only.

    Args:
        beta: β in [0, 1], of shape [*B, S, K]; up to 2 for negative eigenvalues. Pass keys of norm 1, as the feature
            map `silu_unit` returns: with longer ones the state can grow without bound.
    Returns: a rule with `beta` as its leaf.
    Numerics: there is no normalized form: weights of this rule can be negative.
    Reference: Schlag, Irie & Schmidhuber 2021, section 4.2; in blocks: Yang et al. 2024, "Parallelizing Linear
        Transformers with the Delta Rule over Sequence Length", section 3; Bischof & Van Loan 1985 (WY).

    >>> delta_rule(jnp.ones((5, 2))).beta.shape
    (5, 2)
    """
    return DeltaRule(jnp.asarray(beta))


@suggest_arguments(elsewhere=_NORMALIZED)
def gated_delta_rule(beta: Array, log_decay: Array) -> GatedDeltaRule:
    """Let the state decay, then apply the delta rule: gated DeltaNet, and Kimi Delta Attention.

    S_i = (I − β_i key_i key_iᵀ) diag(α_i) S_{i−1} + β_i key_i value_iᵀ,    α_i = exp(log_decay_i)
    output_i = S_iᵀ query_i

    With one decay for all features (gated DeltaNet, in Qwen3-Next) both factors commute; with one for each feature it
    is Kimi Delta Attention.

    Args:
        beta: β, as in `delta_rule`.
        log_decay: log α, at most 0, of shape [*B, S, K] or [*B, S, K, m]. Gated DeltaNet uses that of Mamba-2,
            −exp(a) softplus(logits + b) with learned a and b for each head.
    Returns: a rule with both arrays as its leaves.
    Numerics: as in `gated` and `delta_rule`.
    Reference: Yang, Kautz & Hatamizadeh 2024, "Gated Delta Networks", section 3; a decay for each feature: Kimi Team
        2025, "Kimi Linear", section 3.

    >>> gated_delta_rule(jnp.ones((5, 2)), jnp.zeros((5, 2))).log_decay.shape
    (5, 2)
    """
    return GatedDeltaRule(jnp.asarray(beta), jnp.asarray(log_decay))

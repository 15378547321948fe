"""The interface of a state rule: how the state of linear attention changes with each token, and how it is read."""

from typing import Any, ClassVar

from jax import Array
from jaxtyping import Float

Memory = Float[Array, "m v"]
"""The state of one head of one example: a matrix from features of a key to features of a value."""


class Rule:
    """The interface of a state rule, a pytree whose arrays have an entry for every token.

    An entry of 0 in all arrays of a rule, with a key of 0, must leave the state unchanged: this is how padding is
    skipped. `step` and `block` are called with slices of the rule: the entries of one token, or of t ≥ 1 tokens.
    """

    name: ClassVar[str]
    """The function that makes the rule."""
    ordered: ClassVar[bool] = True
    """Whether the state depends on the order of the tokens, so that the rule has no non-causal form."""
    normalized: bool = False
    """Whether the output is divided by the sum of its weights, whose state is one more column of values."""

    def step(
        self, state: Memory, query: Float[Array, " m"], key: Float[Array, " m"], value: Float[Array, " v"]
    ) -> tuple[Memory, Float[Array, " v"]]:
        """Return the state after one token, and the token's output."""
        raise NotImplementedError(f"{type(self).__name__} must implement step")

    def block(
        self, state: Memory, query: Float[Array, "t m"], key: Float[Array, "t m"], value: Float[Array, "t v"]
    ) -> tuple[Memory, Float[Array, "t v"]]:
        """Return the state after t tokens, and their outputs: the parallel form, with t × t weights."""
        raise NotImplementedError(f"{type(self).__name__} must implement block")

    def per_token(self, shape: tuple[Any, ...]) -> "Rule":
        """Return the rule with arrays [*B, S, K, ...] for `linear_attention`; raise if they do not fit.

        Args:
            shape: (*B, S, K), the shape of the keys without their features.
        """
        return self

    def check_features(self, features: int) -> None:
        """Raise if the rule cannot have this number of features, m."""

    @property
    def chunk(self) -> int:
        """The number of tokens of a chunk that is fast, and whose weights fit in cache."""
        return 64


def check_gate(rule: str, name: str, array: Any, shape: tuple[Any, ...], per_feature: bool = False) -> None:
    """Raise unless an array of a rule has an entry for every token and key head.

    Args:
        rule: the function that makes the rule.
        name: the argument of that function.
        array: its value.
        shape: (*B, S, K) of the keys.
        per_feature: whether it may also have a last axis of features.

    >>> import jax.numpy as jnp
    >>> check_gate("delta_rule", "beta", jnp.ones((3, 2)), (3, 2))
    """
    front = array.shape if not per_feature or array.ndim == len(shape) else array.shape[:-1]
    if front != shape:
        axes = "[*B, S, K]" + (" or [*B, S, K, features]" if per_feature else "")
        raise ValueError(
            f"linear.{rule}: {name} must have shape {axes}, one entry for each key and key head, {list(shape)}, not "
            f"{list(array.shape)}"
        )

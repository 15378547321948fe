"""The contract of a sequence mixer: the sublayer of a Transformer layer in which tokens exchange information.

Softmax self-attention with a key-value cache is one (`multi_head.SelfAttention`). A Transformer layer and a search know
nothing of a mixer's state but that it is a pytree of arrays [b ...], whose rows a search may reorder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from attnlab.functional import masks


class Context(NamedTuple):
    """What a mixer is given besides the states of a sequence."""

    lengths: Int[Array, " b"]
    """Tokens of each row that are not padding."""
    mask: masks.Mask
    """Which token may attend to which; a mixer that cannot honor it raises."""
    mods: tuple[Any, ...] = ()
    """Mods that encode positions, shared by all layers."""


class SequenceMixer(Protocol):
    """A module that mixes the states of a sequence, all at once or token by token with the same outputs."""

    def __call__(self, states: Float[Array, "b t d"], context: Context, *, train: bool) -> Float[Array, "b t d"]:
        """Return the output for all tokens at once."""
        ...

    def init_state(self, rows: int, dtype: Any) -> PyTree:
        """Return the state before the first token, arrays [b ...]; a decoder's mixer alone needs one."""
        ...

    def step(
        self, state: PyTree, states: Float[Array, "b t d"], mods: tuple[Any, ...] = ()
    ) -> tuple[PyTree, Float[Array, "b t d"]]:
        """Return the state after the next tokens, and the output for them."""
        ...


MakeMixer = Callable[..., nn.Module]
"""(block's config, attention's config, bidirectional=, stack=, layer=) -> a `SequenceMixer`."""

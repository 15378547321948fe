"""The protocol of a sequence mixer: the sublayer of a Transformer layer in which tokens exchange information.

Softmax self-attention with a key-value cache is a mixer (`multi_head.SelfAttention`). Transformer layers and beam
search only assume that a mixer's state is a pytree of arrays [b ...], whose rows beam search may reorder.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from flax import linen as nn
from jaxtyping import Array, Float, Int, PyTree

from attnlab.functional import masks


class Context(NamedTuple):
    """Inputs of a mixer besides the states of a sequence."""

    lengths: Int[Array, " b"]
    """Tokens of each row that are not padding."""
    mask: masks.Mask
    """Which token may attend to which; a mixer that cannot honor it raises an error."""
    mods: tuple[Any, ...] = ()
    """Mods that encode positions, shared by all layers."""


class SequenceMixer(Protocol):
    """A module that mixes the states of a sequence, all at once or token by token with the same outputs.

    Its attention is recorded, and can be replaced, if it calls `attention.intervene_and_record`.
    """

    def __call__(self, states: Float[Array, "b t d"], context: Context, *, train: bool) -> Float[Array, "b t d"]:
        """Return the output for all tokens at once.

        Args:
            states: states of a batch of sequences, padding included.
            context: lengths, mask and mods.
            train: whether to apply dropout (needs the rng "dropout").
        """
        ...

    def init_state(self, rows: int, dtype: Any) -> PyTree:
        """Return the state before the first token, arrays [b ...]; only the mixer of a decoder needs it.

        Args:
            rows: b, the number of sequences.
            dtype: dtype of the states.
        """
        ...

    def step(
        self, state: PyTree, states: Float[Array, "b t d"], mods: tuple[Any, ...] = ()
    ) -> tuple[PyTree, Float[Array, "b t d"]]:
        """Return the state after the next tokens, and the output for them.

        Args:
            state: the state before these tokens.
            states: states of the next tokens.
            mods: mods that encode positions, shared by all layers.
        """
        ...


MakeMixer = Callable[..., nn.Module]
"""(block's config, attention's config, bidirectional=, stack=, layer=) -> a `SequenceMixer`."""

"""What the parts of an attention layer may depend on in a call, besides logits and positions."""

from typing import Any, NamedTuple
from zlib import crc32

import jax
from jax import Array
from jaxtyping import Float, Int


class PartInputs(NamedTuple):
    """The inputs of a call from which mods and normalizers are bound."""

    query: Float[Array, "b q h d"]
    lengths: Int[Array, " b"]
    """Keys of each example that are not padding."""
    layer: str
    """Name of the layer, as in `LayerAttention`."""
    rng: Array | None = None
    """For normalizers that sample in training; None otherwise."""
    start: Any = None
    """Position of the first query in its sequence; None for 0."""

    def frozen_rng(self, seed: int) -> Array:
        """Return the rng of a part that is drawn once: a function of its seed and the layer."""
        return jax.random.fold_in(jax.random.key(seed), crc32(self.layer.encode()))

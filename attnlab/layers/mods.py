"""The module that owns the learned arrays of mods: tables of biases by distance, and vectors for positions."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from attnlab.config import attention as kinds
from attnlab.functional import mods
from attnlab.functional.parts import map_over
from attnlab.layers.custom import bound
from attnlab.layers.part_inputs import PartInputs

Bound = Callable[[PartInputs], tuple[Any, ...]]
"""Inputs of a call -> the mods of `functional.mods` for it."""


class Mods(nn.Module):
    """Mods with their learned arrays, which have a slice for each head."""

    config: tuple[kinds.Mod, ...]
    heads: int
    width: int
    """Features of a query."""
    bidirectional: bool = True
    """False in a decoder: all buckets of `t5_bias` are for keys before the query."""

    @nn.compact
    def __call__(self) -> Bound:
        """Return the pure function from the inputs of a call to its mods; only `location` depends on the queries."""
        binds = [self._bind(f"{mod.kind}_{place}", mod) for place, mod in enumerate(self.config)]
        return lambda inputs: tuple(bind(inputs) for bind in binds)

    def _bind(self, name: str, mod: kinds.Mod) -> Callable[[PartInputs], Any]:
        match mod:
            case kinds.SoftCap():
                return lambda inputs: mods.soft_cap(mod.cap)
            case kinds.Alibi():
                return lambda inputs: mods.alibi(self.heads)
            case kinds.RelativeBias():
                table = map_over(self._param(name, 2 * mod.distance + 1), "h")
                return lambda inputs: mods.relative_bias(table)
            case kinds.T5Bias():
                table = map_over(self._param(name, mod.buckets), "h")
                return lambda inputs: mods.t5_bias(
                    table, bidirectional=self.bidirectional, max_distance=mod.max_distance
                )
            case kinds.CustomMod():
                custom = bound(self, mod, heads=self.heads, prefix=f"{name}_")
                return lambda inputs: custom
            case kinds.Location():
                w = map_over(self._param(name, self.width, mod.positions), "h")
                return lambda inputs: mods.location(
                    map_over(jnp.swapaxes(inputs.query, -3, -2), "b h"), w, start=inputs.start
                )
            case kinds.DiagonalBias():
                offset = map_over(jnp.asarray([mod.offsets[h % len(mod.offsets)] for h in range(self.heads)]), "h")
                return lambda inputs: mods.diagonal_bias(mod.width, ratio=mod.ratio, offset=offset)
            case kinds.RandomBias():
                return lambda inputs: mods.random_bias(inputs.frozen_rng(mod.seed), mod.scale)

    def _param(self, name: str, *shape: int) -> Array:
        """Create a table of zeros or small random vectors, so that positions hardly matter at initialization."""
        init = nn.initializers.zeros_init() if len(shape) == 1 else nn.initializers.normal(self.width**-0.5)
        return self.param(name, init, (self.heads, *shape))

"""The module that owns the learned arrays of normalizers: a number or a small network for each head."""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from attnlab.config import normalizers as kinds
from attnlab.functional import normalizers
from attnlab.functional.parts import map_over
from attnlab.layers.custom import bound
from attnlab.layers.part_inputs import PartInputs

Bound = Callable[[PartInputs], Any]
"""Inputs of a call -> the normalizer of `functional.normalizers` for it."""
FIXED = {
    "softmax": normalizers.softmax,
    "softmax_plus_one": normalizers.softmax_plus_one,
    "sparsemax": normalizers.sparsemax,
    "entmax15": normalizers.entmax15,
    "relu_over_length": normalizers.relu_over_length,
    "linear": normalizers.linear,
    "hardmax": normalizers.hardmax,
}
"""Normalizers without parameters or options."""


def draws(config: kinds.Normalizer) -> bool:
    """Return whether a normalizer samples its weights in training, and so needs an rng."""
    return isinstance(config, kinds.GumbelSoftmax | kinds.Permuted)


class Normalizer(nn.Module):
    """A normalizer with its learned arrays, which have a slice for each head."""

    config: kinds.Normalizer
    heads: int
    width: int
    """Features of a query."""

    @nn.compact
    def __call__(self) -> Bound:
        """Return the pure function from the inputs of a call to its normalizer."""
        if isinstance(self.config, kinds.LocalP):
            return self._local_p(self.config)
        if isinstance(self.config, kinds.GumbelSoftmax):
            return self._gumbel_softmax(self.config)
        if isinstance(self.config, kinds.Permuted):
            return self._permuted(self.config)
        fixed = FIXED[self.config.kind] if self.config.kind in FIXED else self._parameterized()
        return lambda inputs: fixed

    def _parameterized(self) -> Any:
        match self.config:
            case kinds.SoftmaxWithSink(sink=sink):
                return normalizers.softmax_with_sink(map_over(self._learned("sink", sink), "h"))
            case kinds.Temperature(t=t, learned=learned):
                learned_t = lambda: map_over(jnp.exp(self._learned("log_t", math.log(t))), "h")  # noqa: E731
                return normalizers.temperature(learned_t() if learned else t)
            case kinds.Entmax(alpha=alpha, learned=True):
                start = math.log((alpha - 1) / (2 - alpha))
                return normalizers.entmax(map_over(1 + jax.nn.sigmoid(self._learned("alpha", start)), "h"))
            case kinds.Entmax(alpha=alpha):
                return normalizers.entmax(alpha)
            case kinds.Sigmoid(bias=bias, learned=learned):
                return normalizers.sigmoid(map_over(self._learned("bias", bias), "h") if learned else bias)
            case kinds.TopK(k=k):
                return normalizers.top_k(k)
            case kinds.CustomNormalizer():
                return bound(self, self.config, heads=self.heads)
        raise AssertionError(self.config.kind)

    def _learned(self, name: str, start: float) -> Array:
        return self.param(name, nn.initializers.constant(start), (self.heads,))

    def _gumbel_softmax(self, chosen: kinds.GumbelSoftmax) -> Bound:
        noiseless = normalizers.hardmax if chosen.hard else normalizers.temperature(chosen.temperature)

        def bound(inputs: PartInputs) -> Any:
            if inputs.rng is None:
                return noiseless
            return normalizers.gumbel_softmax(inputs.rng, chosen.temperature, chosen.hard)

        return bound

    def _permuted(self, chosen: kinds.Permuted) -> Bound:
        ordered = Normalizer(chosen.normalizer, self.heads, self.width, name="normalizer")()

        def bound(inputs: PartInputs) -> Any:
            if inputs.rng is None:
                return normalizers.permuted(ordered(inputs), inputs.frozen_rng(chosen.seed), shared=True)
            return normalizers.permuted(ordered(inputs), inputs.rng)

        return bound

    def _local_p(self, chosen: kinds.LocalP) -> Bound:
        glorot = nn.initializers.glorot_uniform(batch_axis=0)
        w = self.param("w", glorot, (self.heads, self.width, chosen.hidden))
        v = self.param("v", nn.initializers.normal(chosen.hidden**-0.5), (self.heads, chosen.hidden))

        def bound(inputs: PartInputs) -> Any:
            heads = jax.vmap(normalizers.predicted_center, in_axes=(1, 0, 0, None))
            center = jax.vmap(heads, in_axes=(0, None, None, 0))(inputs.query, w, v, inputs.lengths)
            return normalizers.local_p(center, chosen.width, axes="b h", start=inputs.start)

        return bound

"""Norm-based attention of a decoder to its source: what each source position adds to the decoder's state."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.analysis.attribution import attention_norms, head_attention_norms, pooled_values
from attnlab.layers.layer_attention import LayerAttention


class SourceNorms(NamedTuple):
    """The norms of all layers of a decoder, for one sentence pair; they are at least 0, and rows do not sum to 1."""

    heads: Float[np.ndarray, "l h t s"]
    """‖weights[h, t, s] f_h(x_s)‖, of the heads one by one."""
    layers: Float[np.ndarray, "l t s"]
    """‖Σ_h weights[h, t, s] f_h(x_s)‖, of all heads together."""


def source_norms(records: Sequence[LayerAttention]) -> list[SourceNorms] | None:
    """Return the norms for each example of a batch; None if values were not recorded, or a layer does not average any.

    Args:
        records: layers of equal size that attend to the source, captured with details.

    Reference: Kobayashi et al. 2020, sections 3 and 5: aligned by norms, words agree more with gold alignment.

    >>> from attnlab.layers.layer_attention import PoolingInputs, layer_attention
    >>> weights, values = jnp.array([[[[0.75, 0.25]]]]), jnp.array([[[[1.0]], [[4.0]]]])
    >>> record = layer_attention("decoder", "decoder", None, weights, pooled=PoolingInputs(None, weights, values))
    >>> source_norms([record])[0].layers.tolist()
    [[[0.75, 1.0]]]
    """
    if any(record.pooled is None for record in records):
        return None
    found = jax.device_get(_norms(list(records)))
    heads, layers = (np.stack([norms[kind] for norms in found], axis=1) for kind in (0, 1))
    return [SourceNorms(*norms) for norms in zip(heads, layers, strict=True)]


@jax.jit
def _norms(records: list[LayerAttention]) -> list[tuple[Float[Array, "b h t s"], Float[Array, "b t s"]]]:
    """Return both norms of each layer, example by example: the vectors of a whole batch would be [b t s d]."""

    def of_layer(record: LayerAttention) -> tuple[Array, Array]:
        def of_example(example: Array) -> tuple[Array, Array]:
            weights, values, kernel = pooled_values(record, example)
            return head_attention_norms(weights, values, kernel), attention_norms(weights, values, kernel)

        return jax.lax.map(of_example, jnp.arange(record.weights.shape[0]))

    return [of_layer(record) for record in records]

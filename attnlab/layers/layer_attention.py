"""The record of a layer's attention: its weights, and with details all that explanations need besides them."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float

Kind = Literal[
    "self", "cross", "decoder", "pooling", "hop", "context_to_query", "query_to_context", "question_to_image",
    "image_to_question",
]  # fmt: skip
"""Which sequence attends to which: `decoder` is a recurrent decoder's attention to its source, `hop` a memory network's
attention to its sentences, and the last four belong to models with two inputs."""


@partial(register_dataclass, data_fields=["where", "weights_after_dropout", "value"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class PoolingInputs:
    """The arrays from which a layer pools its output: output_i = Σ_j weights_after_dropout[i, j] value_j."""

    where: Bool[Array, "b #h #q k"] | Any
    """Which query may attend to which key by mask and padding. A mod of −∞ or the window of a normalizer (`local_p`)
    may restrict it further. Queries that are padding are excluded only where the model's mask excludes them."""
    weights_after_dropout: Float[Array, "b h q k"] | Any
    """The weights after dropout; without dropout the weights themselves. With hard attention one key has it all."""
    value: Float[Array, "b k g v"] | Any
    """The values; head h pools those of head h // (heads / g)."""


@partial(register_dataclass, data_fields=["kernel", "bias"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Projection:
    """The projection of the heads' outputs to the states of the model: Σ_h output_h kernel_h + bias."""

    kernel: Float[Array, "h v d"] | Any
    bias: Float[Array, " d"] | Any
    """None for no bias."""


@partial(
    register_dataclass,
    data_fields=["states", "total", "gate", "scale", "bias"],
    meta_fields=["position", "norm", "epsilon"],
)
@dataclass(frozen=True, eq=False)
class Residual:
    """The residual connection around a sublayer (attention or a feed-forward network), and its norm.

    pre-norm:  total = states + gate · sublayer(norm(states)),    the result is total
    post-norm: total = states + gate · sublayer(states),          the result is norm(total)
    """

    states: Float[Array, "b q d"] | Any
    """Input of the residual connection: before the norm, also of a pre-norm sublayer."""
    total: Float[Array, "b q d"] | Any
    """The sum, with dropout of the sublayer's output in training; before the norm, also of a post-norm sublayer."""
    gate: Float[Array, ""] | Any
    """1.0 for no gate."""
    scale: Float[Array, " d"] | Any
    """The norm's learned scale."""
    bias: Float[Array, " d"] | Any
    """The norm's learned bias; None for an RMS norm."""
    position: Literal["pre", "post"]
    norm: Literal["layer_norm", "rms_norm"]
    epsilon: float


@partial(
    register_dataclass,
    data_fields=["weights", "pooled", "projection", "residual", "feed_forward"],
    meta_fields=["name", "kind", "stack", "layer", "replaceable"],
)
@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The attention of one layer, for every example, head, query and key."""

    name: str
    """Path of the layer in the model, such as "decoder/layer_2/cross_attention"."""
    kind: Kind
    """Which sequence attends to which."""
    stack: str
    """The part of the model that the layer belongs to, such as "encoder", "decoder" or "fusion"."""
    layer: int | None
    """Number of the layer in its stack, from 1; None if the stack has only one."""
    weights: Float[Array, "b h q k"] | Any
    """Weights in [0, 1] before dropout, padding included."""
    pooled: PoolingInputs | None = None
    """Recorded with `details`; None for a layer that does not average values (maximum, first or last state)."""
    projection: Projection | None = None
    """Recorded with `details`; None if the heads' outputs are used as they are."""
    residual: Residual | None = None
    """Around the attention. Recorded with `details`; None without a residual connection."""
    feed_forward: Residual | None = None
    """Around the feed-forward network that follows this attention. Recorded with `details`; None if none follows, as
    behind a decoder layer's self-attention, which cross-attention follows."""
    replaceable: bool = True
    """Whether an intervention can replace the weights; False for a layer that does not average values."""


def layer_attention(kind: Kind, stack: str, layer: int | None, weights: Any, **details: Any) -> LayerAttention:
    """Return a record with the name that follows from the layer's place."""
    return LayerAttention(layer_name(kind, stack, layer), kind, stack, layer, weights, **details)


def layer_name(kind: Kind, stack: str, layer: int | None = None) -> str:
    """Return the name of the record of a layer.

    >>> layer_name("cross", "decoder", 2)
    'decoder/layer_2/cross_attention'
    """
    place = stack if layer is None else f"{stack}/layer_{layer}"
    return f"{place}/{kind}_attention"

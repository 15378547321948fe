"""Capture of attention, and intervention in it: what a layer computes, and weights that replace its own.

Every attention module records its weights, and on request the arrays that explanations need besides them. Recording has
no cost unless it is turned on, and it does not change a bit of the model's output. An intervention is a function from
the weights of a layer to the weights that pool its values instead.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, get_args

from flax import linen as nn
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Bool, Float, PyTree

Kind = Literal[
    "self", "cross", "decoder", "pooling", "hop", "context_to_query", "query_to_context", "question_to_image",
    "image_to_question",
]  # fmt: skip
"""Which sequence attends to which: `decoder` is a recurrent decoder's attention to its source, `hop` a memory network's
attention to its sentences, and the last four belong to models with two inputs."""
WEIGHTS, DETAILS = "intermediates", "attention_details"
"""Names of the variable collections that hold what is recorded."""


@partial(register_dataclass, data_fields=["where", "dropped", "value"], meta_fields=[])
@dataclass(frozen=True, eq=False)
class Pooled:
    """The arrays from which a layer pools its output: output_i = Σ_j dropped[i, j] value_j."""

    where: Bool[Array, "b #h #q k"] | Any
    """Which query may attend to which key."""
    dropped: Float[Array, "b h q k"] | Any
    """The weights after dropout; without dropout the weights themselves."""
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
    register_dataclass, data_fields=["states", "gate", "scale", "bias"], meta_fields=["position", "centers", "epsilon"]
)
@dataclass(frozen=True, eq=False)
class Residual:
    """The residual connection around a layer and its norm.

    pre-norm: states + gate · layer(norm(states)),    post-norm: norm(states + gate · layer(states))
    """

    states: Float[Array, "b q d"] | Any
    gate: Float[Array, ""] | Any
    """1.0 for no gate."""
    scale: Float[Array, " d"] | Any
    """The norm's learned scale."""
    bias: Float[Array, " d"] | Any
    """The norm's learned bias; None for an RMS norm."""
    position: Literal["pre", "post"]
    centers: bool
    """Whether the norm subtracts the mean: True for layer norm, False for RMS norm."""
    epsilon: float


@partial(
    register_dataclass,
    data_fields=["weights", "pooled", "projection", "residual"],
    meta_fields=["name", "kind", "stack", "layer"],
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
    pooled: Pooled | None = None
    """Recorded with `details`; None for a layer that pools without an attention module (mean, maximum)."""
    projection: Projection | None = None
    """Recorded with `details`; None if the heads' outputs are used as they are."""
    residual: Residual | None = None
    """Recorded with `details`; None without a residual connection."""


Intervention = Callable[..., Array]
"""(layer: LayerAttention with `weights` and `pooled`, start: the index of its first query) -> weights [b h q k].

A recurrent decoder computes one query at a time, and calls it with a traced `start`. Arrays are bound with
`jax.tree_util.Partial`, so that they are ordinary arguments of a compiled function."""

_intervention: ContextVar[Intervention | None] = ContextVar("intervention", default=None)


@contextmanager
def intervening(intervention: Intervention | None) -> Iterator[None]:
    """Apply the intervention to the attention of all modules that are called in this context."""
    token = _intervention.set(intervention)
    try:
        yield
    finally:
        _intervention.reset(token)


def intervention() -> Intervention | None:
    """Return the intervention of the current `apply_with_attention`."""
    return _intervention.get()


def layer_attention(kind: Kind, stack: str, layer: int | None, weights: Any, **details: Any) -> LayerAttention:
    """Return a record with the name that follows from the layer's place."""
    place = stack if layer is None else f"{stack}/layer_{layer}"
    return LayerAttention(f"{place}/{kind}_attention", kind, stack, layer, weights, **details)


def recording(module: nn.Module) -> bool:
    """Return whether this application of the model records attention weights."""
    return module.is_mutable_collection(WEIGHTS)


def recording_details(module: nn.Module) -> bool:
    """Return whether this application of the model records what pools the values, projections and residuals too."""
    return module.is_mutable_collection(DETAILS)


def record(
    module: nn.Module,
    weights: Float[Array, "b h q k"],
    *,
    kind: Kind,
    stack: str,
    layer: int | None = None,
    pooled: Pooled | None = None,
) -> None:
    """Record the attention weights of a layer, if this application of the model records any.

    Args:
        module: the bound module that computes the weights.
        weights: before dropout.
        kind: which sequence attends to which.
        stack: the part of the model that the layer belongs to.
        layer: its number in the stack, from 1; None if the stack has only one.
        pooled: from what the layer pools its output.
    """
    if recording(module):
        pooled = pooled if recording_details(module) else None
        module.sow(WEIGHTS, "attention_weights", layer_attention(kind, stack, layer, weights, pooled=pooled))


def record_detail(
    module: nn.Module, detail: Projection | Residual, *, kind: Kind, stack: str, layer: int | None = None
) -> None:
    """Record the projection or the residual connection of a layer, if this application of the model records details."""
    if recording_details(module):
        module.sow(DETAILS, "attention_details", layer_attention(kind, stack, layer, None, **{_field(detail): detail}))


def apply_with_attention(
    model: nn.Module,
    variables: PyTree,
    *args: Any,
    details: bool = False,
    intervene: Intervention | None = None,
    **kwargs: Any,
) -> tuple[Any, list[LayerAttention]]:
    """Apply a model and return its output together with the attention of all its layers.

    Without an intervention the output equals that of `model.apply(variables, *args, **kwargs)` to the bit. Works for
    every model, under `jit` and other transformations.

    Args:
        model: any module with attention layers.
        variables: as for `model.apply`.
        args: as for `model.apply`.
        details: record more than the weights: values, weights after dropout, projections, residual inputs and norms.
        intervene: replaces the weights of layers, see `Intervention`; the records hold the replaced weights.
        kwargs: as for `model.apply`: `method=`, `rngs=`, and keyword arguments of the method.
    Returns: the output, and one record per layer, ordered by stack, kind and number of the layer.

    >>> class Averaged(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, states):
    ...         weights = jnp.full((1, 1, 1, len(states)), 1 / len(states))
    ...         record(self, weights, kind="pooling", stack="encoder")
    ...         return states.mean(axis=0)
    >>> output, (layer,) = apply_with_attention(Averaged(), {}, jnp.ones((2, 3)))
    >>> layer.name, layer.weights.tolist()
    ('encoder/pooling_attention', [[[[0.5, 0.5]]]])
    """
    apply: Any = model.apply
    with intervening(intervene):
        output, state = apply(variables, *args, mutable=[WEIGHTS, DETAILS] if details else [WEIGHTS], **kwargs)
    records = list(_records(state.get(WEIGHTS, {})))
    for detail in _records(state.get(DETAILS, {})):
        for number, layer in enumerate(records):
            if layer.name == detail.name:
                found = {"projection": detail.projection, "residual": detail.residual}
                records[number] = replace(layer, **{name: x for name, x in found.items() if x is not None})
    stacks, kinds = list(dict.fromkeys(record.stack for record in records)), get_args(Kind)
    place = lambda record: (stacks.index(record.stack), kinds.index(record.kind), record.layer or 0)  # noqa: E731
    return output, sorted(records, key=place)


def _field(detail: Projection | Residual) -> str:
    return "projection" if isinstance(detail, Projection) else "residual"


def _records(node: Any) -> Iterator[LayerAttention]:
    if isinstance(node, LayerAttention):
        yield node
    elif isinstance(node, tuple | list):
        for child in node:
            yield from _records(child)
    elif hasattr(node, "values"):
        for child in node.values():
            yield from _records(child)

"""Capture of attention, and intervention in it: what a layer computes, and weights that replace its own.

Every attention module records its weights, and on request the arrays that explanations need besides them. Recording has
no cost unless it is turned on, and it does not change a bit of the model's output. An intervention is a function from
the weights of a layer to the weights that pool its values instead.

A mixer of your own takes part by `attention.intervene_and_record`. Modules of other libraries, and the drop-in
replacements of them in `adapters` and `jax_nn`, neither record nor take interventions.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jaxtyping import Float, PyTree

from attnlab.functional.attention import pool
from attnlab.layers.layer_attention import Kind, LayerAttention, PoolingInputs, Projection, Residual, layer_attention

WEIGHTS, DETAILS = "intermediates", "attention_details"
"""Names of the variable collections that hold what is recorded."""


class Queries(NamedTuple):
    """Which queries a layer computes attention for."""

    start: Any
    """Index of the first in its sequence; traced in a decoder that goes token by token."""
    total: int
    """Number of queries of the whole call. A recurrent decoder computes them one at a time."""


class Replacement(NamedTuple):
    """What an intervention returns if the outputs of the heads are not the values averaged by the weights."""

    weights: Float[Array, "b h q k"]
    output: Float[Array, "b q h v"]


Intervention = Callable[..., Any]
"""(layer: LayerAttention with `weights` and `pooled`, queries: Queries) -> weights [b h q k], or a `Replacement`.

The weights that it is given are those that pool the values, with hard attention 1 for a single key. Arrays are bound
with `jax.tree_util.Partial`, so that they are ordinary arguments of a compiled function. Only weights and outputs are
replaced: what a model computes from the layer's logits (BiDAF's query-to-context attention from their maxima) remains.
"""


@dataclass
class _Call:
    """The interventions of a call of `apply_with_attention`, and the names of the layers that looked for theirs."""

    interventions: Mapping[str, Intervention]
    consulted: set[str] = field(default_factory=set)


_call: ContextVar[_Call | None] = ContextVar("call", default=None)


def has_interventions() -> bool:
    """Return whether weights of any layer are replaced in this application of the model."""
    call = _call.get()
    return call is not None and bool(call.interventions)


def is_replaced(name: str) -> bool:
    """Return whether the weights of the layer with this name are replaced in this application of the model."""
    call = _call.get()
    return call is not None and name in call.interventions


def intervened(layer: LayerAttention, queries: Queries) -> Replacement | None:
    """Return the weights of a layer's intervention and the heads' outputs with them; None for no intervention.

    Args:
        layer: its weights, and the arrays that it pools.
        queries: which queries they are the weights of.
    Raises: ValueError if the layer does not average values, or the intervention returns arrays of other shapes.
    """
    call = _call.get()
    if call is None or layer.name not in call.interventions:
        return None
    call.consulted.add(layer.name)
    if layer.pooled is None:
        raise ValueError(f"{layer.name} does not average values by its weights, so that they cannot be replaced")
    value = layer.pooled.value
    result = call.interventions[layer.name](layer, queries)
    weights, output = result if isinstance(result, Replacement) else (result, None)
    examples, heads, count, _ = own = layer.weights.shape
    if jnp.shape(weights) != own:
        raise ValueError(
            f"the intervention returned weights {jnp.shape(weights)} for {layer.name}; it must return {own}"
        )
    output = pool(weights, value) if output is None else output
    expected = (examples, count, heads, value.shape[-1])
    if output.shape != expected:
        raise ValueError(
            f"the intervention returned outputs {output.shape} for {layer.name}; it must return {expected}"
        )
    return Replacement(weights, output)


def recording(module: nn.Module) -> bool:
    """Return whether this application of the model records attention weights."""
    return module.is_mutable_collection(WEIGHTS)


def recording_details(module: nn.Module) -> bool:
    """Return whether this application of the model records what pools the values, projections and residuals too.

    Never while the model is initialized, although all collections are mutable then.
    """
    return module.is_mutable_collection(DETAILS) and not module.is_initializing()


def record(
    module: nn.Module,
    weights: Float[Array, "b h q k"],
    *,
    kind: Kind,
    stack: str,
    layer: int | None = None,
    pooled: PoolingInputs | None = None,
    replaceable: bool = True,
) -> None:
    """Record the attention weights of a layer, if this application of the model records any.

    Args:
        module: the bound module that computes the weights.
        weights: before dropout.
        kind: which sequence attends to which.
        stack: the part of the model that the layer belongs to.
        layer: its number in the stack, from 1; None if the stack has only one.
        pooled: from what the layer pools its output.
        replaceable: whether an intervention can replace the weights.
    """
    if recording(module):
        pooled = pooled if recording_details(module) else None
        found = layer_attention(kind, stack, layer, weights, pooled=pooled, replaceable=replaceable)
        module.sow(WEIGHTS, "attention_weights", found)


def record_detail(
    module: nn.Module,
    detail: Projection | Residual,
    *,
    kind: Kind,
    stack: str,
    layer: int | None = None,
    feed_forward: bool = False,
) -> None:
    """Record the projection or a residual connection of a layer, if this application of the model records details.

    Args:
        module: the bound module that it belongs to.
        detail: what to record.
        kind: as in `record`, like `stack` and `layer`.
        feed_forward: whether the residual connection is that of the feed-forward network behind the attention.
    """
    if recording_details(module):
        name = "projection" if isinstance(detail, Projection) else "feed_forward" if feed_forward else "residual"
        module.sow(DETAILS, "attention_details", layer_attention(kind, stack, layer, None, **{name: detail}))


@dataclass(frozen=True)
class IntervenedModel:
    """A model with the same interventions in every application, in the place of a module.

    For code that applies a model many times, such as a search, and knows nothing of interventions. Functions compiled
    with the module itself must not be reused: nothing tells their arguments from those of this one.

    Attributes:
        model: any module with attention layers.
        interventions: an `Intervention` by the name of each layer. Layers that do not attend in a call are left alone.
    """

    model: nn.Module
    interventions: Mapping[str, Intervention]

    def apply(self, variables: PyTree, *args: Any, **kwargs: Any) -> Any:
        """Apply the model; `apply_with_attention` of this works too, and its interventions come first."""
        outer = _call.get() or _Call({})
        token = _call.set(_Call({**self.interventions, **outer.interventions}, outer.consulted))
        try:
            return self.model.apply(variables, *args, **kwargs)
        finally:
            _call.reset(token)


def apply_with_attention(
    model: nn.Module | IntervenedModel,
    variables: PyTree,
    *args: Any,
    details: bool = False,
    intervene: Mapping[str, Intervention] | None = None,
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
        intervene: replaces the weights of layers: an `Intervention` by the name of each (`LayerAttention.name`; those
            of `analysis.interventions.everywhere` for all of them). The records hold the replaced weights.
        kwargs: as for `model.apply`: `method=`, `rngs=`, and keyword arguments of the method.
    Returns: the output, and one record per layer, ordered by stack, kind and number of the layer.
    Raises: ValueError for an intervention in a layer that does not attend in this call, that has dropout, or whose
        weights cannot be replaced; and for two layers with one name.

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
    if intervene is not None and not isinstance(intervene, Mapping):
        raise ValueError("intervene must map names of layers to interventions, such as {layer.name: uniform}")
    apply: Any = model.apply
    call = _Call({} if intervene is None else intervene)
    token = _call.set(call)
    try:
        output, state = apply(variables, *args, mutable=[WEIGHTS, DETAILS] if details else [WEIGHTS], **kwargs)
    finally:
        _call.reset(token)
    records = {record.name: record for record in _records(state.get(WEIGHTS, {}))}
    _check_names([record.name for record in _records(state.get(WEIGHTS, {}))], call)
    for detail in _records(state.get(DETAILS, {})):
        if detail.name in records:
            found = {name: getattr(detail, name) for name in ("projection", "residual", "feed_forward")}
            found = {name: value for name, value in found.items() if value is not None}
            records[detail.name] = replace(records[detail.name], **found)
    stacks, kinds = list(dict.fromkeys(record.stack for record in records.values())), get_args(Kind)
    place = lambda record: (stacks.index(record.stack), kinds.index(record.kind), record.layer or 0)  # noqa: E731
    return output, sorted(records.values(), key=place)


def _check_names(names: list[str], call: _Call) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"two layers are named {twice[0]}; give them different kinds, stacks or numbers")
    unknown = [name for name in call.interventions if name not in call.consulted]
    if unknown:
        raise ValueError(
            f"intervene: {unknown[0]} takes no intervention in this call; the layers are {', '.join(names) or 'none'}"
        )


def _records(node: Any) -> Iterator[LayerAttention]:
    if isinstance(node, LayerAttention):
        yield node
    elif isinstance(node, tuple | list):
        for child in node:
            yield from _records(child)
    elif hasattr(node, "values"):
        for child in node.values():
            yield from _records(child)

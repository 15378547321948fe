"""Capture of attention weights: every attention module records its weights, `apply_with_attention` returns them.

Recording has no cost unless it is turned on, and it does not change a bit of the model's output.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, get_args

from flax import linen as nn
from jax import Array
from jax.tree_util import register_dataclass
from jaxtyping import Float, PyTree

Kind = Literal[
    "self", "cross", "decoder", "pooling", "hop", "context_to_query", "query_to_context", "question_to_image",
    "image_to_question",
]  # fmt: skip
"""Which sequence attends to which: `decoder` is a recurrent decoder's attention to its source, `hop` a memory network's
attention to its sentences, and the last four belong to models with two inputs."""


@partial(register_dataclass, data_fields=["weights"], meta_fields=["name", "kind", "stack", "layer"])
@dataclass(frozen=True, eq=False)
class LayerAttention:
    """The attention weights of one layer, for every example, head, query and key."""

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


def recording(module: nn.Module) -> bool:
    """Return whether this application of the model records attention weights."""
    return module.is_mutable_collection("intermediates")


def record(
    module: nn.Module, weights: Float[Array, "b h q k"], *, kind: Kind, stack: str, layer: int | None = None
) -> None:
    """Record the attention weights of a layer, if this application of the model records any.

    Args:
        module: the bound module that computes the weights.
        weights: before dropout.
        kind: which sequence attends to which.
        stack: the part of the model that the layer belongs to.
        layer: its number in the stack, from 1; None if the stack has only one.
    """
    if not recording(module):
        return
    place = stack if layer is None else f"{stack}/layer_{layer}"
    name = f"{place}/{kind}_attention"
    module.sow("intermediates", "attention_weights", LayerAttention(name, kind, stack, layer, weights))


def apply_with_attention(
    model: nn.Module, variables: PyTree, *args: Any, **kwargs: Any
) -> tuple[Any, list[LayerAttention]]:
    """Apply a model and return its output together with the attention weights of all its layers.

    The output equals that of `model.apply(variables, *args, **kwargs)` to the bit. Works for every model, under `jit`
    and other transformations.

    Args:
        model: any module with attention layers.
        variables: as for `model.apply`.
        args: as for `model.apply`.
        kwargs: as for `model.apply`: `method=`, `rngs=`, and keyword arguments of the method.
    Returns: the output, and one record per layer, ordered by stack, kind and number of the layer.

    >>> class Pooled(nn.Module):
    ...     @nn.compact
    ...     def __call__(self, states):
    ...         weights = jnp.full((1, 1, 1, len(states)), 1 / len(states))
    ...         record(self, weights, kind="pooling", stack="encoder")
    ...         return states.mean(axis=0)
    >>> output, (layer,) = apply_with_attention(Pooled(), {}, jnp.ones((2, 3)))
    >>> layer.name, layer.weights.tolist()
    ('encoder/pooling_attention', [[[[0.5, 0.5]]]])
    """
    apply: Any = model.apply
    output, state = apply(variables, *args, mutable=["intermediates"], **kwargs)
    records = list(_records(state.get("intermediates", {})))
    stacks, kinds = list(dict.fromkeys(record.stack for record in records)), get_args(Kind)
    place = lambda record: (stacks.index(record.stack), kinds.index(record.kind), record.layer or 0)  # noqa: E731
    return output, sorted(records, key=place)


def _records(node: Any) -> Iterator[LayerAttention]:
    if isinstance(node, LayerAttention):
        yield node
    elif isinstance(node, tuple | list):
        for child in node:
            yield from _records(child)
    elif hasattr(node, "values"):
        for child in node.values():
            yield from _records(child)

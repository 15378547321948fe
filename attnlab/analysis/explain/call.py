"""One traced call of a model, with what the methods of attribution take of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array
from jax.tree_util import Partial
from jaxtyping import Bool, Float, PyTree

from attnlab.analysis.explain.layout import Layout
from attnlab.analysis.interventions import masked, shifted
from attnlab.config.errors import UserError
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.explained_prediction import Target

Baseline = Literal["pad", "zeros", "mean"]
BASELINES = ("pad", "zeros", "mean")
Removal = Literal["pad", "zeros", "mean", "mask", "drop"]
REMOVALS = (*BASELINES, "mask", "drop")
KEYS = {"context_to_query": 1, "image_to_question": 1}
"""Kinds of attention whose keys are the positions of the second embedded array; those of all others are the first's."""


def check_removal(removal: str, adapter: ModelAdapter, attends: bool) -> None:
    """Raise `UserError` for a removal that does not exist, or that a model cannot have; names one that works.

    Args:
        removal: what removed means.
        adapter: of the model.
        attends: whether it has attention to its input.
    """
    if removal not in REMOVALS:
        raise UserError(f"removal {removal!r}: must be one of {', '.join(REMOVALS)}")
    if removal == "mask" and not attends:
        raise UserError("removal 'mask': this model has no attention; use pad")
    if removal == "drop" and adapter.drop_refusal:
        raise UserError(f"removal 'drop': {adapter.drop_refusal}")


@dataclass(frozen=True)
class ModelCall:
    """The call of a model with one example, in a compiled function.

    Attributes:
        adapter: the model with the layout of its batches.
        params: its parameters.
        batch: one row, or two that differ in the output only.
        target: the explained number.
        valid: [n] True for positions that are not padding.
        removable: [n] True for positions that are neither padding nor special tokens.
        rows: True for the queries whose attention leads to the target; longer than any sequence. All False if the model
            pools its states.
        pools: whether the model pools its states.
        inputs: the embedded inputs.
        layout: their places in one array.
        embedded: [n d] all of them in one array, those of the first row.
    """

    adapter: ModelAdapter
    params: PyTree
    batch: Mapping[str, Any]
    target: Target
    valid: Bool[Array, " n"]
    removable: Bool[Array, " n"]
    rows: Bool[Array, " q"]
    pools: bool
    inputs: PyTree
    layout: Layout
    embedded: Float[Array, "n d"]

    @classmethod
    def of(
        cls, adapter: ModelAdapter, params: PyTree, batch: Mapping[str, Any], tree: Any, **others: Any
    ) -> "ModelCall":
        """Return the call of a model; `tree` is that of `Layout`, `others` are the fields from `target` to `pools`."""
        inputs = adapter.embed(params, batch)
        layout = Layout.of(tree, inputs)
        return cls(adapter, params, batch, inputs=inputs, layout=layout, embedded=layout.join(inputs), **others)

    def logits(self, embedded: Float[Array, "n d"]) -> Array:
        """Return the logits for other embedded inputs."""
        rows = len(jax.tree.leaves(self.inputs)[0])
        inputs = self.layout.split(embedded, rows, self.inputs)
        return self.adapter.forward(self.params, self.batch, embedded=inputs, attention=False).logits

    def score(self, embedded: Float[Array, "n d"]) -> Float[Array, ""]:
        """Return the target for other embedded inputs."""
        return self.target(self.logits(embedded), self.batch)

    def without(self, removal: Removal, read: Callable[[Array], Any] | None = None) -> Callable[..., Any]:
        """Return the target of each version [m] as a function of which positions are removed from it, [m n].

        Special tokens and padding stay.

        A baseline replaces the embeddings of removed positions. "mask" masks them as keys of every attention to the
        input, which then has the sum of its weights on the others; what a position contributes elsewhere, through a
        recurrent encoder or its own residual connection, remains. "drop" cuts removed tokens out of the text: the
        others close up, so that their positions change, as those of a shorter text (DeYoung et al. 2020; ferret). An
        output text, or the span that is explained, stays what it is; a span that loses a word is almost impossible.

        Args:
            removal: what removed means; see `check_removal`.
            read: returns what is wanted of the logits of a version, in place of the target.
        """
        read = read or (lambda logits: self.target(logits, self.batch))
        if removal == "drop":
            return jax.vmap(lambda removed: read(self._logits_of_rest(removed & self.removable)))
        if removal != "mask":
            replacement = self.baseline(removal)
            return jax.vmap(
                lambda removed: read(
                    self.logits(jnp.where((removed & self.removable)[:, None], replacement, self.embedded))
                )
            )
        layers = jax.eval_shape(lambda: self.adapter.forward(self.params, self.batch, details=True).attention)
        places = {
            layer.name: self.layout.slices[KEYS.get(layer.kind, 0)]
            for layer in layers
            if layer.pooled is not None
            and layer.replaceable
            and not (layer.kind == "self" and layer.stack == "decoder")
        }

        def masked_logits(removed: Bool[Array, " n"]) -> Any:
            keys = removed & self.removable
            intervene = {name: Partial(masked, removed=keys[place]) for name, place in places.items()}
            return read(self.adapter.forward(self.params, self.batch, intervene=intervene).logits)

        return jax.vmap(masked_logits)

    def _logits_of_rest(self, removed: Bool[Array, " n"]) -> Array:
        """Return the logits of a version without the removed positions."""
        gone = [removed[place] for place in self.layout.slices]
        shorter = self.adapter.drop(self.batch, gone)
        logits = self.adapter.forward(self.params, shorter, attention=False).logits
        return self.adapter.at_places_of_text(logits, self.batch, gone)

    def baseline(self, kind: Baseline) -> Float[Array, "n d"]:
        """Return what replaces the embeddings.

        pad: the embeddings of padding, and the features of a blank image. zeros: zeros, which the norm of a layer that
        sees nothing else cannot scale down to smoothly, so that integrated gradients need many steps. mean: the mean of
        an array's positions, which for an array of one position is that position.
        """
        if kind == "zeros":
            return jnp.zeros_like(self.embedded)
        if kind == "pad":
            return self.layout.join(self.adapter.embed(self.params, self.adapter.blank(self.batch)))
        if kind != "mean":
            raise ValueError(f"baseline must be one of {', '.join(BASELINES)}, not {kind!r}")
        means = []
        for place, width in zip(self.layout.slices, self.layout.widths, strict=True):
            real = self.removable[place, None]
            mean = jnp.sum(jnp.where(real, self.embedded[place], 0), axis=0) / jnp.maximum(jnp.sum(real), 1)
            means.append(jnp.broadcast_to(mean, (width, len(mean))))
        return jnp.concatenate(means)

    @cached_property
    def layers(self) -> list[LayerAttention]:
        """The records of all layers, of all rows of the batch."""
        return self.adapter.forward(self.params, self.batch, details=True).attention

    @cached_property
    def gradients(self) -> dict[str, Float[Array, "r h q k"]]:
        """The gradients of the target with respect to the weights of each layer with an attention module."""

        def score(by: dict[str, Array]) -> Array:
            intervene = {name: Partial(shifted, by=shift) for name, shift in by.items()}
            return self.target(self.adapter.forward(self.params, self.batch, intervene=intervene).logits, self.batch)

        replaceable = [layer for layer in self.layers if layer.pooled is not None and layer.replaceable]
        return jax.grad(score)({layer.name: jnp.zeros_like(layer.weights) for layer in replaceable})

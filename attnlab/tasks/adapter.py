"""The interface between a task and a model: its batches, and how it is initialized, embedded and applied."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Bool, Float, Int, PyTree

from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import Intervention, apply_with_attention
from attnlab.layers.layer_attention import LayerAttention
from attnlab.tasks.dropping import TokenArrays, dropped


@dataclass(frozen=True)
class Output:
    """The output of a model for a batch.

    Attributes:
        logits: [b ...].
        attention: a record for each attention layer; empty without `attention=True`.
        auxiliary_loss: [b] a loss for each example that is added to the loss of its prediction.
        weights: the attention weights that a task may supervise; None for a model without any.
    """

    logits: Array
    attention: list[LayerAttention]
    auxiliary_loss: Array
    weights: Any = None


class ModelAdapter(ABC):
    """A model with the layout of its batches; one class for each kind of model of a task.

    A subclass for a new kind of model sets `model` and `input_names`, and defines `lengths` and `arrays`.

    Attributes:
        model: the Linen module; its parameters live elsewhere.
        input_names: names of the arrays of a batch in the order of the model's arguments.
        embedded_names: names of the arrays that `embed` embeds, in which 0 is padding or a blank image.
        sequences: for each array of `embed`, or group of arrays with the same positions, the arrays of a batch with
            these positions; empty for a model whose input cannot lose positions.
        drop_refusal: why it cannot, and what to use instead; "" for a model that defines `drop`, or `sequences`.
        predicts_places: whether the logits are of positions of the input, such as the first and last word of an answer.
        max_positions: most positions of `lengths` that the model has learned; None for any number.
        replacement_note: what the model still has of a token whose embedding is replaced, besides its place; "" for
            nothing.
    """

    model: nn.Module
    input_names: ClassVar[tuple[str, ...]]
    embedded_names: ClassVar[tuple[str, ...]] = ("tokens",)
    sequences: ClassVar[tuple[TokenArrays, ...]] = ()
    drop_refusal: ClassVar[str] = "its input is not made of token sequences alone; use pad"
    predicts_places: ClassVar[bool] = False
    max_positions: int | None = None
    replacement_note: ClassVar[str] = ""

    @property
    @abstractmethod
    def example_batch(self) -> Batch:
        """A small batch for the initialization of the model."""

    @abstractmethod
    def lengths(self, example: Any) -> tuple[int, int]:
        """Return the number of source and of target positions that an encoded example takes in a batch."""

    @abstractmethod
    def arrays(self, examples: Sequence[Any], shape: Shape) -> Batch:
        """Return the arrays of a batch; rows beyond the examples are filler, which does not contribute to any loss."""

    def fill(self, examples: Sequence[Any], shape: Shape | None = None) -> Batch:
        """Return a batch of encoded examples; a shape of None is the smallest one that holds them."""
        if shape is None:
            widths = [max(sizes) for sizes in zip(*map(self.lengths, examples), strict=True)]
            shape = Shape(-(-len(examples) // jax.device_count()) * jax.device_count(), *widths)
        return self.arrays(examples, shape)

    def padded_shape(self, examples: Sequence[Any]) -> Shape:
        """Return the shape of a batch of these examples alone, with widths rounded up to multiples of 16.

        Few shapes are compiled so for examples that are explained one by one. No width exceeds `max_positions`.
        """
        longest = self.max_positions
        widths = [max(sizes) for sizes in zip(*map(self.lengths, examples), strict=True)]
        rounded = [-(-width // 16) * 16 for width in widths]
        if longest is not None:
            rounded = [min(wide, max(longest, width)) for wide, width in zip(rounded, widths, strict=True)]
        return Shape(len(examples), *rounded)

    def blank(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """Return a batch with padding in place of every token, and blank images."""
        return dict(batch) | {name: jnp.zeros_like(batch[name]) for name in self.embedded_names}

    def drop(self, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> dict[str, Any]:
        """Return a batch without the removed positions, as if they had never been there: the others close up.

        Args:
            batch: as returned by `fill`, with rows of the same input.
            removed: for each array of `embed`, or group of arrays with the same positions, True for the positions that
                are cut out; padding and special tokens never are.
        """
        return dropped(batch, self.sequences, removed)

    def at_places_of_text(self, logits: Array, batch: Mapping[str, Any], removed: Sequence[Bool[Array, " n"]]) -> Array:
        """Return the logits for a batch of `drop` as those of the whole input: the same, unless they are of places.

        Args:
            logits: for the shortened batch.
            batch: the whole one.
            removed: as in `drop`.
        """
        return logits

    def inputs(self, batch: Mapping[str, Any]) -> list[Any]:
        """Return the model's positional arguments."""
        return [jnp.asarray(batch[name]) for name in self.input_names]

    def initialize(self, rng: Array) -> PyTree:
        """Return freshly initialized parameters."""
        return self.model.init(rng, *self.inputs(self.example_batch), train=False)["params"]

    def embed(self, params: PyTree, batch: Mapping[str, Any]) -> PyTree:
        """Return the embeddings of the inputs, for `forward(embedded=...)`."""
        return self.model.apply({"params": params}, *self.inputs(batch), method="embed")

    def forward(
        self,
        params: PyTree,
        batch: Mapping[str, Any],
        rng: Array | None = None,
        embedded: PyTree | None = None,
        *,
        attention: bool = True,
        details: bool = False,
        intervene: Mapping[str, Intervention] | None = None,
    ) -> Output:
        """Apply the model to a batch.

        Args:
            params: the parameters of `model`.
            batch: as returned by `fill`.
            rng: for dropout; None is evaluation.
            embedded: used in place of the embeddings of the inputs.
            attention: record the weights of all layers; training does not need them, and need not store them.
            details: record what `capture.apply_with_attention` records besides the weights.
            intervene: replaces the weights of layers, as in `capture.apply_with_attention`.
        """
        options: dict[str, Any] = {"train": rng is not None, **self.options(attention)}
        if rng is not None:
            options["rngs"] = {"dropout": rng}
        if embedded is not None:
            options["embedded"] = embedded
        if attention or details or intervene is not None:
            options |= {"details": details, "intervene": intervene}
            raw, layers = apply_with_attention(self.model, {"params": params}, *self.inputs(batch), **options)
            return self.output(raw, layers)
        return self.output(self.model.apply({"params": params}, *self.inputs(batch), **options), [])

    def decisions(self, logits: Float[Array, "*places c"]) -> Int[Array, " r"]:
        """Return the decisions that the logits of one example mean, as numbers to compare.

        One a distribution: a class, an answer, or the best token at each place of a generated text.
        """
        return jnp.argmax(logits, axis=-1).astype(jnp.int32).reshape(-1)

    def options(self, attention: bool) -> dict[str, Any]:
        """Return further keyword arguments of the model."""
        return {}

    def output(self, raw: Any, layers: list[LayerAttention]) -> Output:
        """Convert the model's return value to an `Output`."""
        return Output(raw.logits, layers, jnp.zeros(raw.logits.shape[0]), raw.weights)

"""The training of a model-consistent adversary: the arrays of its batches, and its loss."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.functional.divergence import kl, tvd
from attnlab.tasks.adapter import ModelAdapter, Output
from attnlab.tasks.classification.attention_maps import ClassifiedText
from attnlab.training.objective import Loss, model_consistent_loss

LEAST_WEIGHT = 1e-9
"""Weights of the base model are at least this in the divergence, which is then at most 20.7 nats a hop: without a bound
an adversary gains everything from one token whose base weight is 0."""


def fill_with_base(
    adapter: ModelAdapter, examples: Sequence[tuple[Any, ...]], texts: Sequence[ClassifiedText], hops: int
) -> Callable[[Shape, Sequence[int]], Batch]:
    """Return a function (shape, indices of examples) -> batch with base_probabilities [b c] and base_weights [b r n].

    Args:
        adapter: fills the other arrays.
        examples: as the adapter takes them.
        texts: what the base model predicts for each of them; n is the width of its weights, special tokens included.
        hops: r, the number of hops of the adversary.

    Raises:
        ValueError: the weights of the base model have another number of rows.
    """
    if other := {len(text.weights) for text in texts} - {hops}:
        raise ValueError(f"fill_with_base: the base model's weights have {min(other)} rows, the adversary {hops} hops")
    classes = len(texts[0].probabilities)
    special = texts[0].weights.shape[1] - len(examples[0][0])

    def fill(shape: Shape, members: Sequence[int]) -> Batch:
        probabilities = np.zeros((shape.rows, classes), np.float32)
        weights = np.zeros((shape.rows, hops, shape.source + special), np.float32)
        for row, index in enumerate(members):
            probabilities[row] = texts[index].probabilities
            weights[row, :, : texts[index].weights.shape[1]] = texts[index].weights
        batch = adapter.fill([examples[index] for index in members], shape)
        return batch | {"base_probabilities": probabilities, "base_weights": weights}

    return fill


def adversary_loss(output: Output, batch: Mapping[str, Any], strength: float) -> Loss:
    """Sum the loss of a model-consistent adversary over the texts of a batch (see `model_consistent_loss`).

    Base weights below `LEAST_WEIGHT` count as this, where the adversary's weight is not 0. The metrics are the total
    variation distance and the Kullback–Leibler divergence that the loss is made of, and the accuracy.
    """
    probabilities = jax.nn.softmax(output.logits)
    weights: Array = output.weights
    base_weights = jnp.where(weights > 0.0, jnp.maximum(batch["base_weights"], LEAST_WEIGHT), batch["base_weights"])
    one = lambda p, q, a, b: model_consistent_loss(p, q, a, b, strength)  # noqa: E731
    losses = jax.vmap(one)(probabilities, batch["base_probabilities"], weights, base_weights)
    real = jnp.minimum(batch["lengths"], 1)
    metrics = {
        "prediction_tvd": tvd(probabilities, batch["base_probabilities"]),
        "weight_kl": jnp.mean(kl(weights, base_weights), axis=-1),
        "accuracy": jnp.argmax(output.logits, axis=1) == batch["labels"],
    }
    total = jnp.sum(real * losses) + jnp.sum(real * output.auxiliary_loss)
    return Loss(total, jnp.sum(real), {name: jnp.sum(real * values) for name, values in metrics.items()})

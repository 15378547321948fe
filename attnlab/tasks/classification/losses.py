"""The loss of a classifier."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp

from attnlab.tasks.adapter import Output
from attnlab.training.objective import Loss, cross_entropy


def label_loss(output: Output, batch: Mapping[str, Any], smoothing: float) -> Loss:
    """Sum the cross-entropy of the labels, plus the penalty of the pooling, over the texts of a batch.

    Args:
        output: of the model.
        batch: as the adapter returns it.
        smoothing: label smoothing.
    """
    real, labels = jnp.minimum(batch["lengths"], 1), batch["labels"]
    smoothed, nll = cross_entropy(output.logits[:, None], labels[:, None], real, label_smoothing=smoothing)
    correct = jnp.sum(real * (jnp.argmax(output.logits, axis=1) == labels))
    return Loss(smoothed + jnp.sum(real * output.auxiliary_loss), jnp.sum(real), {"nll": nll, "accuracy": correct})

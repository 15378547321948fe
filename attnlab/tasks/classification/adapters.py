"""The adapters of the classifiers: their batches of texts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Array

from attnlab.config import Experiment
from attnlab.data.classification.text_encoder import fill_batch
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.layers.layer_attention import LayerAttention
from attnlab.models.classifier import MlpClassifier, RecurrentClassifier, TransformerClassifier
from attnlab.tasks.adapter import ModelAdapter, Output
from attnlab.tasks.classification.attention_maps import special_tokens
from attnlab.tasks.dropping import TokenArrays

MODELS = {
    "recurrent_classifier": RecurrentClassifier,
    "transformer_classifier": TransformerClassifier,
    "mlp_classifier": MlpClassifier,
}


class ClassifierAdapter(ModelAdapter):
    """A classifier. An example is the token numbers of a text and the number of its class."""

    input_names = ("tokens", "lengths")
    sequences = (TokenArrays(("tokens",), "lengths"),)
    drop_refusal = ""

    def __init__(self, config: Experiment, vocabulary: int, classes: int) -> None:
        self.model = MODELS[config.model.kind](config.model, vocabulary, classes)
        model: Any = config.model
        self.max_positions = model.max_text_tokens
        self._tokens_before, _ = special_tokens(config.model)

    @property
    def example_batch(self) -> Batch:
        return self.arrays([(np.ones(2, int), 0)], Shape(1, 2, 2))

    def lengths(self, example: tuple[Any, ...]) -> tuple[int, int]:
        return len(example[0]), len(example[0])

    def arrays(self, examples: Sequence[tuple[Any, ...]], shape: Shape) -> Batch:
        return fill_batch(shape, [(example[0], example[1]) for example in examples])

    def drop(self, batch: Mapping[str, Any], removed: Sequence[Array]) -> dict[str, Any]:
        """Return a batch without the removed tokens; the model itself puts special tokens around what stays."""
        start = self._tokens_before
        return super().drop(batch, [removed[0][start : start + np.shape(batch["tokens"])[1]]])

    def output(self, raw: Any, layers: list[LayerAttention]) -> Output:
        return Output(raw.logits, layers, raw.penalty, raw.weights)


class GuidedText(NamedTuple):
    """An example with frozen attention weights."""

    ids: np.ndarray
    label: int
    weights: np.ndarray
    """[s] the weight of each token."""


class GuidedAdapter(ClassifierAdapter):
    """A classifier with frozen attention weights. An example is a `GuidedText`."""

    input_names = ("tokens", "lengths", "frozen_weights")
    drop_refusal = "its frozen weights are those of the whole text; use mask"
    replacement_note = "The frozen attention weights stay those of the whole text, with the removed tokens in it."

    @property
    def example_batch(self) -> Batch:
        return self.arrays([GuidedText(np.ones(2, int), 0, np.full(2, 0.5))], Shape(1, 2, 2))

    def arrays(self, examples: Sequence[GuidedText], shape: Shape) -> Batch:
        weights = np.zeros((shape.rows, shape.source), np.float32)
        for row, example in enumerate(examples):
            weights[row, : len(example.weights)] = example.weights
        return super().arrays(examples, shape) | {"frozen_weights": weights}

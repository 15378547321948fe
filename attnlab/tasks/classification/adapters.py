"""The adapter of the classifiers: their batches of texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnlab.config import Experiment
from attnlab.data.classification.text_encoder import fill_batch
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.layers.capture import LayerAttention
from attnlab.models.classifier import RecurrentClassifier, TransformerClassifier
from attnlab.tasks.adapter import ModelAdapter, Output

MODELS = {"recurrent_classifier": RecurrentClassifier, "transformer_classifier": TransformerClassifier}


class ClassifierAdapter(ModelAdapter):
    """A classifier. An example is the token numbers of a text and the number of its class."""

    input_names = ("tokens", "lengths")

    def __init__(self, config: Experiment, vocabulary: int, classes: int) -> None:
        self.model = MODELS[config.model.kind](config.model, vocabulary, classes)
        model: Any = config.model
        self.max_positions = model.max_text_tokens

    @property
    def example_batch(self) -> Batch:
        return self.arrays([(np.ones(2, int), 0)], Shape(1, 2, 2))

    def lengths(self, example: tuple[np.ndarray, int]) -> tuple[int, int]:
        return len(example[0]), len(example[0])

    def arrays(self, examples: Sequence[tuple[np.ndarray, int]], shape: Shape) -> Batch:
        return fill_batch(shape, examples)

    def output(self, raw: Any, layers: list[LayerAttention]) -> Output:
        return Output(raw.logits, layers, raw.penalty, raw.weights)

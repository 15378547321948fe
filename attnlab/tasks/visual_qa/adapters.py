"""The adapter of the visual question answering model: its batches, and its attention to the image."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import EOS
from attnlab.layers.layer_attention import LayerAttention
from attnlab.models.visual_qa import VisualAnswerer
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.image_inputs import ImageInputs


class VisualAnswererAdapter(ModelAdapter):
    """The visual question answering model.

    An example is an input of the image encoder, the token numbers of a question, and the number of its answer.
    """

    input_names = ("image", "cells", "question", "lengths")
    embedded_names = ("image", "question")
    drop_refusal = "the cells of an image cannot close up; use pad, zeros, mean or mask"

    def __init__(self, config: Any, images: ImageInputs, vocabulary: int, answers: int) -> None:
        self.model, self._images = VisualAnswerer(config, vocabulary, answers), images

    @property
    def example_batch(self) -> Batch:
        return self.arrays([(self._images.blank(1)[0], [1], 0)], Shape(1, 2, 2))

    def lengths(self, example: tuple[np.ndarray, Sequence[int], int]) -> tuple[int, int]:
        return len(example[1]) + 1, len(example[1]) + 1

    def arrays(self, examples: Sequence[tuple[np.ndarray, Sequence[int], int]], shape: Shape) -> Batch:
        batch: Batch = {name: np.zeros(shape.rows, np.int32) for name in ("cells", "lengths", "answer")}
        batch |= {"image": self._images.blank(shape.rows), "question": np.zeros((shape.rows, shape.target), np.int32)}
        for row, (image, tokens, answer) in enumerate(examples):
            batch["image"][row], batch["cells"][row] = image, self._images.cells
            batch["question"][row, : len(tokens) + 1] = [*tokens, EOS]
            batch["lengths"][row], batch["answer"][row] = len(tokens) + 1, answer
        return batch

    def image_attention(self, batch: Mapping[str, Any], layers: Sequence[LayerAttention]) -> Float[Array, "b n m"]:
        """Return the attention of each word of the question to the image, from the records of all layers.

        It is that of the last layer, averaged over its heads. If the question attends as a whole (co-attention), all
        words have the same weights; without attention the weights are zero.
        """
        shape = (*batch["question"].shape, self._images.cells)
        to_image = [layer.weights for layer in layers if layer.kind in ("cross", "question_to_image")]
        if not to_image:
            return jnp.zeros(shape)
        return jnp.broadcast_to(jnp.mean(to_image[-1], axis=1), shape)

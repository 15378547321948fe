"""The adapter of the captioning models: their batches of images and captions."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from attnlab.config import Experiment
from attnlab.data.text.batching import Batch
from attnlab.data.text.buckets import Shape
from attnlab.data.text.tokenizer import BOS, EOS
from attnlab.models.captioner import ShowAttendTell, TransformerCaptioner
from attnlab.tasks.adapter import ModelAdapter
from attnlab.tasks.image_inputs import ImageInputs

MODELS = {"show_attend_tell": ShowAttendTell, "transformer_captioner": TransformerCaptioner}


class CaptionerAdapter(ModelAdapter):
    """A captioning model. An example is an input of the image encoder and the token numbers of a caption."""

    input_names = ("image", "cells", "target_in")
    embedded_names = ("image",)
    drop_refusal = "the cells of an image cannot close up; use pad, zeros, mean or mask"

    def __init__(self, config: Experiment, images: ImageInputs, vocabulary: int) -> None:
        make: Any = MODELS[config.model.kind]
        self.model, self._images = make(config.model, vocabulary), images
        model: Any = config.model
        self.max_positions = model.max_positions

    @property
    def example_batch(self) -> Batch:
        return self.arrays([(self._images.blank(1)[0], [1])], Shape(1, self._images.cells, 2))

    def lengths(self, example: tuple[np.ndarray, Sequence[int]]) -> tuple[int, int]:
        return self._images.cells, len(example[1]) + 1

    def arrays(self, examples: Sequence[tuple[np.ndarray, Sequence[int]]], shape: Shape) -> Batch:
        batch: Batch = {name: np.zeros((shape.rows, shape.target), np.int32) for name in ("target_in", "target_out")}
        batch |= {name: np.zeros(shape.rows, np.int32) for name in ("cells", "target_lengths")}
        batch["image"] = self._images.blank(shape.rows)
        for row, (image, ids) in enumerate(examples):
            batch["image"][row], batch["cells"][row] = image, self._images.cells
            batch["target_in"][row, : len(ids) + 1] = [BOS, *ids]
            batch["target_out"][row, : len(ids) + 1] = [*ids, EOS]
            batch["target_lengths"][row] = len(ids) + 1
        return batch

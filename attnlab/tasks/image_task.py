"""What tasks on images share: the inputs of the image encoder, and image files as input."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from attnlab.config.captioning import Captioning
from attnlab.config.errors import UserError
from attnlab.config.models.captioner import ShowAttendTell, TransformerCaptioner
from attnlab.config.models.visual_qa import VisualAnswerer
from attnlab.config.visual_qa import VisualQA
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.images.pixels import as_bytes, pixels
from attnlab.data.visual_qa.records import ImageQuestion
from attnlab.tasks.base import Task
from attnlab.tasks.image_inputs import ImageInputs


class ImageTask(Task):
    """A task whose model has an image encoder."""

    @cached_property
    def image_inputs(self) -> ImageInputs:
        """The inputs of the image encoder."""
        task, model = self.config.task, self.config.model
        assert isinstance(task, Captioning | VisualQA)
        assert isinstance(model, ShowAttendTell | TransformerCaptioner | VisualAnswerer)
        return ImageInputs(model.image, task.image_size)

    def picture(self, example: CaptionedImage | ImageQuestion) -> np.ndarray:
        """Return the pixels of the example's image as the model's encoder sees it."""
        return pixels(example.image, self.image_inputs.size, example.name)

    def weight_fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of the frozen weights of the image encoder, if it has any."""
        return self.image_inputs.fingerprints()


def images_and_names(examples: Sequence[CaptionedImage | ImageQuestion]) -> tuple[list[np.ndarray], list[str]]:
    """Return the images of examples, and their names for messages."""
    return [example.image for example in examples], [example.name for example in examples]


def read_image(path: str) -> np.ndarray:
    """Read the bytes of an image file, without decoding them."""
    try:
        return as_bytes(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error

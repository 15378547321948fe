"""Inputs of image encoders: pixels, or features that a frozen network computes from them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn
from attnlab.data.images import features
from attnlab.data.images.pixels import pixels
from attnlab.models import efficientnet
from attnlab.tasks.base import rows_multiple

MAX_ROWS = 64
"""Default of the most images in a batch of an evaluation."""

ImageBatch = tuple[list[int], np.ndarray, np.ndarray]
"""Indices of the images in the first rows, the images, and the number of cells of each row."""


@dataclass(eq=False)
class ImageInputs:
    """Converts images to the inputs of an image encoder.

    Attributes:
        config: the config of the image encoder.
        size: height and width in pixels.
    """

    config: ImageEncoder
    size: int

    @property
    def side(self) -> int:
        """Height and width of the grid of features, in cells."""
        return self.config.grid_size(self.size)

    @property
    def cells(self) -> int:
        """Number of cells of the grid."""
        return self.side**2

    def blank(self, rows: int) -> np.ndarray:
        """Return inputs without content: black pixels, or features of 0."""
        if isinstance(self.config, SmallCnn):
            return np.zeros((rows, self.size, self.size, 3), np.uint8)
        return np.zeros((rows, self.cells, self.config.backbone_features), np.float16)

    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of the frozen weights, if there are any."""
        if isinstance(self.config, SmallCnn):
            return {}
        return {"image weights": efficientnet.fingerprint(efficientnet.weights_file())}

    def encoder_inputs(self, images: Sequence[np.ndarray], names: Sequence[str] = ()) -> Sequence[np.ndarray]:
        """Convert images to inputs of the encoder; features that are not cached yet are computed here."""
        if isinstance(self.config, SmallCnn):
            return _Pixels(images, self.size, names)
        identity = f"{self.fingerprints()} {self.config.layer}"
        return features.features(images, self.size, self._compute, identity, names)

    @cached_property
    def _extract(self) -> Callable[[np.ndarray], np.ndarray]:
        assert not isinstance(self.config, SmallCnn)
        return efficientnet.extractor(self.config.layer)

    def _compute(self, batch: np.ndarray) -> np.ndarray:
        return self._extract(batch)

    def batches(
        self, images: Sequence[np.ndarray], names: Sequence[str], max_rows: int = MAX_ROWS
    ) -> Iterator[ImageBatch]:
        """Yield batches of at most `max_rows` images; the last rows of a batch may be filler, which has 0 cells."""
        inputs = self.encoder_inputs(images, names)
        multiple = rows_multiple()
        power_of_two = 1 << max(len(images) - 1, 0).bit_length()
        rows = -(-min(max_rows, power_of_two) // multiple) * multiple
        for first in range(0, len(images), rows):
            indices = list(range(first, min(first + rows, len(images))))
            batch, cells = self.blank(rows), np.zeros(rows, np.int32)
            for row, index in enumerate(indices):
                batch[row], cells[row] = inputs[index], self.cells
            yield indices, batch, cells


@dataclass(frozen=True)
class _Pixels(Sequence[np.ndarray]):
    images: Sequence[np.ndarray]
    size: int
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return pixels(self.images[index], self.size, self.names[index] if self.names else f"image {index}")

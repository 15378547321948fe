"""How images reach a model: as pixels, or as features that a frozen network computed of them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnlab.config.models.image_encoder import ImageEncoder, SmallCnn
from attnlab.data.images import features
from attnlab.data.images.pixels import pixels
from attnlab.models import efficientnet
from attnlab.tasks.base import rows_multiple

ROWS = 64
"""Images answered at a time."""


@dataclass(eq=False)
class ImageInputs:
    """What the image encoder of a config wants of an image.

    Attributes:
        config: the image encoder's.
        size: pixels a side.
    """

    config: ImageEncoder
    size: int

    @property
    def side(self) -> int:
        """Cells a side of the grid of features."""
        return self.config.grid_size(self.size)

    @property
    def cells(self) -> int:
        """Cells of the grid."""
        return self.side**2

    def blank(self, rows: int) -> np.ndarray:
        """Images of nothing, in the form that the encoder takes: black pixels, or features 0."""
        if isinstance(self.config, SmallCnn):
            return np.zeros((rows, self.size, self.size, 3), np.uint8)
        return np.zeros((rows, self.cells, self.config.backbone_features), np.float16)

    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of the frozen weights, if there are any."""
        if isinstance(self.config, SmallCnn):
            return {}
        return {"image weights": efficientnet.fingerprint(efficientnet.weights_file())}

    def prepared(self, images: Sequence[np.ndarray], names: Sequence[str] = ()) -> Sequence[np.ndarray]:
        """Give each image the form that the encoder takes; features that are not known yet are computed here."""
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

    def batches(self, images: Sequence[np.ndarray], names: Sequence[str], most: int = ROWS) -> "Iterator[Rows]":
        """Go through images, at most so many at a time; the last rows of a batch may be filler (0 cells)."""
        prepared = self.prepared(images, names)
        multiple = rows_multiple()
        fewest = 1 << max(len(images) - 1, 0).bit_length()
        rows = -(-min(most, fewest) // multiple) * multiple
        for first in range(0, len(images), rows):
            chosen = list(range(first, min(first + rows, len(images))))
            batch, cells = self.blank(rows), np.zeros(rows, np.int32)
            for row, index in enumerate(chosen):
                batch[row], cells[row] = prepared[index], self.cells
            yield chosen, batch, cells


Rows = tuple[list[int], np.ndarray, np.ndarray]
"""Indices of the images in the first rows, the images, and their cells."""


@dataclass(frozen=True)
class _Pixels(Sequence[np.ndarray]):
    images: Sequence[np.ndarray]
    size: int
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return pixels(self.images[index], self.size, self.names[index] if self.names else f"image {index}")

"""Configs of image encoders: networks that turn an image into a grid of cells with features."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config


class SmallCnn(Config):
    """A convolutional network trained from scratch: stages of a 3×3 convolution of stride 2 and 1×1 convolutions."""

    kind: Literal["small_cnn"] = "small_cnn"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=6)] = (32, 64, 128)
    """Number of channels of each stage. A stage halves height and width: three stages turn 64×64 pixels into 8×8 cells
    with a receptive field of 15×15 pixels."""
    context: bool = False
    """End with a 3×3 convolution, which adds the neighbors of a cell to its receptive field."""

    @property
    def width(self) -> int:
        """Return the number of features of a cell."""
        return self.channels[-1]

    def grid_size(self, image_size: int) -> int:
        """Return the number of cells along each side of the grid."""
        return -(-image_size // 2 ** len(self.channels))

    def incompatibility(self, image_size: int) -> str | None:
        """Return why the encoder does not accept images of this size, or None."""
        return None

    def tiny(self) -> Self:
        return self.replace(channels=tuple(min(width, 32) for width in self.channels))


class EfficientNetLite0(Config):
    """EfficientNet-Lite0 trained on ImageNet, frozen; needs the extra `vision`. Its features are computed once and
    cached."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    layer: Literal["blocks", "head"] = "head"
    """blocks: the 320 features of the last block; head: the 1,280 features after one more convolution with ReLU6."""
    width: PositiveInt = 512
    """Number of features of a cell after a learned projection."""

    def grid_size(self, image_size: int) -> int:
        """Return the number of cells along each side of the grid: one for every 32 pixels."""
        return -(-image_size // 32)

    @property
    def backbone_features(self) -> int:
        """Return the number of features of a cell before the projection."""
        return {"blocks": 320, "head": 1280}[self.layer]

    def incompatibility(self, image_size: int) -> str | None:
        """Return why the encoder does not accept images of this size, or None."""
        if image_size % 32:
            return f"task.image_size {image_size}: efficientnet_lite0 needs a multiple of 32 (it was trained at 224)"
        return None

    def tiny(self) -> Self:
        return self.with_limits(width=32)


ImageEncoder = Annotated[SmallCnn | EfficientNetLite0, Field(discriminator="kind")]

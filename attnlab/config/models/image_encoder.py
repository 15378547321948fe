"""Image encoders: networks that turn an image into a grid of features."""

from typing import Annotated, Literal, Self

from pydantic import Field, PositiveInt

from attnlab.config.base import Config


class SmallCnn(Config):
    """A convolutional network trained from scratch: 3×3 convolutions of stride 2, each followed by others of 1×1."""

    kind: Literal["small_cnn"] = "small_cnn"
    channels: Annotated[tuple[PositiveInt, ...], Field(min_length=1, max_length=6)] = (32, 64, 128)
    """Of each stage; a stage halves height and width: three make a grid of 8×8 of 64 pixels a side, and a cell sees
    15 of them."""
    context: bool = False
    """End with a 3×3 convolution, by which a cell knows its neighbors."""

    @property
    def width(self) -> int:
        """Features of a cell."""
        return self.channels[-1]

    def grid_size(self, image_size: int) -> int:
        """Cells a side of the grid."""
        return -(-image_size // 2 ** len(self.channels))

    def incompatibility(self, image_size: int) -> str | None:
        """Return why the encoder cannot take images of this size, or None."""
        return None

    def tiny(self) -> Self:
        return self.replace(channels=tuple(min(width, 32) for width in self.channels))


class EfficientNetLite0(Config):
    """EfficientNet-Lite0 trained on ImageNet, frozen (extra `vision`); its features are computed once and kept."""

    kind: Literal["efficientnet_lite0"] = "efficientnet_lite0"
    layer: Literal["blocks", "head"] = "head"
    """blocks: 320 features of the last block; head: 1,280, after one more convolution and its ReLU6."""
    width: PositiveInt = 512
    """Features of a cell after a learned projection."""

    def grid_size(self, image_size: int) -> int:
        """Cells a side of the grid: one for 32 pixels."""
        return -(-image_size // 32)

    @property
    def backbone_features(self) -> int:
        """Features of a cell before the projection."""
        return {"blocks": 320, "head": 1280}[self.layer]

    def incompatibility(self, image_size: int) -> str | None:
        """Return why the encoder cannot take images of this size, or None."""
        if image_size % 32:
            return f"task.image_size {image_size}: efficientnet_lite0 needs a multiple of 32 (it was trained at 224)"
        return None

    def tiny(self) -> Self:
        return self.with_limits(width=32)


ImageEncoder = Annotated[SmallCnn | EfficientNetLite0, Field(discriminator="kind")]

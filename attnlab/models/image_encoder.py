"""Encoders of images to a grid of features: a small convolutional network, or a projection of precomputed features.

grid = features + position    one vector for each cell, in reading order

The positions are learned: without them a weighted mean of cells does not show where on the image the cells are.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from attnlab.config.models.image_encoder import ImageEncoder as Config
from attnlab.config.models.image_encoder import SmallCnn

HE = nn.initializers.he_normal()


class ImageEncoder(nn.Module):
    """An image encoder: maps pixels, or precomputed features, to features of the image's cells."""

    config: Config

    @nn.compact
    def __call__(self, image: Num[Array, "b ..."]) -> Float[Array, "b s c"]:
        """Encode images.

        Args:
            image: pixels [b h w 3] in [0, 255] for a small_cnn, otherwise precomputed features [b s f].
        """
        grid = _Convolutions(self.config)(image) if isinstance(self.config, SmallCnn) else self._projected(image)
        positions = self.param("positions", nn.initializers.normal(0.1), grid.shape[1:])
        return grid + positions

    def _projected(self, features: Array) -> Array:
        projected = nn.Dense(self.config.width, kernel_init=HE, name="map")(features.astype(jnp.float32))
        return nn.LayerNorm(name="norm")(jax.nn.relu(projected))


class _Convolutions(nn.Module):
    """Stages of a 3×3 convolution of stride 2 and a 1×1 convolution; small receptive fields keep the features local."""

    config: SmallCnn

    @nn.compact
    def __call__(self, pixels: Num[Array, "b h w 3"]) -> Float[Array, "b s c"]:
        states = pixels.astype(jnp.float32) / 127.5 - 1.0
        for stage, width in enumerate(self.config.channels):
            states = jax.nn.relu(nn.Conv(width, (3, 3), strides=2, kernel_init=HE, name=f"wide_{stage}")(states))
            states = jax.nn.relu(nn.Conv(width, (1, 1), kernel_init=HE, name=f"deep_{stage}")(states))
        if self.config.context:
            states += jax.nn.relu(nn.Conv(states.shape[-1], (3, 3), kernel_init=HE, name="context")(states))
        return states.reshape(states.shape[0], -1, states.shape[-1])

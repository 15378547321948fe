"""What makes a grid of features of an image: a small convolutional network, or a map of features computed before.

grid = features + position    one vector for each cell, in reading order

The positions are learned: without them a decoder that sees a weighted mean of cells cannot tell left from right.
"""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float, Num

from attnlab.config.models.image_encoder import ImageEncoder as Config
from attnlab.config.models.image_encoder import SmallCnn

HE = nn.initializers.he_normal()


class ImageEncoder(nn.Module):
    """Images in, features of their cells out."""

    config: Config

    @nn.compact
    def __call__(self, image: Num[Array, "b ..."]) -> Float[Array, "b s c"]:
        """Encode images.

        Args:
            image: of a small_cnn pixels [b h w 3] of 0 … 255; else features [b s f] computed before.
        """
        grid = _Convolutions(self.config)(image) if isinstance(self.config, SmallCnn) else self._mapped(image)
        place = self.param("positions", nn.initializers.normal(0.1), grid.shape[1:])
        return grid + place

    def _mapped(self, features: Array) -> Array:
        mapped = nn.Dense(self.config.width, kernel_init=HE, name="map")(features.astype(jnp.float32))
        return nn.LayerNorm(name="norm")(jax.nn.relu(mapped))


class _Convolutions(nn.Module):
    """A 3×3 convolution of stride 2 and one of 1×1 a stage; small fields of view keep a cell's features local."""

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

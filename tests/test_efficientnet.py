"""EfficientNet-Lite0: features equal those of the PyTorch implementation (a development dependency)."""

import importlib.util

import jax
import numpy as np
import pytest

from attnlab.config.errors import UserError
from attnlab.models import efficientnet

HAS_WEIGHTS = importlib.util.find_spec(efficientnet.PACKAGE) is not None
needs_weights = pytest.mark.skipif(not HAS_WEIGHTS, reason="needs the extra vision")


def test_a_depthwise_convolution_equals_that_of_flax():
    from flax import linen as nn

    states = jax.random.normal(jax.random.key(0), (2, 9, 12, 4))
    for kernel, stride in ((3, 1), (3, 2), (5, 2)):
        ours = efficientnet.Depthwise(kernel, stride)
        variables = ours.init(jax.random.key(1), states)
        theirs = nn.Conv(4, (kernel, kernel), strides=stride, feature_group_count=4)
        np.testing.assert_allclose(ours.apply(variables, states), theirs.apply(variables, states), atol=1e-5)


def test_a_missing_package_is_named_with_the_install_command(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package_of_weights")
    with pytest.raises(UserError, match=r"\[vision\]"):
        efficientnet.weights_file()


@pytest.mark.slow
@needs_weights
@pytest.mark.skipif(importlib.util.find_spec("efficientnet_lite_pytorch") is None, reason="needs PyTorch's")
@pytest.mark.filterwarnings("ignore")
def test_features_equal_those_of_pytorch():
    import torch
    from efficientnet_lite_pytorch import EfficientNet

    path = efficientnet.weights_file()
    theirs = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=str(path)).eval()
    pixels = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3)).astype(np.uint8)
    normalized = (torch.tensor(pixels).permute(0, 3, 1, 2).float() - efficientnet.MEAN) / efficientnet.SCALE
    with torch.no_grad():
        expected = theirs.extract_features(normalized).permute(0, 2, 3, 1).reshape(2, 49, 1280).numpy()
    params = efficientnet.parameters(path)
    result = jax.jit(efficientnet.EfficientNetLite0().apply)({"params": params}, pixels)
    np.testing.assert_allclose(result, expected, atol=1e-4)

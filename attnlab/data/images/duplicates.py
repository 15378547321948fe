"""Warn about images that are in two splits."""

import hashlib
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from attnlab.data.records import Splits


class ImageExample(Protocol):
    """An example with an image."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def name(self) -> str: ...


def warn_about_shared_images(splits: Splits[Any]) -> None:
    """Print to stderr the number of images that are in two splits, byte for byte, which leaks test data."""
    hashes = {split: _hashes(examples) for split, examples in splits.splits().items()}
    for (first, first_images), (second, second_images) in combinations(hashes.items(), 2):
        if shared := [content for content in second_images if content in first_images]:
            count = f"{len(shared):,} of {len(second_images):,} images of {second} {'are' if len(shared) > 1 else 'is'}"
            names = f"{second_images[shared[0]]} of {second} is {first_images[shared[0]]} of {first}"
            print(f"attnlab: {count} also in {first}; {names}", file=sys.stderr)


def _hashes(examples: Sequence[ImageExample]) -> dict[bytes, str]:
    """Return the names of the images of a split by their sha256; examples with the same name share an image."""
    named, hashes = {example.name: example.image for example in examples}, dict[bytes, str]()
    for name, image in named.items():
        content = f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes()
        hashes.setdefault(hashlib.sha256(content).digest(), name)
    return hashes

"""Warn of images that are in two splits."""

import hashlib
import sys
from collections.abc import Sequence
from itertools import combinations
from typing import Any, Protocol

import numpy as np

from attnlab.data.records import Splits


class Named(Protocol):
    """An example with an image."""

    @property
    def image(self) -> np.ndarray: ...

    @property
    def name(self) -> str: ...


def warn_of_shared_images(splits: Splits[Any]) -> None:
    """Print to stderr how many images are, byte for byte, in two splits, which leaks test data into training."""
    hashes = {split: _hashes(examples) for split, examples in splits.splits().items()}
    for (one, first), (other, second) in combinations(hashes.items(), 2):
        if both := [content for content in second if content in first]:
            count = f"{len(both):,} of {len(second):,} images of {other} {'are' if len(both) > 1 else 'is'}"
            names = f"{second[both[0]]} of {other} is {first[both[0]]} of {one}"
            print(f"attnlab: {count} also in {one}; {names}", file=sys.stderr)


def _hashes(examples: Sequence[Named]) -> dict[bytes, str]:
    """Return the images of a split, sha256 -> name; examples of the same name share an image."""
    named, hashes = {example.name: example.image for example in examples}, dict[bytes, str]()
    for name, image in named.items():
        content = f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes()
        hashes.setdefault(hashlib.sha256(content).digest(), name)
    return hashes

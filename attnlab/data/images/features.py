"""Cache features of images on disk: one file per image, named by a hash of everything its features depend on.

An interrupted computation continues where it stopped, datasets with common images share their features, and no file
becomes invalid when an image, the weights or the size change. The directory can be deleted at any time.
"""

import hashlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from attnlab.config.errors import UserError
from attnlab.data.images.pixels import READING, pixels
from attnlab.system.cache_directory import VARIABLE, cache_directory

ROWS = 32
"""Number of images in a batch."""
REPORT_EVERY = 20.0
"""Seconds between two lines of progress."""


@dataclass(frozen=True)
class Stored(Sequence[np.ndarray]):
    """The features of images, each read from its file on access."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        array = _load(self.paths[index])
        if array is None:
            raise UserError(f"{self.paths[index]}: missing or damaged; run the command again to compute it again")
        return array


def features(
    images: Sequence[np.ndarray],
    size: int,
    compute: Callable[[np.ndarray], np.ndarray],
    identity: str,
    names: Sequence[str] = (),
) -> Stored:
    """Return the features of images; compute and store those that are not in the cache.

    Args:
        images: uint8 pixels [height width 3], or the bytes [n] of an image file.
        size: height and width in pixels at which the features are computed.
        compute: function from pixels [b h w 3] to features [b s f].
        identity: identity of `compute`, e.g. the hash of its weights; different features have different identities.
        names: names of the images, for errors.
    """
    folder = cache_directory() / "features" / hashlib.sha256(f"{identity} {size} {READING}".encode()).hexdigest()[:16]
    keys = [_key(image) for image in images]
    paths = tuple(folder / key[:2] / f"{key}.npy" for key in keys)
    missing = {path: index for index, path in enumerate(paths) if _load(path) is None}
    done, start, reported = 0, time.monotonic(), time.monotonic()
    for chunk in _chunks(list(missing.items()), ROWS):
        batch = [pixels(images[index], size, names[index] if names else f"image {index}") for _, index in chunk]
        padded = np.stack([*batch, *[batch[0]] * (ROWS - len(batch))])
        for (path, _), array in zip(chunk, compute(padded), strict=False):
            _save(path, array)
        done += len(chunk)
        if time.monotonic() - reported > REPORT_EVERY:
            reported = time.monotonic()
            rate = done / (reported - start)
            remaining = (len(missing) - done) / rate
            progress = f"{done:,} of {len(missing):,} images, {rate:.0f}/s, {remaining:.0f} s left"
            print(f"features: {progress}", file=sys.stderr)
    return Stored(paths)


def _key(image: np.ndarray) -> str:
    return hashlib.sha256(f"{image.shape} ".encode() + np.ascontiguousarray(image).tobytes()).hexdigest()


def _chunks(items: list[tuple[Path, int]], size: int) -> list[list[tuple[Path, int]]]:
    return [items[i : i + size] for i in range(0, len(items), size)]


def _load(path: Path) -> np.ndarray | None:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None


def _save(path: Path, array: np.ndarray) -> None:
    """Write a file atomically, also if several processes write it at the same time."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.save(file, array)
        os.replace(file.name, path)
    except OSError as error:
        raise UserError(
            f"{path.parent}: features cannot be stored here ({error.strerror}); set {VARIABLE} to another directory"
        ) from error

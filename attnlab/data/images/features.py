"""Features of images that are computed once: a file an image, named by the hash of all that its features depend on.

So a training that stops goes on where it was, two data sets that share images share their features, and nothing has to
be thrown away when an image, the weights or the size change. Delete the directory whenever you like.
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

VARIABLE = "ATTNLAB_CACHE"
"""Environment variable that names the cache directory."""
ROWS = 32
"""Images computed at a time."""
REPORT_EVERY = 20.0
"""Seconds between two lines of progress."""


def directory() -> Path:
    """Say where features are kept: $ATTNLAB_CACHE, else attnlab in $XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnlab"


@dataclass(frozen=True)
class Stored(Sequence[np.ndarray]):
    """The features of images in order, each read from its file when it is asked for."""

    paths: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = _load(self.paths[index])
        if found is None:
            raise UserError(f"{self.paths[index]}: is gone or damaged; start again, and it is computed again")
        return found


def features(
    images: Sequence[np.ndarray],
    size: int,
    compute: Callable[[np.ndarray], np.ndarray],
    identity: str,
    names: Sequence[str] = (),
) -> Stored:
    """Compute the features of all images that are not known yet, and keep them.

    Args:
        images: as of `Captioned`.
        size: pixels a side at which they are computed.
        compute: pixels [b h w 3] -> features [b s f].
        identity: of what computes them, e.g. the hash of its weights; other features have another.
        names: of the images, for errors.
    """
    folder = directory() / "features" / hashlib.sha256(f"{identity} {size} {READING}".encode()).hexdigest()[:16]
    keys = [_key(image) for image in images]
    paths = tuple(folder / key[:2] / f"{key}.npy" for key in keys)
    missing = {path: index for index, path in enumerate(paths) if _load(path) is None}
    done, start, reported = 0, time.monotonic(), time.monotonic()
    for chunk in _chunks(list(missing.items()), ROWS):
        batch = [pixels(images[index], size, names[index] if names else f"image {index}") for _, index in chunk]
        filled = np.stack([*batch, *[batch[0]] * (ROWS - len(batch))])
        for (path, _), found in zip(chunk, compute(filled), strict=False):
            _save(path, found)
        done += len(chunk)
        if time.monotonic() - reported > REPORT_EVERY:
            reported = time.monotonic()
            rate = done / (reported - start)
            left = (len(missing) - done) / rate
            print(f"features: {done:,} of {len(missing):,} images, {rate:.0f}/s, {left:.0f} s to go", file=sys.stderr)
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


def _save(path: Path, found: np.ndarray) -> None:
    """Write a file that is whole or not there, also when two write it at once."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".tmp", delete=False) as file:
            np.save(file, found)
        os.replace(file.name, path)
    except OSError as error:
        raise UserError(
            f"{path.parent}: features cannot be kept here ({error.strerror}); set {VARIABLE} to a directory with room"
        ) from error

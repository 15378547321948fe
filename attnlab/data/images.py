"""Images with what is said of them, and how an image becomes pixels."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from attnlab.config.errors import UserError

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels, right and bottom exclusive."""
LARGEST = 50_000_000
"""Pixels of an image beyond which it is refused unread (a small file can hold endless ones)."""


@dataclass(frozen=True, eq=False)
class Captioned:
    """An image and its captions."""

    image: np.ndarray
    """uint8: the pixels [height width 3], or [n] the bytes of an image file."""
    captions: tuple[str, ...]
    regions: tuple[Box | None, ...] | None = None
    """For each word of the first caption where in the image it is true; None for a word of no place (a, of, left).
    None altogether where no gold regions are known."""
    name: str = ""


@dataclass(frozen=True, eq=False)
class Asked:
    """An image, a question about it, and the answer."""

    image: np.ndarray
    """As of `Captioned`."""
    question: str
    answer: str
    name: str = ""


def as_bytes(content: bytes) -> np.ndarray:
    """Hold the bytes of an image file as an array.

    >>> as_bytes(b"ab").tolist()
    [97, 98]
    """
    return np.frombuffer(content, np.uint8)


def read_image(path: Path, size: int) -> np.ndarray:
    """Read an image file into `size` × `size` pixels; see `pixels`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error
    return pixels(as_bytes(content), size, str(path))


def pixels(image: np.ndarray, size: int, where: str = "image") -> np.ndarray:
    """Decode an image and scale it, bilinearly, to a square, whatever its sides were.

    Args:
        image: as of `Captioned`.
        size: pixels a side.
        where: what an error calls it.

    Returns: [size size 3] uint8. Grey and palette images become RGB; what is transparent becomes opaque.

    >>> pixels(np.full((2, 4, 3), 7, np.uint8), 3).shape
    (3, 3, 3)
    """
    if image.ndim == 3 and image.shape == (size, size, 3):
        return image
    try:
        found = Image.fromarray(image) if image.ndim == 3 else Image.open(io.BytesIO(image.tobytes()))
        if found.width * found.height > LARGEST:
            raise UserError(f"{where}: {found.width}×{found.height} pixels; at most {LARGEST:,} are read")
        found = found.convert("RGB")
        if found.size != (size, size):
            found = found.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(found)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: not an image that Pillow can read, such as JPEG or PNG") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UserError(f"{where}: a damaged image ({' '.join(str(error).split())[:200]})") from error

"""Images with what is said of them, and how an image becomes pixels."""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer
from attnlab.data.images.gray_levels import eight_bits

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels, right and bottom exclusive."""
READING = 2
"""Grows when `pixels` comes to read some images otherwise, so that features of them are computed anew."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> what turns the pixels upright; 1 is upright."""
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

    Returns: [size size 3] uint8, upright as the EXIF orientation says. Gray and palette images become RGB, gray levels
        of more than 8 bits are scaled (`gray_levels.eight_bits`); what is transparent becomes opaque.

    >>> pixels(np.full((2, 4, 3), 7, np.uint8), 3).shape
    (3, 3, 3)
    """
    if image.ndim == 3 and image.shape == (size, size, 3):
        return image
    try:
        refuse_pointer(image[:100].tobytes() if image.ndim == 1 else b"", where)
        found = Image.fromarray(image) if image.ndim == 3 else Image.open(io.BytesIO(image.tobytes()))
        if found.width * found.height > LARGEST:
            raise UserError(f"{where}: {found.width}×{found.height} pixels; at most {LARGEST:,} are read")
        found = _upright(eight_bits(found, where), found).convert("RGB")
        if found.size != (size, size):
            found = found.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(found)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: not an image that Pillow can read, such as JPEG or PNG") from error
    except Exception as error:  # Pillow raises many kinds for damaged files
        raise UserError(f"{where}: a damaged image ({' '.join(str(error).split())[:200]})") from error


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Turn an image as the EXIF orientation of its file says; one that cannot be read is none."""
    source.load()  # of TIFF Pillow turns the pixels itself, and takes the tag away
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF
            orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many kinds for damaged EXIF
        return image
    turned = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turned is None else image.transpose(turned)


def spoken(texts: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the captions of an image; refuse none at all, and one without a letter or digit.

    >>> spoken(["A dog ."], "captions.jsonl:1")
    ('A dog .',)
    """
    if not texts:
        raise UserError(f"{where}: the image has no caption")
    for number, text in enumerate(texts, start=1):
        if not any(map(str.isalnum, text)):
            raise UserError(f"{where}: caption {number} of {len(texts)} has no word ({text[:20]!r}); remove it")
    return tuple(texts)

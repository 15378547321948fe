"""Decode images into pixels of a fixed size."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer
from attnlab.data.images.gray_levels import eight_bits

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of an image in pixels, right and bottom exclusive."""
READING = 2
"""Version of `pixels`: increased when images are decoded differently, so that cached features are recomputed."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""EXIF orientation -> the transpose that turns the pixels upright; 1 is upright."""
LARGEST = 50_000_000
"""Largest number of pixels of an image; a larger one is refused before it is decoded (decompression bombs)."""


def as_bytes(content: bytes) -> np.ndarray:
    """Return the bytes of an image file as a uint8 array.

    >>> as_bytes(b"ab").tolist()
    [97, 98]
    """
    return np.frombuffer(content, np.uint8)


def read_image(path: Path, size: int) -> np.ndarray:
    """Read an image file and decode it to `size` × `size` pixels, as `pixels` does."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error
    return pixels(as_bytes(content), size, str(path))


def pixels(image: np.ndarray, size: int, where: str = "image") -> np.ndarray:
    """Decode an image and scale it, bilinearly, to a square; the aspect ratio is not kept.

    Args:
        image: uint8, the pixels [height width 3], or [n] the bytes of an image file.
        size: pixels a side.
        where: names the image in an error.

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
    """Rotate an image by the EXIF orientation of its file; EXIF that cannot be read is ignored."""
    source.load()  # of TIFF Pillow turns the pixels itself, and takes the tag away
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of damaged EXIF
            orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises many kinds for damaged EXIF
        return image
    turned = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if turned is None else image.transpose(turned)

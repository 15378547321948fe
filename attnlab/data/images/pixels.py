"""Decode images to pixels of a fixed size."""

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer
from attnlab.data.images.gray_levels import eight_bits

Box = tuple[int, int, int, int]
"""Left, top, right and bottom (both exclusive) of a part of an image, in pixels."""
READING = 2
"""Version of `pixels`: increased when images are decoded differently, so that cached features are recomputed."""
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
"""The transpose that turns an image upright, by its EXIF orientation; 1 is upright."""
LARGEST = 50_000_000
"""Largest number of pixels of an image; larger ones are refused before decoding (decompression bombs)."""


def as_bytes(content: bytes) -> np.ndarray:
    """Return the bytes of an image file as a uint8 array.

    >>> as_bytes(b"ab").tolist()
    [97, 98]
    """
    return np.frombuffer(content, np.uint8)


def read_image(path: Path, size: int) -> np.ndarray:
    """Read an image file and decode it to `size` × `size` pixels; see `pixels`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected an image file") from error
    return pixels(as_bytes(content), size, str(path))


def pixels(image: np.ndarray, size: int, where: str = "image") -> np.ndarray:
    """Decode an image and resize it bilinearly to a square, without keeping the aspect ratio.

    Args:
        image: uint8 pixels [height width 3], or the bytes [n] of an image file.
        size: height and width of the result in pixels.
        where: name of the image for the error.

    Returns: [size size 3] uint8, rotated by the EXIF orientation. Gray and palette images become RGB, gray levels of
        more than 8 bits are scaled (`gray_levels.eight_bits`), and transparency is dropped.

    >>> pixels(np.full((2, 4, 3), 7, np.uint8), 3).shape
    (3, 3, 3)
    """
    if image.ndim == 3 and image.shape == (size, size, 3):
        return image
    try:
        refuse_pointer(image[:100].tobytes() if image.ndim == 1 else b"", where)
        source = Image.fromarray(image) if image.ndim == 3 else Image.open(io.BytesIO(image.tobytes()))
        if source.width * source.height > LARGEST:
            raise UserError(f"{where}: {source.width}×{source.height} pixels; the limit is {LARGEST:,} pixels")
        decoded = _upright(eight_bits(source, where), source).convert("RGB")
        if decoded.size != (size, size):
            decoded = decoded.resize((size, size), Image.Resampling.BILINEAR)
        return np.asarray(decoded)
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{where}: not an image that Pillow can read, such as JPEG or PNG") from error
    except Exception as error:  # Pillow raises various exceptions for damaged files
        raise UserError(f"{where}: damaged image ({' '.join(str(error).split())[:200]})") from error


def _upright(image: Image.Image, source: Image.Image) -> Image.Image:
    """Return an image rotated by the EXIF orientation of its file; invalid EXIF is ignored."""
    source.load()  # for TIFF, Pillow rotates the pixels and removes the tag
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about damaged EXIF
            orientation = source.getexif().get(ExifTags.Base.Orientation)
    except Exception:  # Pillow raises various exceptions for damaged EXIF
        return image
    transpose = UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if transpose is None else image.transpose(transpose)

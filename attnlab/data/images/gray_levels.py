"""Convert images of one channel to 8 bits by scaling; Pillow's own conversion clips values above 255."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from attnlab.config.errors import UserError

SIGNED, WHITE_IS_ZERO = 2, 0
"""Values of the tags SampleFormat and PhotometricInterpretation of TIFF."""
_UNCLEAR = 16
"""A maximum between 1 and this could be in either range, 0 to 1 or 0 to 255, so it is refused."""


def eight_bits(image: Image.Image, where: str = "image") -> Image.Image:
    """Return an image with gray levels scaled to 0 to 255; an image of 8 bits is returned unchanged.

    level = value / white · 255, rounded

    white is the largest value of the format: 65,535 for 16 bits, 4,095 for a TIFF of 12 bits. A TIFF of 32 bits does
    not define white: for integers it is the smallest of 255, 65,535 and the largest 32-bit number that no pixel
    exceeds, for floats the smallest of 1, 255 and 65,535.

    Args:
        image: an image of any mode.
        where: name of the image for the error.

    Raises:
        UserError: a level is negative, not finite, or above all of these values.

    >>> white = Image.fromarray(np.array([[0, 32896, 65535]], np.uint16))
    >>> np.asarray(eight_bits(white)).tolist()
    [[0, 128, 255]]
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;"):
        return image
    tags = getattr(image, "tag_v2", {})
    bits, signed = _first(tags, BITSPERSAMPLE, 0), _first(tags, SAMPLEFORMAT, 1) == SIGNED
    values = np.asarray(image)
    if image.mode == "I" and bits == 32 and not signed:
        values = values.view(np.uint32)  # Pillow keeps the bits but treats them as signed
    low, high = float(values.min()), float(values.max())
    white = _white(image, bits, signed, high)
    if not (0 <= low <= high <= white):
        raise UserError(
            f"{where}: gray levels from {low:g} to {high:g} in {'floats' if image.mode == 'F' else 'integers'}; "
            "expected 0 to 1, 0 to 255 or 0 to 65,535; save it with 8 or 16 bits"
        )
    levels = np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8)
    return Image.fromarray(255 - levels if _first(tags, PHOTOMETRIC_INTERPRETATION, 1) == WHITE_IS_ZERO else levels)


def _white(image: Image.Image, bits: int, signed: bool, high: float) -> float:
    """Return the value of white; −1 if it is unknown."""
    if image.mode == "F":
        known = [1.0] if high <= 1 else [255.0, 65535.0] if high >= _UNCLEAR else []
        return next((white for white in known if high <= white), -1.0)
    if 0 < bits < 32:
        return 2.0 ** (bits - signed) - 1
    if image.mode != "I" or image.format in (
        "PNG",
        "PPM",
    ):  # older versions of Pillow use I for 16 bits; PPM is scaled to 16 bits
        return 65535.0
    return next(white for white in (255.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1) if high <= white)


def _first(tags: Mapping[int, Any], tag: int, default: int) -> int:
    """Return the first value of a TIFF tag."""
    value = tags.get(tag, default)
    return int(value[0] if isinstance(value, tuple) else value)

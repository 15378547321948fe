"""Images of one channel with more than 8 bits, as 8 bits: Pillow's own conversion cuts off all above 255."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, SAMPLEFORMAT

from attnlab.config.errors import UserError

SIGNED, WHITE_IS_ZERO = 2, 0
"""Values of the tags SampleFormat and PhotometricInterpretation of TIFF."""
_UNCLEAR = 16
"""A largest float between 1 and this is neither a share of white nor a level of 8 bits."""


def eight_bits(image: Image.Image, where: str = "image") -> Image.Image:
    """Scale gray levels to 0 to 255; leave an image of 8 bits as it is.

    level = value / white · 255, rounded

    white is the largest value of the format: 65,535 of 16 bits, 4,095 of a TIFF of 12. A TIFF of 32 bits names no
    white: there it is the smallest of 255, 65,535 and the largest number of 32 bits that no pixel exceeds, and of
    floats the smallest of 1, 255 and 65,535.

    Args:
        image: of any mode.
        where: what an error calls it.

    Raises:
        UserError: a level is negative, not finite, or beyond any of these.

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
        values = values.view(np.uint32)  # Pillow keeps the bits, and calls them signed
    low, high = float(values.min()), float(values.max())
    white = _white(image, bits, signed, high)
    if not (0 <= low <= high <= white):
        raise UserError(
            f"{where}: gray levels from {low:g} to {high:g} in {'floats' if image.mode == 'F' else 'whole numbers'}; "
            "expected 0 to 1, to 255 or to 65,535; save it with 8 or 16 bits"
        )
    levels = np.rint(values.astype(np.float64) * (255 / white)).astype(np.uint8)
    return Image.fromarray(255 - levels if _first(tags, PHOTOMETRIC_INTERPRETATION, 1) == WHITE_IS_ZERO else levels)


def _white(image: Image.Image, bits: int, signed: bool, high: float) -> float:
    """The value that is white; −1 where none is known."""
    if image.mode == "F":
        known = [1.0] if high <= 1 else [255.0, 65535.0] if high >= _UNCLEAR else []
        return next((white for white in known if high <= white), -1.0)
    if 0 < bits < 32:
        return 2.0 ** (bits - signed) - 1
    if image.mode != "I" or image.format in ("PNG", "PPM"):  # older Pillows call 16 bits I; PPM is scaled to 16
        return 65535.0
    return next(white for white in (255.0, 65535.0, 2.0**31 - 1, 2.0**32 - 1) if high <= white)


def _first(tags: Mapping[int, Any], tag: int, default: int) -> int:
    """The first value of a tag of TIFF."""
    found = tags.get(tag, default)
    return int(found[0] if isinstance(found, tuple) else found)

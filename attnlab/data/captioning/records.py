"""Examples of captioning: images with captions."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from attnlab.config.errors import UserError
from attnlab.data.images.pixels import Box
from attnlab.data.text.letters import composed


@dataclass(frozen=True, eq=False)
class CaptionedImage:
    """An image and its reference captions."""

    image: np.ndarray
    """uint8 pixels [height width 3], or the bytes [n] of an image file."""
    captions: tuple[str, ...]
    regions: tuple[Box | None, ...] | None = None
    """Gold region of each word of the first caption, None for words without a region (a, of, left); None if there are
    no gold regions."""
    name: str = ""


def checked_captions(texts: Sequence[str], where: str) -> tuple[str, ...]:
    """Return the captions of an image with composed characters (NFC).

    Raises:
        UserError: there are no captions, or one of them has no letter or digit.

    >>> checked_captions(["A dog ."], "captions.jsonl:1")
    ('A dog .',)
    """
    if not texts:
        raise UserError(f"{where}: the image has no caption")
    for number, text in enumerate(texts, start=1):
        if not any(map(str.isalnum, text)):
            raise UserError(f"{where}: caption {number} of {len(texts)} has no word ({text[:20]!r}); remove it")
    return tuple(map(composed, texts))

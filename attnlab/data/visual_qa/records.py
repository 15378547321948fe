"""Examples of visual question answering: questions about images."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class ImageQuestion:
    """An image, a question about it, and the answer."""

    image: np.ndarray
    """uint8 pixels [height width 3], or the bytes [n] of an image file."""
    question: str
    answer: str
    name: str = ""

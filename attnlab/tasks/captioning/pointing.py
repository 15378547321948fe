"""Attention of generated words against gold regions of the image: the pointing game, and the weight on the region."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Shaped

from attnlab.data.images.pixels import Box
from attnlab.data.text.tokenizer import Encoding


def pointing(
    weights: np.ndarray, regions: Sequence[Box | None], grid: tuple[int, int], image: tuple[int, int]
) -> tuple[list[bool], list[float]]:
    """Compare the attention of each word that has a gold region with the region.

    Args:
        weights: [words cells], cells in row-major order.
        regions: the region of each word, in pixels; None for words without one, which are skipped.
        grid: rows and columns of cells.
        image: height and width in pixels.

    Returns: for each word with a region, whether the center of the cell with the largest weight lies in the region (the
        pointing game, Zhang et al. 2016), and the share of the weight on cells whose centers lie in it. Both are zero
        for a word without any weight.

    >>> pointing(np.array([[0.125, 0.5, 0.25, 0.125]]), [(32, 0, 64, 32)], (2, 2), (64, 64))
    ([True], [0.5])
    """
    hits, masses = [], []
    for row, region in zip(weights, regions, strict=False):
        if region is None:
            continue
        cells = cells_inside(region, grid, image)
        total = float(row.sum())
        hits.append(bool(cells[int(np.argmax(row))]) and total > 0)
        masses.append(float(row[cells].sum()) / total if total > 0 else 0.0)
    return hits, masses


def pointing_of_center(regions: Sequence[Box | None], image: tuple[int, int]) -> list[bool]:
    """Return for each word with a region whether the center of the image lies in it: the baseline of the pointing game.

    Args:
        regions: the region of each word, in pixels; None for words without one, which are skipped.
        image: height and width in pixels.

    Reference: Zhang et al. 2016, section 4.1.

    >>> pointing_of_center([(0, 0, 40, 40), (32, 0, 64, 32), None], (64, 64))
    [True, False]
    """
    y, x = image[0] / 2, image[1] / 2
    return [
        left <= x < right and top <= y < bottom
        for left, top, right, bottom in (region for region in regions if region is not None)
    ]


def pointing_rate(rows: Shaped[np.ndarray, "n 2"]) -> float:
    """Return the percentage of words that point at their region, from [hits, words] of each image."""
    return 100.0 * float(rows[:, 0].sum() / rows[:, 1].sum())


def cells_inside(region: Box, grid: tuple[int, int], image: tuple[int, int]) -> np.ndarray:
    """Return which cells, in row-major order, have their center in a region.

    >>> cells_inside((32, 0, 64, 32), (2, 2), (64, 64)).tolist()
    [False, True, False, False]
    """
    left, top, right, bottom = region
    y = (np.arange(grid[0]) + 0.5) * image[0] / grid[0]
    x = (np.arange(grid[1]) + 0.5) * image[1] / grid[1]
    return (((y >= top) & (y < bottom))[:, None] & ((x >= left) & (x < right))[None, :]).ravel()


def token_regions(regions: Sequence[Box | None], encoding: Encoding) -> list[Box | None]:
    """Return the region of the word that each token belongs to; words are separated by single spaces."""
    ends = np.cumsum([len(word) + 1 for word in encoding.text.split(" ")])
    return [regions[int(np.searchsorted(ends, start, side="right"))] for start, _ in encoding.offsets]


def token_cells(regions: Sequence[Box | None], encoding: Encoding, side: int, size: int) -> np.ndarray:
    """Return which cells lie in the gold region of each token, [tokens cells]; none for a token without a region.

    Args:
        regions: the region of each word, in pixels.
        encoding: the encoded caption.
        side: rows and columns of cells.
        size: height and width of the image in pixels.
    """
    nowhere = np.zeros(side**2, bool)
    return np.array([
        nowhere if region is None else cells_inside(region, (side, side), (size, size))
        for region in token_regions(regions, encoding)
    ])  # fmt: skip

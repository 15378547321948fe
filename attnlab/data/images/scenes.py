"""Generate scenes: colored shapes on a 4×4 grid, described in reading order, with the gold region of each word.

    scene    = object {relation object}
    object   = "a" size color shape
    relation = "left of" (the next object is in the same row) | "above" (it is in a lower row)

The caption is a function of the scene, and belongs to the same split for all seeds: no test image has the caption of a
training image, but each of its words occurs in training.
"""

import hashlib
import random
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from attnlab.data.images.pixels import Box
from attnlab.system.cores import cores

SIDE, CELL = 4, 16
"""Cells per side of the grid, and pixels per side of a cell."""
COLORS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 80, 200), "yellow": (240, 210, 40),
    "purple": (150, 60, 180), "cyan": (60, 200, 210),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 4.5, "large": 7.5}
"""Half the width of an object in pixels."""
_ATTRIBUTES = (tuple(SIZES), tuple(COLORS), SHAPES)
_BATCH = 256
"""Number of images that are drawn at once."""
_SPLITS = ("test", "dev") + ("train",) * 8


class Thing(NamedTuple):
    """An object of a scene; cells of the grid are numbered in reading order from 0."""

    place: int
    size: str
    color: str
    shape: str

    @property
    def row(self) -> int:
        """Return the row of the grid, from the top."""
        return self.place // SIDE

    @property
    def box(self) -> Box:
        """Return the pixels of the object's cell."""
        left, top = CELL * (self.place % SIDE), CELL * self.row
        return (left, top, left + CELL, top + CELL)

    def __str__(self) -> str:
        return f"a {self.size} {self.color} {self.shape}"


Scene = tuple[Thing, ...]
"""Objects in reading order."""


class Painting(NamedTuple):
    """What an image of a scene needs beside the scene: noise, and a position and a brightness for each object."""

    scene: Scene
    noise_seed: int
    gray: float
    """Mean of the background."""
    details: list[tuple[float, float, float]]
    """Horizontal and vertical center of each object in its cell, and the factor of its color."""


def split_of(text: str) -> str:
    """Return the split of a caption, determined by its hash: a tenth each for dev and test.

    >>> split_of("a large red circle")
    'train'
    """
    digest = hashlib.sha256(text.encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def caption(scene: Scene) -> str:
    """Return the caption of a scene.

    >>> caption((Thing(0, "small", "red", "cross"), Thing(3, "large", "blue", "circle")))
    'a small red cross left of a large blue circle'
    """
    text = str(scene[0])
    for before, thing in pairwise(scene):
        text += f" left of {thing}" if before.row == thing.row else f" above {thing}"
    return text


def regions(scene: Scene) -> tuple[Box | None, ...]:
    """Return the box of the object of each word of the caption, or None for words such as a and above."""
    boxes = [None, *[scene[0].box] * 3]
    for before, thing in pairwise(scene):
        boxes += [None] * (3 if before.row == thing.row else 2) + [thing.box] * 3
    return tuple(boxes)


def sample(split: str, max_objects: int, rng: random.Random) -> Scene:
    """Sample a scene with at most `max_objects` objects, whose caption belongs to the split."""
    while True:
        places = sorted(rng.sample(range(SIDE * SIDE), rng.randint(1, max_objects)))
        scene = tuple([Thing(place, *map(rng.choice, _ATTRIBUTES)) for place in places])
        if split_of(caption(scene)) == split:
            return scene


def sample_painting(scene: Scene, rng: random.Random) -> Painting:
    """Sample how a scene is drawn: each object at a random position in its cell, on noisy gray."""
    noise_seed, gray, details = rng.getrandbits(64), rng.uniform(60.0, 200.0), []
    for thing in scene:
        room = CELL / 2 - SIZES[thing.size]
        x, y = CELL / 2 + rng.uniform(-room, room), CELL / 2 + rng.uniform(-room, room)
        details.append((x, y, rng.uniform(0.85, 1.0)))
    return Painting(scene, noise_seed, gray, details)


def draw(paintings: Sequence[Painting]) -> list[np.ndarray]:
    """Return an image of each painting, [64 64 3] uint8."""
    batches = [paintings[start : start + _BATCH] for start in range(0, len(paintings), _BATCH)]
    with ThreadPoolExecutor(cores()) as pool:  # NumPy releases the interpreter lock
        return [image for images in pool.map(_draw_batch, batches) for image in images]


def _draw_batch(paintings: Sequence[Painting]) -> np.ndarray:
    """Return images [n 64 64 3]; 15 standard deviations of noise are between the background and black or white."""
    background = np.empty((len(paintings), SIDE * CELL, SIDE * CELL), np.uint8)
    for image, painting in zip(background, paintings, strict=True):
        image[:] = np.random.default_rng(painting.noise_seed).normal(painting.gray, 4.0, image.shape)
    images = np.stack([background] * 3, axis=-1)
    for shape in SHAPES:
        _draw_objects(images, paintings, shape)
    return images


def _draw_objects(images: np.ndarray, paintings: Sequence[Painting], shape: str) -> None:
    """Draw all objects of a shape."""
    objects = [
        (index, thing, detail)
        for index, painting in enumerate(paintings)
        for thing, detail in zip(painting.scene, painting.details, strict=True)
        if thing.shape == shape
    ]
    if not objects:
        return
    index, things, details = zip(*objects, strict=True)
    row, column = np.divmod([thing.place for thing in things], SIDE)
    half = np.array([SIZES[thing.size] for thing in things])
    x, y, brightness = np.array(details).T
    inside = _inside(shape, half[:, None, None], x[:, None, None], y[:, None, None])
    color = (np.array([COLORS[thing.color] for thing in things]) * brightness[:, None]).astype(np.uint8)
    cells = images.reshape(-1, SIDE, CELL, SIDE, CELL, 3)
    where = (index, row, slice(None), column)
    cells[where] = np.where(inside[..., None], color[:, None, None], cells[where])


def _inside(shape: str, half: np.ndarray | float, x: np.ndarray | float, y: np.ndarray | float) -> np.ndarray:
    """Return which pixels of a cell [n 16 16] have their center in the shape around (x, y); arguments are [n 1 1]."""
    centers = np.arange(CELL) + 0.5
    dx, dy = np.abs(centers - x), centers[:, None] - y
    match shape:
        case "circle":
            return dx**2 + dy**2 <= half**2
        case "square":
            return np.maximum(dx, np.abs(dy)) <= half * 0.9
        case "triangle":
            return (np.abs(dy) <= half) & (dx <= (dy + half) / 2)
        case _:
            arm = half * 0.35
            return (np.maximum(dx, np.abs(dy)) <= half) & (np.minimum(dx, np.abs(dy)) <= arm)

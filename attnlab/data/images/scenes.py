"""Generate scenes: colored shapes on a 4×4 grid, described in reading order, with the gold region of each word.

    scene    = object {relation object}
    object   = "a" size color shape
    relation = "left of" (the next object is in the same row) | "above" (it is in a lower row)

The caption is a function of the scene, and belongs to the same split for all seeds: no test image has the caption of a
training image, but each of its words occurs in training.
"""

import hashlib
import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from attnlab.data.images.pixels import Box

SIDE, CELL = 4, 16
"""Cells per side of the grid, and pixels per side of a cell."""
COLORS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 80, 200), "yellow": (240, 210, 40),
    "purple": (150, 60, 180), "cyan": (60, 200, 210),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 4.5, "large": 7.5}
"""Half the width of an object in pixels."""
_SPLITS = ("test", "dev") + ("train",) * 8


@dataclass(frozen=True)
class Thing:
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

    def words(self) -> tuple[str, ...]:
        """Return the words that describe the object."""
        return ("a", self.size, self.color, self.shape)


Scene = tuple[Thing, ...]
"""Objects in reading order."""


def split_of(text: str) -> str:
    """Return the split of a caption, determined by its hash: a tenth each for dev and test.

    >>> split_of("a large red circle")
    'train'
    """
    digest = hashlib.sha256(text.encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def caption(scene: Scene) -> tuple[str, tuple[Box | None, ...]]:
    """Return the caption of a scene, and for each of its words the box of its object or None.

    >>> caption((Thing(0, "small", "red", "cross"), Thing(3, "large", "blue", "circle")))[0]
    'a small red cross left of a large blue circle'
    """
    words, boxes = list(scene[0].words()), [None, *[scene[0].box] * 3]
    for before, thing in pairwise(scene):
        relation = ("left", "of") if before.row == thing.row else ("above",)
        words += [*relation, *thing.words()]
        boxes += [*[None] * len(relation), None, *[thing.box] * 3]
    return " ".join(words), tuple(boxes)


def draw(scene: Scene, rng: random.Random) -> np.ndarray:
    """Return an image of a scene, [64 64 3] uint8: each object at a random position in its cell, on noisy gray."""
    noise = np.random.default_rng(rng.getrandbits(64))
    gray = noise.normal(rng.uniform(60.0, 200.0), 4.0, (SIDE * CELL, SIDE * CELL, 1))
    image = np.repeat(gray, 3, axis=2)
    for thing in scene:
        half = SIZES[thing.size]
        room = CELL / 2 - half
        x, y = (CELL / 2 + rng.uniform(-room, room) for _ in range(2))
        inside = _inside(thing.shape, half, x, y)
        left, top, right, bottom = thing.box
        shade = np.asarray(COLORS[thing.color]) * rng.uniform(0.85, 1.0)
        image[top:bottom, left:right][inside] = shade
    return np.clip(image, 0, 255).astype(np.uint8)


def sample(split: str, max_objects: int, rng: random.Random) -> Scene:
    """Sample a scene with at most `max_objects` objects, whose caption belongs to the split."""
    while True:
        places = sorted(rng.sample(range(SIDE * SIDE), rng.randint(1, max_objects)))
        things = (tuple(rng.choice(list(part)) for part in (SIZES, COLORS, SHAPES)) for _ in places)
        scene = tuple(Thing(place, *thing) for place, thing in zip(places, things, strict=True))
        if split_of(caption(scene)[0]) == split:
            return scene


def _inside(shape: str, half: float, x: float, y: float) -> np.ndarray:
    """Return which pixels of a cell [16 16] have their center in the shape around (x, y)."""
    down, right = np.mgrid[0:CELL, 0:CELL] + 0.5
    dx, dy = np.abs(right - x), down - y
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

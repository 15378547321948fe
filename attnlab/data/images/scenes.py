"""The embedded images: coloured shapes on a 4×4 grid, described in reading order, with the place of every word.

    scene    = object {relation object}
    object   = "a" size colour shape
    relation = "left of" (the next object stands in the same row) | "above" (in a lower one)

The caption is a function of the scene. It belongs to one split only, whatever the seed: what is said of a test image
is said of no training image, though each of its words is.
"""

import hashlib
import random
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from attnlab.config.captioning import Scenes
from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.images.pixels import Asked, Box, Captioned
from attnlab.data.records import Splits

SIDE, CELL = 4, 16
"""Places a side of the grid, and pixels a side of a place."""
COLORS = {
    "red": (214, 39, 40), "green": (44, 160, 44), "blue": (31, 80, 200), "yellow": (240, 210, 40),
    "purple": (150, 60, 180), "cyan": (60, 200, 210),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
SIZES = {"small": 4.5, "large": 7.5}
"""Half the side of an object in pixels."""
NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
_SPLITS = ("test", "dev") + ("train",) * 8


@dataclass(frozen=True)
class Thing:
    """An object of a scene; places are numbered in reading order from 0."""

    place: int
    size: str
    color: str
    shape: str

    @property
    def row(self) -> int:
        """Row of the grid, from the top."""
        return self.place // SIDE

    @property
    def box(self) -> Box:
        """The place's pixels."""
        left, top = CELL * (self.place % SIDE), CELL * self.row
        return (left, top, left + CELL, top + CELL)

    def words(self) -> tuple[str, ...]:
        """Describe it."""
        return ("a", self.size, self.color, self.shape)


Scene = tuple[Thing, ...]
"""Objects in reading order."""


def split_of(text: str) -> str:
    """Tell the one split a caption belongs to: a tenth each to dev and test, by its hash.

    >>> split_of("a large red circle")
    'train'
    """
    digest = hashlib.sha256(text.encode()).digest()
    return _SPLITS[int.from_bytes(digest[:8], "big") % len(_SPLITS)]


def caption(scene: Scene) -> tuple[str, tuple[Box | None, ...]]:
    """Describe a scene: the text, and for each of its words the place of the object it is about (or None).

    >>> caption((Thing(0, "small", "red", "cross"), Thing(3, "large", "blue", "circle")))[0]
    'a small red cross left of a large blue circle'
    """
    words, boxes = list(scene[0].words()), [None, *[scene[0].box] * 3]
    for before, thing in pairwise(scene):
        relation = ("left", "of") if before.row == thing.row else ("above",)
        words += [*relation, *thing.words()]
        boxes += [*[None] * len(relation), None, *[thing.box] * 3]
    return " ".join(words), tuple(boxes)


def generate(config: Scenes) -> Splits[Captioned]:
    """Generate all splits; each is a function of the seed, and a longer one begins with the shorter one."""

    def split(name: str, count: int) -> tuple[Captioned, ...]:
        rng = random.Random(f"scenes {config.seed} {name}")
        found = []
        for number in range(count):
            scene = _scene(name, config.max_objects, rng)
            text, boxes = caption(scene)
            found.append(Captioned(draw(scene, rng), (text,), boxes, f"{name}-{number}"))
        return tuple(found)

    return Splits(split("train", config.train), split("dev", config.dev), {"test": split("test", config.test)})


def generate_questions(config: SceneQuestions) -> Splits[Asked]:
    """Generate all splits of questions about scenes."""

    def split(name: str, count: int) -> tuple[Asked, ...]:
        rng = random.Random(f"scene questions {config.seed} {name}")
        found = []
        for number in range(count):
            scene = _scene(name, config.max_objects, rng)
            question, answer = ask(scene, rng)
            found.append(Asked(draw(scene, rng), question, answer, f"{name}-{number}"))
        return tuple(found)

    return Splits(split("train", config.train), split("dev", config.dev), {"test": split("test", config.test)})


def ask(scene: Scene, rng: random.Random) -> tuple[str, str]:
    """Make up a question about a scene that has one answer.

    What is asked about is drawn before the answer is known, and half of the yes-no questions are true, so that the
    question alone tells little.
    """
    thing = rng.choice(scene)
    sure = {"color": _alone(scene, shape=thing.shape), "shape": _alone(scene, color=thing.color)}
    kinds = ["is", "count", *(kind for kind, alone in sure.items() if alone)]
    match rng.choice(kinds):
        case "color":
            return f"what color is the {thing.shape}?", thing.color
        case "shape":
            return f"what shape is the {thing.color} thing?", thing.shape
        case "count":
            return "how many things are there?", NUMBERS[len(scene)]
        case _:
            if rng.random() < 0.5:
                color, shape = thing.color, thing.shape
            else:
                there = {(other.color, other.shape) for other in scene}
                color, shape = rng.choice([(c, s) for c in COLORS for s in SHAPES if (c, s) not in there])
            yes = any((other.color, other.shape) == (color, shape) for other in scene)
            return f"is there a {color} {shape}?", "yes" if yes else "no"


def draw(scene: Scene, rng: random.Random) -> np.ndarray:
    """Paint a scene, [64 64 3] uint8: each object somewhere within its place, on grey with noise."""
    noise = np.random.default_rng(rng.getrandbits(64))
    grey = noise.normal(rng.uniform(60.0, 200.0), 4.0, (SIDE * CELL, SIDE * CELL, 1))
    image = np.repeat(grey, 3, axis=2)
    for thing in scene:
        half = SIZES[thing.size]
        room = CELL / 2 - half
        x, y = (CELL / 2 + rng.uniform(-room, room) for _ in range(2))
        inside = _inside(thing.shape, half, x, y)
        left, top, right, bottom = thing.box
        shade = np.asarray(COLORS[thing.color]) * rng.uniform(0.85, 1.0)
        image[top:bottom, left:right][inside] = shade
    return np.clip(image, 0, 255).astype(np.uint8)


def _scene(split: str, most: int, rng: random.Random) -> Scene:
    """Draw scenes until the caption of one belongs to the split."""
    while True:
        places = sorted(rng.sample(range(SIDE * SIDE), rng.randint(1, most)))
        things = (tuple(rng.choice(list(part)) for part in (SIZES, COLORS, SHAPES)) for _ in places)
        scene = tuple(Thing(place, *thing) for place, thing in zip(places, things, strict=True))
        if split_of(caption(scene)[0]) == split:
            return scene


def _alone(scene: Scene, **what: str) -> bool:
    return sum(all(getattr(thing, name) == value for name, value in what.items()) for thing in scene) == 1


def _inside(shape: str, half: float, x: float, y: float) -> np.ndarray:
    """Pixels of a place [16 16] whose middle lies in the shape around (x, y)."""
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

"""Generate scenes with questions."""

import random
from itertools import product

from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.images import scenes
from attnlab.data.records import Splits
from attnlab.data.visual_qa.records import ImageQuestion

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
"""Answers to questions about the number of objects."""
_LOOKS = tuple(product(scenes.COLORS, scenes.SHAPES))


def generate(config: SceneQuestions) -> Splits[ImageQuestion]:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""

    def split(name: str, count: int) -> tuple[ImageQuestion, ...]:
        rng = random.Random(f"scene questions {config.seed} {name}")
        questions, paintings = [], []
        for _ in range(count):
            scene = scenes.sample(name, config.max_objects, rng)
            questions.append(question_about(scene, rng))
            paintings.append(scenes.sample_painting(scene, rng))
        return tuple(
            ImageQuestion(image, question, answer, f"{name}-{number}")
            for number, ((question, answer), image) in enumerate(zip(questions, scenes.draw(paintings), strict=True))
        )

    return Splits(split("train", config.train), split("dev", config.dev), {"test": split("test", config.test)})


def question_about(scene: scenes.Scene, rng: random.Random) -> tuple[str, str]:
    """Sample a question about a scene with a unique answer.

    The object of the question is sampled before the answer, and half of the yes-no questions are true, so that the
    question alone tells little about the answer.
    """
    thing = rng.choice(scene)
    kinds = ["is", "count"]
    if [other.shape for other in scene].count(thing.shape) == 1:
        kinds.append("color")
    if [other.color for other in scene].count(thing.color) == 1:
        kinds.append("shape")
    match rng.choice(kinds):
        case "color":
            return f"what color is the {thing.shape}?", thing.color
        case "shape":
            return f"what shape is the {thing.color} thing?", thing.shape
        case "count":
            return "how many things are there?", NUMBERS[len(scene)]
        case _:
            if rng.random() < 0.5:
                return f"is there a {thing.color} {thing.shape}?", "yes"
            present = [(other.color, other.shape) for other in scene]
            color, shape = rng.choice([look for look in _LOOKS if look not in present])
            return f"is there a {color} {shape}?", "no"

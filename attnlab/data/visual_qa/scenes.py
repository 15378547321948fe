"""Generate scenes with questions."""

import random

from attnlab.config.visual_qa import SceneQuestions
from attnlab.data.images import scenes
from attnlab.data.records import Splits
from attnlab.data.visual_qa.records import ImageQuestion

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")
"""Answers to questions about the number of objects."""


def generate(config: SceneQuestions) -> Splits[ImageQuestion]:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""

    def split(name: str, count: int) -> tuple[ImageQuestion, ...]:
        rng = random.Random(f"scene questions {config.seed} {name}")
        examples = []
        for number in range(count):
            scene = scenes.sample(name, config.max_objects, rng)
            question, answer = question_about(scene, rng)
            examples.append(ImageQuestion(scenes.draw(scene, rng), question, answer, f"{name}-{number}"))
        return tuple(examples)

    return Splits(split("train", config.train), split("dev", config.dev), {"test": split("test", config.test)})


def question_about(scene: scenes.Scene, rng: random.Random) -> tuple[str, str]:
    """Sample a question about a scene with a unique answer.

    The object of the question is sampled before the answer, and half of the yes-no questions are true, so that the
    question alone tells little about the answer.
    """
    thing = rng.choice(scene)
    unique = {"color": _is_unique(scene, shape=thing.shape), "shape": _is_unique(scene, color=thing.color)}
    kinds = ["is", "count", *(kind for kind, is_unique in unique.items() if is_unique)]
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
                present = {(other.color, other.shape) for other in scene}
                color, shape = rng.choice(
                    [(c, s) for c in scenes.COLORS for s in scenes.SHAPES if (c, s) not in present]
                )
            yes = any((other.color, other.shape) == (color, shape) for other in scene)
            return f"is there a {color} {shape}?", "yes" if yes else "no"


def _is_unique(scene: scenes.Scene, **attributes: str) -> bool:
    return sum(all(getattr(thing, name) == value for name, value in attributes.items()) for thing in scene) == 1

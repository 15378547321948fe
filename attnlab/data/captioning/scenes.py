"""Generate scenes with captions."""

import random

from attnlab.config.captioning import Scenes
from attnlab.data.captioning.records import CaptionedImage
from attnlab.data.images import scenes
from attnlab.data.records import Splits


def generate(config: Scenes) -> Splits[CaptionedImage]:
    """Generate all splits; each depends only on the seed, and a longer split begins with a shorter one."""

    def split(name: str, count: int) -> tuple[CaptionedImage, ...]:
        rng = random.Random(f"scenes {config.seed} {name}")
        paintings = []
        for _ in range(count):
            scene = scenes.sample(name, config.max_objects, rng)
            paintings.append(scenes.sample_painting(scene, rng))
        return tuple(
            CaptionedImage(image, (scenes.caption(scene),), scenes.regions(scene), f"{name}-{number}")
            for number, ((scene, *_), image) in enumerate(zip(paintings, scenes.draw(paintings), strict=True))
        )

    return Splits(split("train", config.train), split("dev", config.dev), {"test": split("test", config.test)})

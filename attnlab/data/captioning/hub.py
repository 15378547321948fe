"""Read captioned images from the Hugging Face hub, or from a local folder in its layout."""

from pathlib import Path

from attnlab.config.captioning import CaptionHub
from attnlab.data.captioning.records import CaptionedImage, checked_captions
from attnlab.data.images.hub import image_rows, texts
from attnlab.data.records import Splits


def read(config: CaptionHub, data_dir: Path | None) -> Splits[CaptionedImage]:
    """Read all splits; a column of captions contains texts or lists of texts."""

    def split(name: str) -> tuple[CaptionedImage, ...]:
        examples = []
        for row, image, where in image_rows(config, name, config.image, data_dir):
            captions = [text for column in config.captions for text in texts(row, column, where)]
            examples.append(CaptionedImage(image, checked_captions(captions, where), name=where))
        return tuple(examples)

    return Splits(split(config.train), split(config.dev), {name: split(part) for name, part in config.test.items()})

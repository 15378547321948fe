"""Read questions about images from the Hugging Face hub, or from a local folder in its layout."""

from pathlib import Path

from attnlab.config.visual_qa import ImageQuestionHub
from attnlab.data.images.hub import image_rows, texts
from attnlab.data.labels import parse_label
from attnlab.data.records import Splits
from attnlab.data.text.letters import composed
from attnlab.data.visual_qa.records import ImageQuestion


def read(config: ImageQuestionHub, data_dir: Path | None) -> Splits[ImageQuestion]:
    """Read all splits; characters of questions and answers are composed (NFC)."""

    def split(name: str) -> tuple[ImageQuestion, ...]:
        examples = []
        for row, image, where in image_rows(config, name, config.image, data_dir):
            answer = parse_label(texts(row, config.answer, where)[0], f"{where}: column {config.answer!r}")
            question = composed(texts(row, config.question, where)[0])
            examples.append(ImageQuestion(image, question, answer, where))
        return tuple(examples)

    return Splits(split(config.train), split(config.dev), {name: split(part) for name, part in config.test.items()})

"""Read easy-VQA (Zhou 2019): questions about images of a single shape, with 13 answers."""

from pathlib import Path
from typing import Any

import numpy as np

from attnlab.config.errors import UserError
from attnlab.config.json_text import loads, parse
from attnlab.config.visual_qa import EasyVqa
from attnlab.data.images.arrays import read_arrays
from attnlab.data.images.pixels import as_bytes
from attnlab.data.labels import parse_label
from attnlab.data.records import Splits
from attnlab.data.text.letters import composed
from attnlab.data.text.lines import find, read_lines
from attnlab.data.visual_qa.records import ImageQuestion


def read(config: EasyVqa, data_dir: Path) -> Splits[ImageQuestion]:
    """Read all splits; the questions about the last `dev_images` training images are held out for validation."""
    train, test = _split(data_dir, config.train), _split(data_dir, config.test)
    images = sorted({index for index, _ in train})
    if len(images) <= config.dev_images:
        raise UserError(
            f"task.data.dev_images {config.dev_images}: must be below the number of training images, {len(images)}"
        )
    first = images[-config.dev_images]
    training = tuple(question for index, question in train if index < first)
    validation = tuple(question for index, question in train if index >= first)
    return Splits(training, validation, {"test": tuple(question for _, question in test)})


def _split(data_dir: Path, name: str) -> list[tuple[int, ImageQuestion]]:
    """Read a split in either layout; return the questions with the numbers of their images."""
    if (data_dir / name).is_dir():
        return _folder(data_dir / name)
    path = find(data_dir, f"{name}_questions.jsonl")
    images = _packed(data_dir / f"{name}_images.npz")
    questions = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            row = loads(line)
            parts = (row["question"], row["answer"], row["image"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"{where}: expected JSON with question, answer and image ({error!r})") from error
        questions.append(_question(parts, images, where))
    return questions


def _folder(folder: Path) -> list[tuple[int, ImageQuestion]]:
    """Read the layout of the package: questions.json, a list of [question, answer, image], and images/NUMBER.png."""
    path = folder / "questions.json"
    rows = parse("\n".join(read_lines(path)), str(path))
    if not isinstance(rows, list):
        raise UserError(f"{path}: expected a list of [question, answer, image]")
    images: dict[int, np.ndarray] = {}
    questions = []
    for number, row in enumerate(rows, start=1):
        where = f"{path}: question {number}"
        if not (isinstance(row, list) and len(row) == 3):
            raise UserError(f"{where}: expected [question, answer, image]")
        index = row[2]
        if isinstance(index, int) and index not in images:
            image = folder / "images" / f"{index}.png"
            if not image.is_file():
                raise UserError(f"{where}: {image}: no such file")
            images[index] = as_bytes(image.read_bytes())
        questions.append(_question(tuple(row), images, where))
    return questions


def _question(parts: tuple[Any, ...], images: Any, where: str) -> tuple[int, ImageQuestion]:
    question, answer, index = parts
    if not (isinstance(question, str) and isinstance(answer, str) and question.strip() and answer.strip()):
        raise UserError(f"{where}: question and answer must be strings, not {question!r} and {answer!r}")
    known = isinstance(index, int) and (index in images if isinstance(images, dict) else 0 <= index < len(images))
    if not known:
        raise UserError(f"{where}: no image {index!r} among {len(images)} images")
    label = parse_label(answer, f"{where}: the answer")
    return index, ImageQuestion(images[index], composed(question), label, f"image {index}")


def _packed(path: Path) -> np.ndarray:
    (images,) = read_arrays(path, ["images"])
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise UserError(f"{path}: images have shape {images.shape} and dtype {images.dtype}, not [n h w 3] and uint8")
    return images

"""Images with captions or questions of the Hugging Face hub, or of a local folder in its layout (the extra `hub`)."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.config.captioning import CaptionHub
from attnlab.config.errors import UserError
from attnlab.config.visual_qa import QuestionHub
from attnlab.data import hub
from attnlab.data.classification.records import class_name
from attnlab.data.images.pixels import Asked, Captioned, as_bytes, spoken
from attnlab.data.records import Splits


def captioned(config: CaptionHub, data_dir: Path | None) -> Splits[Captioned]:
    """Read all splits of images with captions; a column of captions may hold a text or a list of texts."""

    def split(name: str) -> tuple[Captioned, ...]:
        return tuple(
            Captioned(
                image,
                spoken([text for column in config.captions for text in _texts(row, column, where)], where),
                name=where,
            )
            for row, image, where in _rows(config, name, config.image, data_dir)
        )

    return Splits(split(config.train), split(config.dev), {name: split(part) for name, part in config.test.items()})


def asked(config: QuestionHub, data_dir: Path | None) -> Splits[Asked]:
    """Read all splits of questions about images."""

    def split(name: str) -> tuple[Asked, ...]:
        return tuple(
            Asked(image, _texts(row, config.question, where)[0], _class(row, config.answer, where), where)
            for row, image, where in _rows(config, name, config.image, data_dir)
        )

    return Splits(split(config.train), split(config.dev), {name: split(part) for name, part in config.test.items()})


def _rows(
    config: CaptionHub | QuestionHub, split: str, column: str, data_dir: Path | None
) -> Iterator[tuple[Mapping[str, Any], np.ndarray, str]]:
    """Go through a split: row, its image still encoded, and where it stands."""
    rows, place = hub.rows(config, split, data_dir)
    import datasets

    if isinstance(rows.features.get(column), datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    if not len(rows):
        raise UserError(f"{place}: no rows; expected one image a row")
    for number, row in enumerate(rows, start=1):
        where = f"{place}, row {number}"
        yield row, _image(_value(row, column, where), column, where), where


def _image(value: Any, column: str, where: str) -> np.ndarray:
    content = value.get("bytes") if isinstance(value, Mapping) else value
    path = value.get("path") if isinstance(value, Mapping) else None
    if content is None and isinstance(path, str):
        try:
            content = Path(path).read_bytes()
        except OSError as error:
            raise UserError(f"{where}: {path}: cannot be read ({error.strerror or error})") from error
    if not isinstance(content, bytes):
        raise UserError(f"{where}: column {column!r} holds {type(value).__name__}, not an image")
    return as_bytes(content)


def _texts(row: Mapping[str, Any], column: str, where: str) -> list[str]:
    value = _value(row, column, where)
    texts = list(value) if isinstance(value, list | tuple) else [value]
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise UserError(f"{where}: column {column!r} must hold a text or texts, none of them empty")
    return texts


def _class(row: Mapping[str, Any], column: str, where: str) -> str:
    return class_name(_texts(row, column, where)[0], f"{where}: column {column!r}")


def _value(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        near = get_close_matches(column, list(row), n=1, cutoff=0.0)
        raise UserError(f"{where}: no column {column!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    return row[column]

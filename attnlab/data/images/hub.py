"""Read rows with images from the Hugging Face hub, or from a local folder in its layout."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from attnlab.config.data import HubDataset
from attnlab.config.errors import UserError
from attnlab.data import hub
from attnlab.data.images.pixels import as_bytes


def image_rows(
    config: HubDataset, split: str, column: str, data_dir: Path | None
) -> Iterator[tuple[Mapping[str, Any], np.ndarray, str]]:
    """Yield the rows of a split, with their encoded images and their places for errors."""
    rows, place = hub.rows(config, split, data_dir)
    import datasets

    if isinstance(rows.features.get(column), datasets.Image):
        rows = rows.cast_column(column, datasets.Image(decode=False))
    if not len(rows):
        raise UserError(f"{place}: no rows; expected one image per row")
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
        raise UserError(f"{where}: column {column!r} is {type(value).__name__}, not an image")
    return as_bytes(content)


def texts(row: Mapping[str, Any], column: str, where: str) -> list[str]:
    """Return the texts of a column, which contains a text or a list of texts; raise if a text is empty."""
    value = _value(row, column, where)
    entries = list(value) if isinstance(value, list | tuple) else [value]
    if not entries or not all(isinstance(text, str) and text.strip() for text in entries):
        raise UserError(f"{where}: column {column!r} must contain a text or a list of texts, none of them empty")
    return entries


def _value(row: Mapping[str, Any], column: str, where: str) -> Any:
    if column not in row:
        near = get_close_matches(column, list(row), n=1, cutoff=0.0)
        raise UserError(f"{where}: no column {column!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    return row[column]

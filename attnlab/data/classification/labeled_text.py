"""Read files of labeled texts: JSON lines, or tables with a header (.csv, .tsv), plain or gzip."""

import csv
from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attnlab.config.classification import LabeledTextFiles
from attnlab.config.errors import UserError
from attnlab.config.json_text import parse
from attnlab.data.classification.records import LabeledText, LabeledTextSplits, labeled_splits
from attnlab.data.labels import parse_label
from attnlab.data.text.lines import find, read_lines, refuse_broken

Row = tuple[str, Mapping[str, Any]]
"""The place FILE:LINE and the fields of a row."""


def read(config: LabeledTextFiles, data_dir: Path) -> LabeledTextSplits:
    """Read all splits; without a validation file, part of the training examples is held out."""
    files = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    paths = {name: find(data_dir, file) for name, file in files.items()}
    splits = {name: read_examples(path, config.text, config.label) for name, path in paths.items()}
    places = {name: str(path) for name, path in paths.items()}
    return labeled_splits(splits, places, config.label_names, config.dev_share)


def read_examples(path: Path, text: str, label: str) -> tuple[LabeledText, ...]:
    """Read the text and label columns of a file; the suffix of its name decides on the format."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix.lower() not in FORMATS:
        raise UserError(f"{path}: unknown suffix {suffix!r}; valid: {', '.join(FORMATS)}, each also with .gz")
    rows = FORMATS[suffix.lower()](path)
    return tuple(parse_row(row, text, label, where) for where, row in rows)


def parse_row(row: Mapping[str, Any], text: str, label: str, where: str) -> LabeledText:
    """Return the labeled text of a row; runs of white space in the text become a single space (see also `parse_label`).

    >>> parse_row({"text": "fine", "label": 1}, "text", "label", "here")
    LabeledText(text='fine', label='1', rationale=None, evidence=None)
    """
    for name, setting in ((text, "text"), (label, "label")):
        if name not in row:
            others = [str(column) for column in row if column not in (text, label)]
            near = get_close_matches(name, others, n=1)
            hint = (
                f"; did you mean task.data.{setting}={near[0]}?" if near else f" (task.data.{setting} names the column)"
            )
            raise UserError(
                f"{where}: no {name!r}; columns of this row: {', '.join(map(str, row))[:200] or 'none'}{hint}"
            )
    if not isinstance(row[text], str):
        raise UserError(f"{where}: {text!r} is {type(row[text]).__name__}, not text")
    refuse_broken(joined := " ".join(row[text].split()), where)
    return LabeledText(joined, parse_label(row[label], f"{where}: {label!r}"))


def _rows_of_json(path: Path) -> Iterator[Row]:
    expected = 'expected one object per line, such as {"text": "...", "label": 1}'
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        row = parse(line, where, expected)
        if not isinstance(row, dict):
            raise UserError(f"{where}: {expected}")
        yield where, row


def _rows_of_tsv(path: Path) -> Iterator[Row]:
    lines = enumerate(read_lines(path), start=1)
    return _rows_of_table(path, ((number, line.split("\t")) for number, line in lines), "a tab")


def _rows_of_csv(path: Path) -> Iterator[Row]:
    return _rows_of_table(path, _records(path), "a comma")


def _records(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Read comma-separated records; a quoted field may contain commas, line breaks and doubled quotation marks."""
    reader, first = csv.reader((f"{line}\n" for line in read_lines(path)), strict=True), 1
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(f"{path}:{first}: not CSV ({error}); is a quotation mark missing or not doubled?") from None
        yield first, fields
        first = reader.line_num + 1


def _rows_of_table(path: Path, records: Iterator[tuple[int, list[str]]], separator: str) -> Iterator[Row]:
    _, names = next(records)
    if len(names) == 1:
        raise UserError(
            f"{path}:1: the header has a single column, {names[0][:200]!r}; columns are separated by {separator}"
        )
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}:1: the header has the column {twice!r} {names.count(twice)} times")
    number = 1
    for number, fields in records:
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header has {len(names)} columns")
        yield f"{path}:{number}", dict(zip(names, fields, strict=True))
    if number == 1:
        raise UserError(f"{path}:1: no rows after the header; expected one text per row")


FORMATS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _rows_of_json,
    ".json": _rows_of_json,
    ".csv": _rows_of_csv,
    ".tsv": _rows_of_tsv,
}
"""The reader for each suffix of a file's name."""

"""Files of labeled texts: JSON lines, or tables with a header (.csv, .tsv), plain or gzip."""

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
"""Where it stands, as FILE:LINE, and what is in it."""


def read(config: LabeledTextFiles, data_dir: Path) -> LabeledTextSplits:
    """Read all splits; without a file for dev, a share of train is held out."""
    paths = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    found = {name: find(data_dir, path) for name, path in paths.items()}
    splits = {name: read_examples(path, config.text, config.label) for name, path in found.items()}
    places = {name: str(path) for name, path in found.items()}
    return labeled_splits(splits, places, config.label_names, config.dev_share)


def read_examples(path: Path, text: str, label: str) -> tuple[LabeledText, ...]:
    """Read the columns of text and label of one file, in the format that its name tells."""
    suffix = Path(path.name.removesuffix(".gz")).suffix
    if suffix.lower() not in FORMATS:
        raise UserError(f"{path}: unknown suffix {suffix!r}; valid: {', '.join(FORMATS)}, each also with .gz")
    rows = FORMATS[suffix.lower()](path)
    return tuple(parse_row(row, text, label, where) for where, row in rows)


def parse_row(row: Mapping[str, Any], text: str, label: str, where: str) -> LabeledText:
    """Take text and label from a row; a label may be a whole number (`class_name`), runs of white space become a space.

    >>> parse_row({"text": "fine", "label": 1}, "text", "label", "here")
    LabeledText(text='fine', label='1', rationale=None)
    """
    for name, setting in ((text, "text"), (label, "label")):
        if name not in row:
            others = [str(column) for column in row if column not in (text, label)]
            near = get_close_matches(name, others, n=1)
            hint = (
                f"; did you mean task.data.{setting}={near[0]}?" if near else f" (task.data.{setting} names the column)"
            )
            raise UserError(f"{where}: no {name!r}; this row has: {', '.join(map(str, row))[:200] or 'nothing'}{hint}")
    written, given = row[text], row[label]
    if not isinstance(written, str):
        raise UserError(f"{where}: {text!r} holds {type(written).__name__}, not text")
    refuse_broken(joined := " ".join(written.split()), where)
    return LabeledText(joined, parse_label(given, f"{where}: {label!r}"))


def _rows_of_json(path: Path) -> Iterator[Row]:
    expected = 'expected an object a line, such as {"text": "...", "label": 1}'
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
    """Read records apart by commas, where a quoted field may hold commas, line breaks and doubled quotation marks."""
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
        raise UserError(f"{path}:1: the header names one column, {names[0][:200]!r}; {separator} stands between two")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}:1: the header names the column {twice!r} {names.count(twice)} times; once is right")
    number = 1
    for number, fields in records:
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header names {len(names)}")
        yield f"{path}:{number}", dict(zip(names, fields, strict=True))
    if number == 1:
        raise UserError(f"{path}:1: no rows after the header; expected one text a row")


FORMATS: Mapping[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _rows_of_json,
    ".json": _rows_of_json,
    ".csv": _rows_of_csv,
    ".tsv": _rows_of_tsv,
}
"""End of a file's name -> what reads it."""

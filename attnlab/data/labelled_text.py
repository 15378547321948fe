"""Files of labelled texts: JSON lines, or tables with a header, plain or gzip."""

import json
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attnlab.config.classification import LabelledText
from attnlab.config.errors import UserError
from attnlab.data.labelled import Labelled, LabelledTexts, assembled
from attnlab.data.lines import find, read_lines, refuse_broken


def read(config: LabelledText, data_dir: Path) -> LabelledTexts:
    """Read all splits; without a file for dev, a share of train is held out."""
    paths = {"train": config.train, **({"dev": config.dev} if config.dev else {}), **config.test}
    found = {name: find(data_dir, path) for name, path in paths.items()}
    splits = {name: read_examples(path, config.text, config.label) for name, path in found.items()}
    places = {name: str(path) for name, path in found.items()}
    return assembled(splits, places, config.names, config.dev_share)


def read_examples(path: Path, text: str, label: str) -> tuple[Labelled, ...]:
    """Read the columns of text and label of one file."""
    rows = _rows_of_table(path) if ".tsv" in path.suffixes else _rows_of_json(path)
    return tuple(labelled(row, text, label, where) for where, row in rows)


def labelled(row: Mapping[str, Any], text: str, label: str, where: str) -> Labelled:
    """Take text and label from a row; a whole number is a label too, runs of white space become one space.

    >>> labelled({"text": "fine", "label": 1}, "text", "label", "here")
    Labelled(text='fine', label='1', rationale=None)
    """
    for name in (text, label):
        if name not in row:
            near = get_close_matches(name, list(row), n=1, cutoff=0.0)
            raise UserError(f"{where}: no {name!r}{f'; did you mean {near[0]!r}?' if near else ''}")
    written, given = row[text], row[label]
    if not isinstance(written, str):
        raise UserError(f"{where}: {text!r} holds {type(written).__name__}, not text")
    if isinstance(given, bool) or not isinstance(given, str | int) or given in ("", -1):
        raise UserError(f"{where}: {label!r} is {given!r}; expected a name or a whole number from 0 on")
    refuse_broken(joined := " ".join(written.split()), where)
    return Labelled(joined, str(given))


def _rows_of_json(path: Path) -> list[tuple[str, dict[str, Any]]]:
    rows = []
    for number, line in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{where}: not JSON ({error.msg}, character {error.colno})") from None
        if not isinstance(row, dict):
            raise UserError(f'{where}: expected an object such as {{"text": "...", "label": 1}}')
        rows.append((where, row))
    return rows


def _rows_of_table(path: Path) -> list[tuple[str, dict[str, Any]]]:
    header, *lines = read_lines(path)
    names, rows = header.split("\t"), []
    if not lines:
        raise UserError(f"{path}:1: no rows after the header; expected one text a line")
    for number, line in enumerate(lines, start=2):
        fields = line.split("\t")
        if len(fields) != len(names):
            raise UserError(f"{path}:{number}: {len(fields)} fields, but the header names {len(names)}")
        rows.append((f"{path}:{number}", dict(zip(names, fields, strict=True))))
    return rows

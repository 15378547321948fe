"""Read JSON from untrusted files; every mistake in them is a `UserError` or a `ValueError`."""

import json
from pathlib import Path
from typing import Any, TypeVar

from attnlab.config.errors import UserError

MAX_DEPTH = 100
"""Largest depth of nested lists and objects; deeper files are refused. Valid ones have a depth of at most ten."""

Kind = TypeVar("Kind", str, list, dict)
_NAMES = {str: "a string", list: "a list", dict: "an object"}


def loads(text: str) -> Any:
    """Parse JSON like `json.loads`, with depth and size limits.

    Raises:
        ValueError: the text is not JSON, is nested too deeply, or has a number of more than 4,300 digits: Python's
            limit, as the time to parse a number grows with the square of its length.

    >>> loads("[1, 2]")
    [1, 2]
    """
    try:
        data = json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("a number with too many digits") from None
    if _depth(data) > MAX_DEPTH:
        raise ValueError("nested too deeply")
    return data


def parse(text: str, where: str, expected: str = "") -> Any:
    """Parse JSON; a `UserError` begins with `where` and the line of the mistake, and ends with `expected`."""
    hint = f"; {expected}" if expected else ""
    try:
        return loads(text)
    except json.JSONDecodeError as error:
        at = f"{where}:{error.lineno}" if "\n" in text else where
        raise UserError(f"{at}: not JSON ({error.msg}, character {error.colno}){hint}") from None
    except ValueError as error:
        raise UserError(f"{where}: not valid JSON ({error}){hint}") from None


def read(path: Path, kind: type[Kind], content: str) -> Kind:
    """Read a JSON file that contains a string, a list or an object.

    Args:
        path: the file.
        kind: str, list or dict.
        content: a word for the content of the file, such as "vocabulary", for the error.
    """
    try:
        data = loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: cannot read the {content} ({error.strerror or error})") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: cannot read the {content}: not JSON ({error})") from None
    if not isinstance(data, kind):
        raise UserError(f"{path}: cannot read the {content} (expected {_NAMES[kind]}, not {type(data).__name__})")
    return data


def read_texts(path: Path, content: str) -> list[str]:
    """Read a JSON file that contains a list of strings; see `read`."""
    texts = read(path, list, content)
    if not all(isinstance(text, str) for text in texts):
        raise UserError(f"{path}: cannot read the {content} (expected a list of strings)")
    return texts


def _depth(data: Any) -> int:
    """Return the number of nested levels of lists and objects, counting no further than MAX_DEPTH + 1."""
    level, depth = [data], 0
    while depth <= MAX_DEPTH and (level := [value for value in level if isinstance(value, dict | list)]):
        level = [item for value in level for item in (value.values() if isinstance(value, dict) else value)]
        depth += 1
    return depth

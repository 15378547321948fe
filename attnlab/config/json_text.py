"""JSON of files that anybody may have written: one kind of error, whatever is wrong with them."""

import json
from pathlib import Path
from typing import Any, TypeVar

from attnlab.config.errors import UserError

DEEPEST = 100
"""Lists and objects inside one another, beyond which a file is refused: those that are read here have ten at most."""

Kind = TypeVar("Kind", str, list, dict)
_NAMES = {str: "a text", list: "a list", dict: "an object"}


def loads(text: str) -> Any:
    """Read JSON as `json.loads` does.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number of more than 4,300 digits, which Python does
            not read, as that takes time in the square of their count.

    >>> loads("[1, 2]")
    [1, 2]
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        raise
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        raise ValueError("a number of too many digits") from None
    if _depth(found) > DEEPEST:
        raise ValueError("nested too deeply")
    return found


def parse(text: str, where: str, expected: str = "") -> Any:
    """Read JSON; what is wrong with it is told in a line that begins with where it stands (in a file, its line)."""
    hint = f"; {expected}" if expected else ""
    try:
        return loads(text)
    except json.JSONDecodeError as error:
        at = f"{where}:{error.lineno}" if "\n" in text else where
        raise UserError(f"{at}: not JSON ({error.msg}, character {error.colno}){hint}") from None
    except ValueError as error:
        raise UserError(f"{where}: not JSON that is read here ({error}){hint}") from None


def read(path: Path, kind: type[Kind], what: str) -> Kind:
    """Read a file of JSON that holds a text, a list or an object.

    Args:
        path: the file.
        kind: str, list or dict.
        what: what the file is to hold, for the error.
    """
    try:
        found = loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{path}: no {what} can be read here ({error.strerror or error})") from None
    except ValueError as error:  # of JSON, or of UTF-8
        raise UserError(f"{path}: not JSON ({error}); no {what} can be read here") from None
    if not isinstance(found, kind):
        raise UserError(f"{path}: no {what} can be read here (expected {_NAMES[kind]}, not {type(found).__name__})")
    return found


def read_texts(path: Path, what: str) -> list[str]:
    """Read a file of JSON that holds a list of texts."""
    found = read(path, list, what)
    if not all(isinstance(one, str) for one in found):
        raise UserError(f"{path}: no {what} can be read here (expected a list of texts, all of them text)")
    return found


def _depth(found: Any) -> int:
    """Count the levels down to the deepest list or object, no further than one below DEEPEST."""
    level, depth = [found], 0
    while depth <= DEEPEST and (level := [one for one in level if isinstance(one, dict | list)]):
        level = [inside for one in level for inside in (one.values() if isinstance(one, dict) else one)]
        depth += 1
    return depth

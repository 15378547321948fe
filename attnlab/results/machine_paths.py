"""Absolute paths, which name a machine: they are found in configs, and left out of archives and of labels in tables."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_START = r"(?:/\w|~\w*/|\\\\|[A-Za-z]:[/\\])"
_WHOLE = re.compile(_START)
_QUOTED = re.compile(rf"(?<=[\"'`]){_START}[^\"'`]*")
_WORD = re.compile(rf"(?<![^\s=(\[,:]){_START}[^\s,;)\]]*")


def is_machine_path(text: str) -> bool:
    """Return whether a text is an absolute path.

    >>> is_machine_path("/home/me/runs/a-s1"), is_machine_path("runs/a-s1")
    (True, False)
    """
    return _WHOLE.match(text) is not None


def without_folders(value: Any) -> Any:
    """Return data with the last name of every absolute path in the place of the path, also within a text.

    >>> without_folders({"run": "/home/me/runs/a-s1", "label": 'mlp (model.run "/home/me/runs/a-s1", width 8), and/or'})
    {'run': 'a-s1', 'label': 'mlp (model.run "a-s1", width 8), and/or'}
    """
    if isinstance(value, Mapping):
        return {name: without_folders(child) for name, child in value.items()}
    if isinstance(value, list):
        return [without_folders(child) for child in value]
    if not isinstance(value, str):
        return value
    if is_machine_path(value):
        return _name(value)
    for kind in (_QUOTED, _WORD):
        value = kind.sub(lambda path: _name(path[0]), value)
    return value


def _name(path: str) -> str:
    """Return the last name of a path.

    >>> _name("/home/me/runs/"), _name("C:\\\\data\\\\train.txt"), _name("~/a")
    ('runs', 'train.txt', 'a')
    """
    kind = PurePosixPath if path.startswith(("/", "~")) else PureWindowsPath
    return kind(path).name

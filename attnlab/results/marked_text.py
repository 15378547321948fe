"""Text between two marks of a file, which a command replaces without changing the rest."""

from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.training.atomic_files import write_whole


def pair(name: str) -> tuple[str, str]:
    """Return the marks of this name.

    >>> pair("results")
    ('<!-- results: begin -->', '<!-- results: end -->')
    """
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def insert(text: str, path: Path, name: str) -> None:
    """Replace the text between the marks of this name; the rest of the file stays byte for byte.

    Raises:
        UserError: the file cannot be read or written, or does not hold each mark once and in order.
    """
    before, after = _around(path, name)
    write_whole(path, before + b"\n" + text.encode() + after)


def between(path: Path, name: str) -> str:
    """Return the text between the marks of this name."""
    before, after = _around(path, name)
    return path.read_bytes()[len(before) + 1 : -len(after)].decode()


def _around(path: Path, name: str) -> tuple[bytes, bytes]:
    """Return the content up to the end of the first mark, and from the second mark on."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    begin, end = pair(name)
    marks = begin.encode(), end.encode()
    if not (
        content.count(marks[0]) == content.count(marks[1]) == 1 and content.index(marks[0]) < content.index(marks[1])
    ):
        raise UserError(f"{path}: needs a line {begin} and after it a line {end}, each once; the table goes between")
    return content[: content.index(marks[0]) + len(marks[0])], content[content.index(marks[1]) :]

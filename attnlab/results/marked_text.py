"""Text between two markers of a file, which a command replaces without changing the rest."""

from collections.abc import Iterable
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.training.atomic_files import write_whole


def pair(name: str) -> tuple[str, str]:
    """Return the begin and end markers with a name.

    >>> pair("results")
    ('<!-- results: begin -->', '<!-- results: end -->')
    """
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def insert(text: str, path: Path, name: str) -> None:
    """Replace the text between the markers with a name; the rest of the file is unchanged.

    Raises:
        UserError: the file cannot be read or written, or does not contain each marker once and in order.
    """
    before, after = _split_at_markers(path, name)
    write_whole(path, before + b"\n" + text.encode() + after)


def present(path: Path, names: Iterable[str]) -> list[str]:
    """Return those names of which a file has a marker; none for a file that cannot be read."""
    try:
        content = path.read_bytes()
    except OSError:
        return []
    return [name for name in names if any(marker.encode() in content for marker in pair(name))]


def between(path: Path, name: str) -> str:
    """Return the text between the markers with a name."""
    before, after = _split_at_markers(path, name)
    return path.read_bytes()[len(before) + 1 : -len(after)].decode()


def _split_at_markers(path: Path, name: str) -> tuple[bytes, bytes]:
    """Return the content up to the end of the first marker, and the content from the second marker on."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    begin, end = pair(name)
    first, second = begin.encode(), end.encode()
    once = content.count(first) == content.count(second) == 1
    if not once or content.index(first) > content.index(second):
        raise UserError(f"{path}: must contain the line {begin} once, and after it the line {end} once")
    return content[: content.index(first) + len(first)], content[content.index(second) :]

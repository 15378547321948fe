"""Files that are written whole or not at all; one that cannot be written is told in one line."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attnlab.config.errors import UserError


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn a failure to write `path` (disk full, read-only, no permission) into a `UserError` that names it.

    >>> with writing(Path("results.json")):
    ...     raise OSError(28, "No space left on device")
    Traceback (most recent call last):
    ...
    attnlab.config.errors.UserError: results.json: cannot be written: No space left on device
    """
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror or error}") from error


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, a kill or a full disk meets the old content or the new one, never a part.

    Args:
      path: the file; directories that are missing above it are made.
      content: text is written as UTF-8 with its line ends as they are.
    Raises:
      UserError: it cannot be written; what was there is untouched.
    """
    with writing(path):
        file_itself = path.resolve()  # not a link to it
        beside = file_itself.with_name(f"{path.name}.writing")
        beside.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if file_itself.exists():
                shutil.copymode(file_itself, beside)
            beside.replace(file_itself)
        except OSError:
            beside.unlink(missing_ok=True)
            raise

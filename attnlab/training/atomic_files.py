"""Atomic writing of files; a failure is reported in one line."""

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
    """Write a file atomically: after a kill or on a full disk it has the old content or the new one, never a part.

    Args:
      path: the file; missing parent directories are created.
      content: text is encoded as UTF-8; line ends are not converted.
    Raises:
      UserError: it cannot be written; the old content is untouched.
    """
    with writing(path):
        target = path.resolve()  # follow links
        temporary = target.with_name(f"{path.name}.writing")
        temporary.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, temporary)
            temporary.replace(target)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise

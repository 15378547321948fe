"""The data directory, to which the paths of a config are relative."""

from pathlib import Path

from attnlab.config.errors import UserError


def require(data_dir: Path | None, setting: str, expected: str) -> Path:
    """Return the data directory; raise if it is not set or does not exist.

    Args:
        data_dir: the directory; None if it is not set.
        setting: the setting that needs the directory, for the error.
        expected: a path in the directory, for the error.

    Raises:
        UserError: one line that says how to set the directory.

    >>> require(None, "task.data.kind babi", "en-10k/qa1_train.txt")
    Traceback (most recent call last):
    ...
    attnlab.config.errors.UserError: task.data.kind babi needs a data directory: give --data DIR or set ATTNLAB_DATA; \
expected DIR/en-10k/qa1_train.txt
    """
    if data_dir is None:
        raise UserError(
            f"{setting} needs a data directory: give --data DIR or set ATTNLAB_DATA; expected DIR/{expected}"
        )
    if not data_dir.is_dir():
        raise UserError(f"{data_dir}: no such data directory; give --data DIR with DIR/{expected}")
    return data_dir

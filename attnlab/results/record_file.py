"""A file of records that are appended as they are computed, a line for records that belong together.

A kill or a full disk leaves at most one incomplete line, at the end; it is removed when the file is opened again.
"""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from attnlab.config.errors import UserError
from attnlab.training.atomic_files import write_whole, writing

Record = dict[str, Any]


class RecordFile:
    """Records of examples, with the settings that they were computed with in the first line.

    Args:
        path: the file; its directory is created.
        settings: plain data. A file with other settings, or without any, is begun anew.
        notify: receives one line for the user.
        restart: begin the file anew, at once.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], notify: Callable[[str], None], *, restart: bool = False
    ) -> None:
        self.path = path
        self._settings = json.loads(json.dumps(settings))
        self._notify = notify
        self.records = [] if restart else self._read()
        if restart and path.exists():
            write_whole(path, self._header())

    def append(self, records: Sequence[Record]) -> None:
        """Write records that belong together, and flush them to the disk.

        Raises:
            UserError: they cannot be written, as on a full disk.
        """
        line = json.dumps(records, ensure_ascii=False, allow_nan=False) + "\n"
        if not self.records:
            write_whole(self.path, self._header())
        with writing(self.path), self.path.open("ab", buffering=0) as file:
            content = line.encode()
            while content:
                content = content[file.write(content) :]
            os.fsync(file.fileno())
        self.records += records

    def _read(self) -> list[Record]:
        try:
            header, *lines = self.path.read_bytes().splitlines(keepends=True) or [b""]
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise UserError(f"{self.path}: cannot be read: {error.strerror}") from error
        if _parsed(header) != {"settings": self._settings}:
            return []
        groups, kept = [], []
        for line in lines:
            group = _parsed(line) if line.endswith(b"\n") else None
            if isinstance(group, list) and all(isinstance(record, dict) and "example" in record for record in group):
                groups.append(group)
                kept.append(line)
        if len(kept) < len(lines):
            self._notify(f"{self.path}: {len(lines) - len(kept)} incomplete line(s) are removed, and computed again")
            write_whole(self.path, b"".join([header, *kept]))
        return [record for group in groups for record in group]

    def _header(self) -> str:
        return json.dumps({"settings": self._settings}, ensure_ascii=False) + "\n"


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None

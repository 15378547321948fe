"""Read arrays from .npz files, which are zip files, within limits on their unpacked size."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer

LARGEST, RATIO = 2**30, 200
"""Largest unpacked size in bytes; above it, the largest compression ratio (flat shapes have a ratio of 60)."""


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Return the named arrays of a .npz file.

    Raises:
        UserError: the file is missing or damaged, lacks an array, contains Python objects, or exceeds the limits
            LARGEST and RATIO.
    """
    try:
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        with zipfile.ZipFile(path) as archive:
            unpacked, size = sum(member.file_size for member in archive.infolist()), path.stat().st_size
        if unpacked > max(LARGEST, RATIO * size):
            raise UserError(f"{path}: {size:,} bytes unpack to {unpacked:,}, which is too much for images")
        with np.load(path, allow_pickle=False) as arrays:
            return [arrays[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a .npz with {', '.join(names)} ({type(error).__name__}: {reason})") from error

"""Arrays packed into a .npz, which is a zip file: read if they are as large as such a file may hold."""

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer

LARGEST, RATIO = 2**30, 200
"""Bytes that the arrays may have, and how many times the size of the file beyond that; flat shapes pack 60 times."""


def read_arrays(path: Path, names: Sequence[str]) -> list[np.ndarray]:
    """Read the named arrays of a .npz file.

    Raises:
        UserError: the file is missing, damaged, lacks an array, holds Python objects, or unpacks to more than LARGEST
            and RATIO allow.
    """
    try:
        with path.open("rb") as file:
            refuse_pointer(file.read(100), path)
        with zipfile.ZipFile(path) as packed:
            unpacked, size = sum(one.file_size for one in packed.infolist()), path.stat().st_size
        if unpacked > max(LARGEST, RATIO * size):
            raise UserError(f"{path}: {size:,} bytes unpack to {unpacked:,}; images do not pack that well")
        with np.load(path, allow_pickle=False) as found:
            return [found[name] for name in names]
    except (OSError, ValueError, KeyError, EOFError, MemoryError, zipfile.BadZipFile, zipfile.LargeZipFile) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{path}: not a .npz with {', '.join(names)} ({type(error).__name__}: {reason})") from error

"""The directory of files that can be computed again. Imports no jax."""

import os
from pathlib import Path

VARIABLE = "ATTNLAB_CACHE"
"""Environment variable that names the directory."""


def cache_directory() -> Path:
    """Return the cache directory: $ATTNLAB_CACHE, or else attnlab in $XDG_CACHE_HOME or ~/.cache."""
    if path := os.environ.get(VARIABLE):
        return Path(path)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "attnlab"

"""The manifest of a directory: the sha256 of each of its files and of itself, so that every changed bit is detected."""

import hashlib
import json
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
MISSING = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
"""The file is missing. Other failures to read (permission, memory, an I/O error) do not imply damage."""


class Damaged(Exception):
    """The files of a directory differ from its manifest; the message names the file and the difference."""


def fingerprints(directory: Path) -> dict[str, str]:
    """Return the sha256 of every file below a directory, by its path in it."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return {path.relative_to(directory).as_posix(): _sha256(path) for path in files}


def write_manifest(directory: Path, manifest: dict[str, Any]) -> None:
    """Write a manifest; its `files` are the directory's `fingerprints`, its `step` is the directory's name."""
    (directory / MANIFEST).write_text(_sealed(manifest), encoding="ascii")


def read_manifest(directory: Path) -> dict[str, Any]:
    """Return the manifest of a directory without checking other files.

    Raises:
        Damaged: the manifest was changed.
        OSError: it cannot be read.
    """
    try:
        text = (directory / MANIFEST).read_bytes().decode("ascii")
        manifest = json.loads(text)
        del manifest["sha256"]
        sound = _sealed(manifest) == text
    except MISSING as error:
        raise Damaged(f"{MANIFEST}: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise Damaged(f"{MANIFEST}: not a manifest") from error
    if not sound:
        raise Damaged(f"{MANIFEST}: sha256 differs")
    return manifest


def verified(directory: Path, step: int) -> dict[str, Any]:
    """Return the manifest of a directory after checking every file against it.

    Raises:
        Damaged: a file was changed or is missing.
        OSError: a file cannot be read.
    """
    manifest = read_manifest(directory)
    if manifest["step"] != step:
        raise Damaged(f"{MANIFEST}: belongs to step {manifest['step']}")
    for name, sha256 in manifest["files"].items():
        try:
            if _sha256(directory / name) != sha256:
                raise Damaged(f"{name}: sha256 differs")
        except MISSING as error:
            raise Damaged(f"{name}: {error.strerror}") from error
    return manifest


def _sealed(manifest: dict[str, Any]) -> str:
    """Return the only valid text of a manifest, its own sha256 included."""
    content = json.dumps(manifest, sort_keys=True)
    return json.dumps({**manifest, "sha256": hashlib.sha256(content.encode()).hexdigest()}, indent=1, sort_keys=True)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Read a config or code file; an error suggests the file with the nearest name."""

from difflib import get_close_matches
from pathlib import Path

from attnlab.config.errors import UserError


def read_file(path: Path) -> str:
    """Return the text of a UTF-8 file; raise a `UserError` that names the file if it cannot be read."""
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file{_nearest_file(path)}") from None
    except IsADirectoryError:
        inside = path / "config.yaml"
        hint = f"did you mean {inside}?" if inside.exists() else "give the YAML file of an experiment"
        raise UserError(f"{path}: is a directory; {hint}") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}:{line}: byte {raw[error.start]:#04x} is not UTF-8 text") from None


def _nearest_file(path: Path) -> str:
    if not path.parent.is_dir():
        return f"; there is no directory {path.parent} either"
    near = get_close_matches(path.name, [file.name for file in path.parent.glob("*.y*ml")], n=1, cutoff=0.5)
    return f"; did you mean {path.parent / near[0]}?" if near else ""

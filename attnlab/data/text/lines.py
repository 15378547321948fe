"""Read the lines of text files; defects are errors with file and line, except byte order marks and CR LF."""

import gzip
import io
import zlib
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer

LONGEST_LINE = 100_000
"""Largest number of characters in a line; in longer lines a line break must be missing."""
LARGEST, RATIO = 64 * 2**20, 50
"""Largest unpacked size of a gzip file in bytes; above it, the largest compression ratio (text has 2 to 20)."""


def find(data_dir: Path, name: str) -> Path:
    """Return the path of a file in the data directory: `name`, or else `name` with `.gz`."""
    paths = [data_dir / name] + ([] if name.endswith(".gz") else [data_dir / f"{name}.gz"])
    for path in paths:
        if path.is_file():
            return path
    also = "".join(f", nor {path.name}" for path in paths[1:])
    raise UserError(f"{paths[0]}: no such file{also}, in the data directory {data_dir}")


def read_lines(path: Path) -> list[str]:
    """Return the lines of a UTF-8 file, plain or gzip, without line ends.

    A byte order mark at the start and the CR of CR LF are removed; nothing else is changed. Empty lines and a last line
    without a line end are included.

    Raises:
        UserError: the file is missing, empty, or a damaged gzip file, or a line is not UTF-8, is longer than
            LONGEST_LINE, or contains a NUL or a bare CR.
    """
    content = read_bytes(path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}:1: the file is UTF-16, not UTF-8; convert it with: iconv -f UTF-16 -t UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content:
        raise UserError(f"{path}: the file is empty; expected one sentence or row per line")
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_line(raw, path, number) for number, raw in enumerate(lines, start=1)]


def read_bytes(path: Path) -> bytes:
    """Return the content of a file, plain or gzip.

    Raises:
        UserError: the file is missing, is a damaged gzip file, or exceeds the limits LARGEST and RATIO.
    """
    try:
        content = path.read_bytes()
        refuse_pointer(content, path)
        if not content.startswith(b"\x1f\x8b"):
            return content
        limit = max(LARGEST, RATIO * len(content))
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as archive:
            unpacked = archive.read(limit + 1)
        if len(unpacked) > limit:
            raise UserError(
                f"{path}: {len(content):,} bytes unpack to more than {limit:,}, which is too much for text; "
                f"if the file is valid, unpack it: gunzip {path.name}"
            )
        return unpacked
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); download it again") from error
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}); expected a UTF-8 text file") from error


def _line(raw: bytes, path: Path, number: int) -> str:
    where = f"{path}:{number}"
    try:
        text = raw.removesuffix(b"\r").decode("utf-8")
    except UnicodeDecodeError as error:
        byte = raw[error.start]
        raise UserError(f"{where}: byte {error.start + 1} of the line (0x{byte:02x}) is not UTF-8") from error
    refuse_broken(text, where)
    return text


def refuse_broken(text: str, where: str) -> None:
    """Raise if a text cannot be a line: it contains a NUL, a line break or a lone surrogate, or is too long."""
    if len(text) > LONGEST_LINE:
        raise UserError(
            f"{where}: a line of {len(text):,} characters (at most {LONGEST_LINE:,}); is a line break missing?"
        )
    for character, name in (("\0", "a NUL character"), ("\r", "a bare carriage return"), ("\n", "a line break")):
        if character in text:
            raise UserError(f"{where}: {name} inside the line (character {text.index(character) + 1}); remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{where}: a lone surrogate, which is not a character; write the text as UTF-8")

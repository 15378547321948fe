"""Reading text files line by line: what is harmless is repaired, all else is refused with its file and line."""

import gzip
import io
import zlib
from pathlib import Path

from attnlab.config.errors import UserError
from attnlab.data.git_lfs import refuse_pointer

LONGEST_LINE = 100_000
"""Characters in a line beyond which a line break must be missing."""
LARGEST, RATIO = 64 * 2**20, 50
"""Bytes that a gzip file may unpack to, and how many times its own size beyond them; text is packed 2 to 20 times."""


def find(data_dir: Path, name: str) -> Path:
    """Find a file of the data directory, as named or with `.gz`."""
    tried = [data_dir / name] + ([] if name.endswith(".gz") else [data_dir / f"{name}.gz"])
    for path in tried:
        if path.is_file():
            return path
    also = "".join(f", nor {path.name}" for path in tried[1:])
    raise UserError(f"{tried[0]}: no such file{also}; expected there, under the data directory {data_dir}")


def read_lines(path: Path) -> list[str]:
    """Read a UTF-8 file, plain or gzip, into its lines, without their line ends.

    A byte order mark at the start and the CR of a CR LF are taken away; nothing else is changed, and no line is
    left out. A last line without a line end counts; empty lines count.

    Raises:
        UserError: the file is missing, empty, or no whole gzip file, or a line is not UTF-8, is longer than
            LONGEST_LINE, or holds a NUL or a bare CR.
    """
    content = read_bytes(path)
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path}:1: the file is UTF-16, not UTF-8; convert it with: iconv -f UTF-16 -t UTF-8")
    content = content.removeprefix(b"\xef\xbb\xbf")
    if not content:
        raise UserError(f"{path}: the file is empty; expected one sentence or row a line")
    lines = content.split(b"\n")
    if not lines[-1]:
        lines.pop()
    return [_line(raw, path, number) for number, raw in enumerate(lines, start=1)]


def read_bytes(path: Path) -> bytes:
    """Read a file, plain or gzip, whole.

    Raises:
        UserError: it is missing or no whole gzip file, or unpacks to more than LARGEST and RATIO allow.
    """
    try:
        content = path.read_bytes()
        refuse_pointer(content, path)
        if not content.startswith(b"\x1f\x8b"):
            return content
        most = max(LARGEST, RATIO * len(content))
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as packed:
            unpacked = packed.read(most + 1)
        if len(unpacked) > most:
            raise UserError(
                f"{path}: {len(content):,} bytes unpack to more than {most:,}; text does not pack that well. "
                f"If it is right all the same, unpack it: gunzip {path.name}"
            )
        return unpacked
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged gzip file ({error}); fetch it again") from error
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
    """Refuse a text that no sentence can be: a NUL, a line break inside, a lone surrogate, or endless length."""
    if len(text) > LONGEST_LINE:
        raise UserError(
            f"{where}: a line of {len(text):,} characters (at most {LONGEST_LINE:,}); is a line break missing?"
        )
    for character, name in (("\0", "a NUL character"), ("\r", "a bare carriage return"), ("\n", "a line break")):
        if character in text:
            raise UserError(f"{where}: {name} inside the line (character {text.index(character) + 1}); remove it")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UserError(f"{where}: half of a surrogate pair, which is no character; write the text as UTF-8")

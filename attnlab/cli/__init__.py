"""The command line: parses arguments, reads the config, and calls `attnlab.lab`.

`--help`, `list` and errors in arguments do not import jax.
"""

import io
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from attnlab.cli.parser import parse
from attnlab.config.errors import UserError
from attnlab.config.explain import cut

LONG_WORD = re.compile(r"\S{300,}")
"""Words that are shortened in messages; no valid path or key is as long."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code: 0 success, 2 user error (one line on stderr), 130 Ctrl-C."""
    _escape_unencodable(sys.stdout)
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        code = options.command(options)
        sys.stdout.flush()  # raises if the disk is full
        return code
    except UserError as error:
        return _report(str(error))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader closed the pipe, as in `attnlab predict RUN | head`
        _flush()
        return 141
    except OSError as error:  # a full disk, a file without permission, too many open files
        if error.strerror is None:
            raise
        return _report(f"{error.filename or 'output'}: {error.strerror}")
    except MemoryError:
        return _report("out of memory")


def _report(message: str) -> int:
    _flush()
    with suppress(OSError):  # the terminal may be closed; the exit code is still returned
        message = re.sub(LONG_WORD, lambda word: cut(word[0], 200), message)
        print(f"attnlab: {message}", file=sys.stderr, flush=True)
    return 2


def _flush() -> None:
    """Flush standard output; discard output that cannot be written, or Python would fail at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _escape_unencodable(stream: Any) -> None:
    """Make a stream print characters that it cannot encode (× in ASCII) as escapes, as Python does on stderr."""
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
